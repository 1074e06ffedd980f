//! `cargo xtask browser`: people in real browsers use the store, through the edge, as `shikiri up` starts it.
//!
//! The browser is Chromium without a window, driven by Playwright; what each walk does is in `walk.py`, and
//! what is looked for on every page (axe's rules, what is too wide, what the Tab key shows) in `look.py`.
//!
//! Invariant: whatever is looked for is first shown where it is: a check that cannot fail fails the run. Each
//! page is kept as a picture under `target/browser/pictures`, of a run that failed as well.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::edge::{binary, build};
use crate::peers::library_path;
use crate::process::{Doing, Failure, root, run as run_command};
use crate::setup;
use crate::up::Up;

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
    let up = Up::start(&binary(), &folder.join("data"))?;
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
