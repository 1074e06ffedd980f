//! `cargo xtask browser`: people in real browsers use the store, through the edge, as `shikiri up` starts it.
//!
//! The browser is Chromium without a window, driven by Playwright; what each walk does is in `walk.py`, and
//! what is looked for on every page (axe's rules, what is too wide, what the Tab key shows) in `look.py`.
//!
//! Invariant: whatever is looked for is first shown where it is: a check that cannot fail fails the run. Each
//! page is kept as a picture under `target/browser/pictures`, of a run that failed as well.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::edge::{binary, build};
use crate::peers::library_path;
use crate::process::{Doing, Failure, end, root, run as run_command};
use crate::setup;

/// # Errors
/// A walk went wrong, and where; or it could not begin.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|it| it.starts_with('-')) {
        return Err(Failure::new(
            "browser takes the names of walks, or nothing for all of them (crates/xtask/src/browser/walk.py)",
        ));
    }
    let folder = root().join("target/browser");
    // What an earlier run left is of no use.
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(folder.join("pictures"))
        .doing(format_args!("making {}", folder.display()))?;
    let (packages, program) = setup::chromium()?;
    let fonts = fonts(&packages, &folder)?;
    build()?;
    let up = Up::start(&folder.join("data"))?;
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", setup::playwright_path()?)
        .env("LD_LIBRARY_PATH", library_path(&packages))
        .env("FONTCONFIG_FILE", fonts)
        .arg(root().join("crates/xtask/src/browser/walk.py"))
        .arg(&up.port)
        .arg(&program)
        .arg(binary())
        .arg(&folder)
        .args(arguments);
    let walked = run_command(&mut python);
    let stopped = up.stop();
    walked?;
    stopped
}

/// Says where fonts are: those that were unpacked and no others, so that pictures are alike everywhere.
fn fonts(packages: &Path, folder: &Path) -> Result<std::path::PathBuf, Failure> {
    let family = |name: &str| {
        format!(
            "<alias binding=\"strong\"><family>{name}</family><prefer><family>IPAexGothic</family>\
             <family>DejaVu Sans</family></prefer></alias>"
        )
    };
    let text = format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"fonts.dtd\">\n<fontconfig>\n\
         <dir>{}</dir><cachedir>{}</cachedir>\n{}{}\n</fontconfig>\n",
        packages.join("usr/share/fonts").display(),
        folder.join("fonts").display(),
        family("system-ui"),
        family("sans-serif"),
    );
    let file = folder.join("fonts.conf");
    fs::write(&file, text).doing("saying where fonts are")?;
    Ok(file)
}

/// A running `shikiri up`; it ends when this is dropped.
struct Up {
    child: Child,
    port: String,
}

impl Up {
    /// Starts it and waits until it has said what there is to see.
    fn start(data: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(binary());
        command
            .args(["up", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().doing("starting `shikiri up`")?;
        let out = child.stdout.take().expect("its output was asked for");
        let mut up = Self {
            child,
            port: String::new(),
        };
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        for line in lines.by_ref() {
            if let Some(port) = port(&line) {
                up.port = port.to_owned();
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        if up.port.is_empty() {
            return Err(Failure::new(
                "`shikiri up` ended without saying where the store is",
            ));
        }
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(up)
    }

    /// Tells it to stop and sees that it does.
    fn stop(mut self) -> Result<(), Failure> {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "INT", &id]).status();
        told.doing("stopping `shikiri up`").map(drop)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            match self.child.try_wait().doing("waiting for `shikiri up`")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Failure::new(format!("`shikiri up` ended: {status}"))),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(Failure::new("`shikiri up` does not stop"))
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            end(&mut self.child);
        }
    }
}

fn port(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("The store is open:  http://localhost:")?;
    rest.split('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_what_up_says() {
        let line =
            "The store is open:  http://localhost:4711/en/  (日本語: http://localhost:4711/ja/)";
        assert_eq!(port(line), Some("4711"));
        assert_eq!(port("Ctrl-C stops it."), None);
    }
}
