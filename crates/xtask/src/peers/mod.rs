//! The caches that people run today, as their distribution packages them, for comparison: each is
//! started in front of an origin, under one of three configurations or a text of the caller's.
//!
//! Never installs anything, never runs as root (as root, they are started as `nobody`), and never
//! listens but on loopback. What they did is left in `target/peers/NAME-PORT` until they end.
//!
//! Invariant: the configurations are the comparison, so all that bears on sharing is in the texts
//! beside each module, where a person who knows the program can judge them. The modules add only
//! what makes the program run here: folders, ports, the foreground. `docs/peers.md` says why the
//! texts are fair.

mod apache;
mod haproxy;
mod nginx;
mod place;
mod smoke;
mod squid;
mod trafficserver;
mod varnish;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::process::{Doing, Failure, end, output};
pub(crate) use nginx::NGINX_OF_ONE_PROCESS;
use place::Place;
pub(crate) use place::library_path;
pub(crate) use smoke::run;
pub(crate) use varnish::VARNISH;

/// All of them, in the order of their tables.
pub(crate) const PEERS: &[&Peer] = &[
    &nginx::NGINX,
    &VARNISH,
    &squid::SQUID,
    &trafficserver::TRAFFIC_SERVER,
    &apache::APACHE,
    &haproxy::HAPROXY,
];

/// The names of the configurations that every peer has.
pub(crate) const CONFIGURATIONS: [&str; 3] = ["packaged", "hurried", "expert"];

/// One cache program.
///
/// A configuration is text in the program's own language. In it stand `@LISTEN@` and `@ORIGIN@` for
/// ADDRESS:PORT, `@PORT@` and `@ORIGIN_PORT@` for the ports alone, `@FOLDER@` for a folder that is
/// the program's own, and `@PACKAGES@` for where the packages lie; in one that speaks TLS too,
/// `@TLS_LISTEN@`, `@TLS_PORT@` and `@CERTIFICATES@`.
pub(crate) struct Peer {
    /// Its name in tables and scripts.
    pub(crate) name: &'static str,
    /// The program, below the root of the packages.
    pub(crate) program: &'static str,
    /// What it loads at run time that has libraries of its own.
    pub(crate) loads: &'static [&'static str],
    /// The arguments that make it say its version.
    version: &'static [&'static str],
    /// The smallest change from the package that turns its caching on.
    packaged: &'static str,
    /// What operators wrote before the accidents: 60 seconds for everything, whatever its origin
    /// says, and requests collapsed.
    hurried: &'static str,
    /// The best practice of its own documentation that still shares what is public.
    expert: &'static str,
    /// Writes what it needs and says how it is started.
    prepare: fn(&Place, &str) -> Result<Command, Failure>,
    /// Puts another text in force, with all that is stored left as it is if the program can.
    reload: fn(&Place, &str) -> Result<(), Failure>,
}

impl Peer {
    /// The text of a configuration, by its name among [`CONFIGURATIONS`].
    pub(crate) fn configuration(&self, name: &str) -> Option<&'static str> {
        match name {
            "packaged" => Some(self.packaged),
            "hurried" => Some(self.hurried),
            "expert" => Some(self.expert),
            _ => None,
        }
    }

    /// Starts it in front of an origin and waits until it answers. While waiting it asks for
    /// [`WARM_UP`], which the origin sees; any answer of the origin's own will do but a 5xx.
    ///
    /// # Errors
    /// Why it does not serve, with the end of what it said.
    pub(crate) fn start(
        &'static self,
        origin: SocketAddr,
        configuration: &str,
    ) -> Result<Running, Failure> {
        let begun = Instant::now();
        match self.start_once(origin, configuration) {
            // Between being chosen and being used, its port may have been taken by somebody else.
            // That shows soon.
            Err(_) if begun.elapsed() < Duration::from_secs(10) => {
                self.start_once(origin, configuration)
            }
            result => result,
        }
    }

    fn start_once(
        &'static self,
        origin: SocketAddr,
        configuration: &str,
    ) -> Result<Running, Failure> {
        let mut place = Place::new(self, free_address()?, origin)?;
        if configuration.contains("@TLS_") {
            place.speak_tls(free_address()?)?;
        }
        let mut command = (self.prepare)(&place, configuration)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(place.log()?)
            .stderr(place.log()?)
            .spawn()
            .doing(format_args!("starting {}", self.name))?;
        place.process = child.id();
        let mut running = Running {
            peer: self,
            place,
            child,
        };
        running.wait_until_it_answers()?;
        Ok(running)
    }

    /// What the program says its version is.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn version(&self) -> Result<String, Failure> {
        let mut command = place::program(self.program)?;
        let said = command
            .args(self.version)
            .stdin(Stdio::null())
            .output()
            .doing(format_args!("asking {} for its version", self.name))?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let line = said
            .lines()
            .find(|line| line.chars().any(|c| c.is_ascii_digit()));
        line.and_then(version_in)
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(format!("{} does not say its version: {said}", self.name)))
    }
}

/// What a peer is asked for until it answers.
pub(crate) const WARM_UP: &str = "/.warm-up";

const ANSWERS_WITHIN: Duration = Duration::from_secs(40);

/// A peer that serves. It ends when dropped, with all that it started and its folder.
pub(crate) struct Running {
    peer: &'static Peer,
    place: Place,
    child: Child,
}

impl Running {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.place.listen
    }

    /// Where it speaks TLS, if its text says so.
    pub(crate) fn tls_address(&self) -> Option<SocketAddr> {
        self.place.tls_listen
    }

    /// Puts another configuration in force, as its operators do it: nothing that is stored is
    /// purged. Returns once no request can be judged by the old one any more.
    ///
    /// # Errors
    /// It is not in force.
    pub(crate) fn reload(&mut self, configuration: &str) -> Result<(), Failure> {
        self.place.generation += 1;
        (self.peer.reload)(&self.place, configuration)
            .map_err(|failure| self.with_log(&failure))?;
        self.wait_until_it_answers()
    }

    /// What it has written to a file below its folder.
    pub(crate) fn wrote(&self, name: &str) -> String {
        self.place.read(name)
    }

    /// The same, byte for byte; nothing where there is none yet.
    pub(crate) fn wrote_bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.place.folder.join(name)).unwrap_or_default()
    }

    /// Runs another program of its packages to its end, as its user, and returns what it printed.
    ///
    /// # Errors
    /// It does not start, or fails.
    pub(crate) fn ran(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>, Failure> {
        let mut command = self.place.command(program)?;
        command.args(arguments.iter().map(|it| self.place.filled(it)));
        output(&mut command)
    }

    /// Starts another program of its packages beside it, as its user. The caller ends it.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn beside(&self, program: &str, arguments: &[&str]) -> Result<Child, Failure> {
        let mut command = self.place.command(program)?;
        command
            .args(arguments.iter().map(|it| self.place.filled(it)))
            .stdout(self.place.log()?)
            .stderr(self.place.log()?);
        command.spawn().doing(format_args!("starting {program}"))
    }

    fn wait_until_it_answers(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().doing("waiting for a child")? {
                return Err(self.with_log(&Failure::new(format!("it ended: {status}"))));
            }
            let answer = ask(self.address(), WARM_UP, "Host: peer.test\r\n");
            if answer.as_ref().is_ok_and(|status| *status < 500) {
                return Ok(());
            }
            if begun.elapsed() > ANSWERS_WITHIN {
                let last = match answer {
                    Ok(status) => format!("its last answer is {status}"),
                    Err(failure) => failure.to_string(),
                };
                return Err(self.with_log(&Failure::new(format!("it does not answer: {last}"))));
            }
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    fn with_log(&self, failure: &Failure) -> Failure {
        let said = self.place.last_words();
        Failure::new(format!("{}: {failure}\n{said}", self.peer.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
        drop(fs::remove_dir_all(&self.place.folder));
    }
}

/// A port that nothing uses, and that nobody else is given: many peers are started side by side, and
/// one that was answered for by another's cache would pass for safe. They lie below the ports that
/// systems give to outgoing connections.
fn free_address() -> Result<SocketAddr, Failure> {
    const FIRST: u32 = 16_384;
    const PORTS: u32 = 16_384;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Two task runners on one machine begin at different places.
    let own = std::process::id().wrapping_mul(1_021);
    for _ in 0..PORTS {
        let number = own.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = u16::try_from(FIRST + number).expect("below 32,768");
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().doing("finding a free port");
        }
    }
    Err(Failure::new("no port is free"))
}

/// Asks for a path, on a connection of its own and with these header lines, and reads the answer to
/// its end. Returns its status.
fn ask(address: SocketAddr, path: &str, headers: &str) -> Result<u16, Failure> {
    let doing = || format!("asking {address} for {path}");
    let limit = Duration::from_secs(10);
    let mut connection = TcpStream::connect_timeout(&address, limit).doing(doing())?;
    connection.set_read_timeout(Some(limit)).doing(doing())?;
    let request = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).doing(doing())?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).doing(doing())?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.ok_or_else(|| Failure::new(format!("{}: no answer", doing())))
}

/// The first word of a line that is a version: `nginx/1.22.1`, `varnish-7.1.1`, `5.7`.
fn version_in(line: &str) -> Option<&str> {
    let dotted = |word: &&str| {
        let after = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        after.contains('.') && after.starts_with(|c: char| c.is_ascii_digit())
    };
    let word = line.split([' ', '(', ')']).find(dotted)?;
    Some(word.trim_start_matches(|c: char| !c.is_ascii_digit()))
}

/// The files that a text describes: what comes before the first line `# file: NAME` is `first`.
fn files<'a>(text: &'a str, first: &'a str) -> Vec<(&'a str, String)> {
    let mut files = vec![(first, String::new())];
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# file: ") {
            files.push((name.trim(), String::new()));
        } else if let Some((_, content)) = files.last_mut() {
            content.push_str(line);
            content.push('\n');
        }
    }
    files
}

/// A folder or file of the packages, where they lie.
fn packaged(path: &str) -> Result<PathBuf, Failure> {
    Ok(place::packages_of(path)?.join(path))
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).doing(format_args!("making {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (line, version) in [
            ("nginx version: nginx/1.22.1", Some("1.22.1")),
            ("varnishd (varnish-7.1.1 revision 7cee)", Some("7.1.1")),
            ("Squid Cache: Version 5.7", Some("5.7")),
            ("Traffic Server 9.2.5 Aug  4 2024", Some("9.2.5")),
            ("Server version: Apache/2.4.62 (Debian)", Some("2.4.62")),
            (
                "HAProxy version 2.6.12-1+deb12u1 2023/12/16 -",
                Some("2.6.12-1+deb12u1"),
            ),
            ("nothing 5 here", None),
        ] {
            assert_eq!(version_in(line), version, "{line}");
        }
    }

    #[test]
    fn a_text_may_describe_several_files() {
        let text = "a\n# not a file: b\n# file: two.conf\nb\n";
        let expected = [
            ("one", "a\n# not a file: b\n".to_owned()),
            ("two.conf", "b\n".to_owned()),
        ];
        assert_eq!(files(text, "one"), expected);
    }

    #[test]
    fn every_configuration_says_where_its_words_come_from() {
        for peer in PEERS {
            for name in CONFIGURATIONS {
                let text = peer.configuration(name).expect("every peer has all three");
                assert!(
                    text.lines().any(|line| line.trim_start().starts_with('#')),
                    "{}",
                    peer.name
                );
            }
            let expert = peer.expert;
            assert!(expert.contains("https://"), "{} cites nobody", peer.name);
            assert!(peer.configuration("other").is_none());
        }
    }
}
