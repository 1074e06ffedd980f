//! `cargo xtask archive`: the archive as those meet it who keep and ask it: the built command, killed at
//! random; a disk that is full; object storage that is not there, and that is; and the statements that
//! the documentation shows.
//!
//! Never links what it judges: rows are read with `shikiri evidence cat`, files with DuckDB.
//!
//! Invariant: however often it was killed, the files are byte for byte those of a run that was not.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::edge::{binary, free_port};
use crate::process::{
    Doing, Failure, end, line, output, root, run as run_command, wait_until_it_starts,
};
use crate::setup;

const CHECK: &str = include_str!("check.py");
const TLS: &str = include_str!("tls.py");

/// How many responses the lanes hold.
const RESPONSES: &str = "8000";

/// How often it is killed at least.
const KILLS_MIN: u32 = 8;

/// # Errors
/// Something was lost, doubled or changed, or an answer is not what the rows say.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("archive takes no arguments"));
    }
    // By itself: what else is built with it could turn on features in it.
    run_command(&mut line(
        "cargo build --quiet --locked -p shikiri --features archive",
    ))?;
    run_command(&mut line(
        "cargo build --quiet --locked -p shikiri-archive --features sample --example archive-lanes",
    ))?;
    let folder = std::env::temp_dir().join(format!("shikiri-archive-{}", std::process::id()));
    let done = Stage::new(&folder).and_then(|stage| stage.all());
    drop(fs::remove_dir_all(&folder));
    done
}

struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// A data folder with the lanes of one run of a node.
    fn new(folder: &Path) -> Result<Self, Failure> {
        let lanes = folder.join("data/evidence");
        fs::create_dir_all(&lanes).doing("making a data folder")?;
        let mut make = Command::new(root().join("target/debug/examples/archive-lanes"));
        make.arg(&lanes).args(["1", RESPONSES, "262144"]);
        output(&mut make)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn all(&self) -> Result<(), Failure> {
        let whole = self.uninterrupted()?;
        self.statements()?;
        self.killed(&whole)?;
        self.full_disk(&whole)?;
        self.object_storage()?;
        self.object_storage_over_tls()
    }

    /// `shikiri archive …` with a state of its own: the lanes are linked into another data folder.
    fn data(&self, name: &str) -> Result<PathBuf, Failure> {
        let data = self.folder.join(name);
        fs::create_dir_all(&data).doing("making a data folder")?;
        std::os::unix::fs::symlink(self.folder.join("data/evidence"), data.join("evidence"))
            .doing("linking the lanes")?;
        Ok(data)
    }

    fn uninterrupted(&self) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
        let data = self.folder.join("data");
        let config = self.config()?;
        output(archive("run", &data).arg("--dry-run"))?;
        if data.join("archive-state").exists() {
            return Err(Failure::new("a dry run has left something"));
        }
        output(archive("run", &data).arg("--config").arg(&config))?;
        output(archive("verify", &data).arg("--rows"))?;
        let copy = self.folder.join("data/archive");
        let mut verify = Command::new(binary());
        output(verify.args(["archive", "verify", "--from"]).arg(&copy))?;
        let files = files(&copy)?;
        println!("archive: {} files, uninterrupted", files.len());
        Ok(files)
    }

    /// Small batches, so that there are several.
    fn config(&self) -> Result<PathBuf, Failure> {
        let path = self.folder.join("edge.toml");
        fs::write(&path, "version = 1\n[archive]\nbatch_rows = 5000\n")
            .doing("writing a config")?;
        Ok(path)
    }

    fn statements(&self) -> Result<(), Failure> {
        let data = self.folder.join("data");
        let mut cat = Command::new(binary());
        let rows = output(cat.args(["evidence", "cat", "--json", "--data"]).arg(&data))?;
        let path = self.folder.join("rows.json");
        fs::write(&path, rows).doing("writing the rows")?;
        let mut python = Command::new("python3");
        python
            .args(["-c", CHECK])
            .arg(root().join("docs/evidence-format.md"))
            .arg(path)
            .env("PYTHONPATH", setup::duckdb_path()?)
            .current_dir(data);
        print!(
            "archive: {}",
            String::from_utf8_lossy(&output(&mut python)?)
        );
        Ok(())
    }

    /// Kills it at random moments until it has come to its end in spite of that.
    fn killed(&self, whole: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
        let seed = u64::from(std::process::id());
        println!("archive: killed at moments of seed {seed}");
        let (data, config) = (self.data("killed")?, self.config()?);
        let (mut random, mut kills, mut longest) = (seed, 0_u32, Duration::from_millis(60));
        loop {
            let mut command = archive("run", &data);
            command.arg("--config").arg(&config);
            let mut child = quiet(&mut command)?;
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let until =
                Instant::now() + longest.mul_f64((random >> 40) as f64 / f64::from(1 << 24));
            let mut ended = None;
            while ended.is_none() && Instant::now() < until {
                thread::sleep(Duration::from_millis(1));
                ended = child.try_wait().doing("waiting for a child")?;
            }
            match ended {
                Some(status) if status.success() => break,
                Some(status) => return Err(Failure::new(format!("it ended with {status}"))),
                None => {
                    end(&mut child);
                    kills += 1;
                    // It has to come to its end some time.
                    longest = longest.mul_f64(1.15);
                }
            }
            if kills > 200 {
                return Err(Failure::new("it never comes to its end"));
            }
        }
        if kills < KILLS_MIN {
            return Err(Failure::new(format!("it was killed {kills} times only")));
        }
        self.same(&data, whole, &format!("after {kills} kills"))
    }

    /// A file may not grow any more: as on a disk that is full.
    fn full_disk(&self, whole: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
        let (data, config) = (self.data("full")?, self.config()?);
        let mut shell = Command::new("sh");
        // In blocks of 512 bytes; the signal that comes with it is ignored, so that writing fails.
        shell
            .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "sh"])
            .arg(binary())
            .args(["archive", "run", "--data"])
            .arg(&data)
            .arg("--config")
            .arg(&config);
        fails(&mut shell, "cannot write")?;
        let status = output(archive("status", &data).arg("--json"))?;
        if !String::from_utf8_lossy(&status).contains("\"unfinished_batch\":1") {
            return Err(Failure::new(
                "the status does not tell of the batch that was begun",
            ));
        }
        output(archive("run", &data).arg("--config").arg(&config))?;
        self.same(&data, whole, "after a disk that was full")
    }

    /// A server of object storage that is not there, that has no such bucket, and that has.
    fn object_storage(&self) -> Result<(), Failure> {
        let data = self.data("objects")?;
        let address = free_port()?;
        let key = self.folder.join("s3.credentials");
        fs::write(&key, "aws_access_key_id = A\naws_secret_access_key = B\n")
            .doing("writing credentials")?;
        let config = self.s3_config("s3.toml", &format!("http://{address}"))?;
        let asked = |what: &str| {
            let mut command = archive(what, &data);
            command.arg("--config").arg(&config);
            command
        };
        fails(&mut asked("run"), "can be read by others")?;
        owners_alone(&key)?;
        fails(&mut asked("run"), "cannot connect")?;
        let server = Objects::start(address, &[])?;
        fails(&mut asked("run"), "NoSuchBucket")?;
        server.make_bucket("evidence")?;
        output(&mut asked("run"))?;
        output(asked("verify").arg("--rows"))?;
        let said = output(asked("status").arg("--json"))?;
        let said = String::from_utf8_lossy(&said);
        if !said.contains("\"outstanding\":{\"bytes\":0") {
            return Err(Failure::new(format!("something is left: {said}")));
        }
        drop(server);
        println!("archive: in object storage, and read back from it");
        Ok(())
    }

    /// The same over TLS: what the machine does not trust gets nothing, and what it trusts gets all.
    fn object_storage_over_tls(&self) -> Result<(), Failure> {
        let data = self.data("tls")?;
        let address = free_port()?;
        let url = format!("https://{address}");
        let config = self.s3_config("s3-tls.toml", &url)?;
        let python = |arguments: &[&str]| {
            let mut python = Command::new("python3");
            python
                .args(["-c", TLS])
                .args(arguments)
                .env("PYTHONPATH", setup::moto_path()?);
            output(&mut python)
        };
        let here = self.folder.display().to_string();
        python(&["make", &here])?;
        let named = |name: &str| self.folder.join(name).display().to_string();
        let (certificate, key) = (named("server.pem"), named("server.key"));
        let server = Objects::start(address, &["-s", "-c", &certificate, "-k", &key])?;
        python(&["bucket", &here, &format!("{url}/evidence")])?;
        let asked = |what: &str| {
            let mut command = archive(what, &data);
            command.arg("--config").arg(&config);
            command
        };
        fails(&mut asked("run"), "certificate")?;
        output(asked("run").env("SSL_CERT_FILE", named("ca.pem")))?;
        output(
            asked("verify")
                .arg("--rows")
                .env("SSL_CERT_FILE", named("ca.pem")),
        )?;
        drop(server);
        println!("archive: in object storage over TLS, whose certificate counts");
        Ok(())
    }

    /// A config with credentials that were written before.
    fn s3_config(&self, name: &str, endpoint: &str) -> Result<PathBuf, Failure> {
        let config = self.folder.join(name);
        let text = format!(
            "version = 1\n[archive]\nto = \"s3://evidence/shop\"\nendpoint = \"{endpoint}\"\n\
             credentials = \"s3.credentials\"\nbatch_rows = 5000\n"
        );
        fs::write(&config, text).doing("writing a config")?;
        Ok(config)
    }

    fn same(
        &self,
        data: &Path,
        whole: &BTreeMap<String, Vec<u8>>,
        when: &str,
    ) -> Result<(), Failure> {
        let found = files(&data.join("archive"))?;
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        if names(&found) != names(whole) {
            return Err(Failure::new(format!(
                "{when} there are other files: {:?}, not {:?}",
                names(&found),
                names(whole)
            )));
        }
        let other = whole
            .iter()
            .find(|(name, bytes)| found.get(*name) != Some(bytes));
        if let Some((name, _)) = other {
            return Err(Failure::new(format!("{when} {name} is another file")));
        }
        println!("archive: {when} the same {} files", found.len());
        Ok(())
    }
}

/// `shikiri archive WHAT --data DATA`.
fn archive(what: &str, data: &Path) -> Command {
    let mut command = Command::new(binary());
    command.args(["archive", what, "--data"]).arg(data);
    // Nobody's credentials but the test's.
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_ENDPOINT_URL");
    command
}

fn quiet(command: &mut Command) -> Result<Child, Failure> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command
        .stderr(Stdio::null())
        .spawn()
        .doing("starting shikiri")
}

/// Sees a command fail, and say why.
fn fails(command: &mut Command, saying: &str) -> Result<(), Failure> {
    let Output { status, stderr, .. } = command
        .stdin(Stdio::null())
        .output()
        .doing("starting shikiri")?;
    let said = String::from_utf8_lossy(&stderr);
    if !status.success() && said.contains(saying) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "it must fail and say `{saying}`: {status}\n{said}"
    )))
}

fn owners_alone(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).doing("closing a file")
}

/// Every file in a folder, by its name.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).doing(format_args!("reading {}", next.display()))? {
            let path = entry.doing("reading a folder")?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).doing(format_args!("reading {}", path.display()))?;
            let name = path.strip_prefix(folder).unwrap_or(&path);
            found.insert(name.display().to_string(), bytes);
        }
    }
    Ok(found)
}

/// A server of object storage (moto); it ends when this is dropped.
struct Objects {
    child: Child,
    address: SocketAddr,
}

impl Objects {
    fn start(address: SocketAddr, more: &[&str]) -> Result<Self, Failure> {
        const WITHIN: Duration = Duration::from_secs(60);
        let mut python = Command::new("python3");
        python
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .args(more)
            .env("PYTHONPATH", setup::moto_path()?);
        let child = quiet(&mut python)?;
        let mut server = Self { child, address };
        let listens = || TcpStream::connect(address).is_ok();
        wait_until_it_starts("object storage", &mut server.child, WITHIN, listens)?;
        Ok(server)
    }

    fn make_bucket(&self, name: &str) -> Result<(), Failure> {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect(self.address).doing("asking object storage")?;
        let head = format!(
            "PUT /{name} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream
            .write_all(head.as_bytes())
            .doing("asking object storage")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .doing("reading its answer")?;
        if answer.split(' ').nth(1) == Some("200") {
            return Ok(());
        }
        Err(Failure::new(format!("no bucket was made: {answer}")))
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
