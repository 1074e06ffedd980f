//! `cargo xtask soak`: minutes of everything at once before the real binary, and then a closing under that load.
//!
//! Clients of all kinds, over HTTP/1.1, in TLS and over HTTP/2, while policies are reloaded, modes change
//! and nodes are replaced. Never lenient: in the end what clients were shown and what evidence says of it
//! are the same numbers.
//!
//! Invariant: a closing is judged by when the last byte came to a client, by one clock for all.

mod origin;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::edge::{self, Node, binary, free_port};
use crate::process::{Doing, Failure, end};
use crate::{leaks, setup};

const CLIENT: &str = include_str!("client.py");
const HOST: &str = "red.test";
const MINUTES: u64 = 5;
/// Between two things that an operator does.
const PAUSE: Duration = Duration::from_millis(700);
/// After a closing nothing of an origin's comes any more after this.
const CLOSED_WITHIN_MS: f64 = 1000.0;
/// How long it is looked whether something comes all the same.
const WATCHED: Duration = Duration::from_secs(3);
/// What the clients say of a body that was cut, and does not look so.
const AS_WHOLE: &str = "as if it were whole";
/// End rows are written a moment after a response has ended.
const ROWS_WITHIN: Duration = Duration::from_secs(10);

/// # Errors
/// A client was not answered as it must be, numbers differ, or something came after a closing.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let time = time(arguments)?;
    edge::build()?;
    let folder = std::env::temp_dir().join(format!("shikiri-soak-{}", std::process::id()));
    let done = in_folder(&folder, time);
    drop(fs::remove_dir_all(&folder));
    done
}

fn time(arguments: &[String]) -> Result<Duration, Failure> {
    let number = |text: &String| text.parse::<u64>().ok().filter(|number| *number > 0);
    let seconds = match arguments {
        [] => Some(MINUTES * 60),
        [flag, minutes] if flag == "--minutes" => number(minutes).map(|minutes| minutes * 60),
        [flag, seconds] if flag == "--seconds" => number(seconds),
        _ => None,
    };
    let seconds = seconds.ok_or_else(|| Failure::new("soak takes --minutes N or --seconds N"))?;
    Ok(Duration::from_secs(seconds))
}

fn in_folder(folder: &Path, time: Duration) -> Result<(), Failure> {
    let site = Site::new(folder)?;
    let mut node = Node::start(site.command(&[]))?;
    let load = Clients::start("load", &site)?;
    let begun = Instant::now();
    let done = site.operate(&mut node, time)?;
    let seen = load.stop()?;
    let seconds = begun.elapsed().as_secs_f64();
    report(&seen, &done, seconds);
    let wrong = seen["failures"]
        .as_array()
        .is_none_or(|all| !all.is_empty())
        || total(&seen["own"]) > 0;
    if wrong {
        return Err(Failure::new(format!("not everybody was answered: {seen}")));
    }
    site.agrees(&seen)?;
    site.closes()?;
    node.terminate()?;
    node.ends_by_itself()?;
    edge::verify_evidence(&site.data())
}

/// What an operator did, in numbers.
#[derive(Default)]
struct Done {
    reloads: u32,
    replacements: u32,
    modes: u32,
}

/// The site, and the nodes that follow each other before it.
struct Site {
    folder: PathBuf,
    origin: SocketAddr,
    plain: SocketAddr,
    secure: SocketAddr,
}

impl Site {
    fn new(folder: &Path) -> Result<Self, Failure> {
        leaks::write_certificates(folder).doing("writing certificates")?;
        let site = Self {
            folder: folder.to_owned(),
            origin: origin::start()?,
            plain: free_port()?,
            secure: free_port()?,
        };
        let (plain, secure) = (site.plain, site.secure);
        let config = format!(
            "version = 1\n[node]\npolicy = \"policy.toml\"\n[evidence]\nsegment_size = \"8 MiB\"\n\
             [[listen]]\naddress = \"http://{plain}\"\n[[listen]]\naddress = \"https://{secure}\"\n\
             [[tls]]\nhosts = [\"{HOST}\"]\ncert = \"red.pem\"\nkey = \"red.key\"\n"
        );
        fs::write(folder.join("edge.toml"), config).doing("writing the config")?;
        site.write_policy(0)?;
        Ok(site)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The nth policy: each says something else.
    fn write_policy(&self, n: u32) -> Result<(), Failure> {
        let (origin, requests_max) = (self.origin, 1000 + n);
        let text = format!(
            "version = 1\n[session]\ncookies = [\"sid\"]\n[[origin]]\nhosts = [\"*\"]\nurl = \"http://{origin}\"\n\
             upgrade = [\"websocket\"]\n[limits]\nshutdown_time_max = \"10s\"\nrequests_max = {requests_max}\n"
        );
        fs::write(self.folder.join("policy.toml"), text).doing("writing a policy")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(["edge", "--log", "error", "--no-watch", "--config"]);
        command.arg(self.folder.join("edge.toml"));
        command.arg("--data").arg(self.data());
        command.args(more).stdin(Stdio::null());
        command
    }

    fn asks(&self, words: &[&str]) -> Result<(), Failure> {
        edge::command(words, &self.data()).map(drop)
    }

    /// Reloads, changes the mode and back, and replaces the node, in turns; it ends in `open`.
    fn operate(&self, node: &mut Node, time: Duration) -> Result<Done, Failure> {
        let (begun, mut done) = (Instant::now(), Done::default());
        for turn in 1.. {
            if begun.elapsed() >= time {
                break;
            }
            thread::sleep(PAUSE);
            self.write_policy(turn)?;
            match turn % 3 {
                0 => {
                    for mode in ["pass", "open"] {
                        self.asks(&["mode", mode, "--reason", "soak"])?;
                        done.modes += 1;
                        thread::sleep(PAUSE);
                    }
                }
                1 => {
                    self.asks(&["reload"])?;
                    done.reloads += 1;
                }
                _ => {
                    let next = Node::start(self.command(&["--replace"]))?;
                    std::mem::replace(node, next).ends_by_itself()?;
                    done.replacements += 1;
                }
            }
        }
        Ok(done)
    }

    /// Evidence has a row for every response that a client saw, ended as the client says, and no other.
    fn agrees(&self, seen: &Value) -> Result<(), Failure> {
        let tunnels = seen["tunnels"].as_u64().unwrap_or(0);
        let mut status = seen["shown"].clone();
        status["101"] = json!(tunnels);
        let whole = seen["whole"].as_u64().unwrap_or(0);
        let expected = json!({
            "responses": total(&seen["shown"]) + tunnels,
            "gaps": 0,
            "status": status,
            "ended": { "complete": whole + tunnels, "aborted": seen["left_amid"] },
        });
        let begun = Instant::now();
        loop {
            let counted = edge::count_evidence(&self.data())?;
            let said = json!({
                "responses": counted["responses"],
                "gaps": counted["gaps"],
                "status": counted["by"]["status"],
                "ended": counted["by"]["ended"],
            });
            if said == expected {
                break;
            }
            if begun.elapsed() > ROWS_WITHIN {
                let what = format!("clients saw {expected}, and evidence has {said}");
                return Err(Failure::new(what));
            }
            thread::sleep(Duration::from_millis(200));
        }
        edge::verify_evidence(&self.data())?;
        println!("soak: evidence says the same: {expected}");
        Ok(())
    }

    /// Closes the site under load, and sees when the last byte came to each.
    fn closes(&self) -> Result<(), Failure> {
        let load = Clients::start("load", self)?;
        let watch = Clients::start("watch", self)?;
        let began_ms = now_ms();
        self.asks(&["mode", "closed", "--reason", "soak"])?;
        let returned_ms = now_ms();
        thread::sleep(WATCHED);
        let (watched, seen) = (watch.stop()?, load.stop()?);
        println!(
            "soak: closed under load: the command took {:.0} ms; the last byte of an origin's came, from its return:",
            returned_ms - began_ms
        );
        let mut late = Vec::new();
        let mut came = |what: &str, last: &Value, ended: bool| {
            let after_ms = last.as_f64().unwrap_or(f64::MAX) - returned_ms;
            println!("  {after_ms:>8.1} ms  {what}");
            if after_ms > CLOSED_WITHIN_MS || !ended {
                late.push(what.to_owned());
            }
        };
        for stream in watched.as_array().into_iter().flatten() {
            let what = stream["what"].as_str().unwrap_or_default();
            let ended = stream["ended"].as_str();
            came(
                what,
                &stream["last_ms"],
                ended.is_some_and(|ended| ended != AS_WHOLE),
            );
        }
        came("all others", &seen["last_ms"], true);
        let refused = total(&seen["own"]);
        println!("  {refused} requests got the maintenance page");
        if late.is_empty() && refused > 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "too late, or not ended: {late:?}; {watched} {seen}"
        )))
    }
}

fn report(seen: &Value, done: &Done, seconds: f64) {
    let shown = total(&seen["shown"]);
    let by_protocol = &seen["by_protocol"];
    println!(
        "soak: {seconds:.0} s, {} reloads, {} nodes replaced, {} changes of the mode",
        done.reloads, done.replacements, done.modes
    );
    println!(
        "soak: {shown} responses ({by_protocol}) and {} tunnels on {} connections; {} left in the middle, {} \
         before there was an answer",
        seen["tunnels"], seen["connections"], seen["left_amid"], seen["left_before"]
    );
}

/// The sum of an object's numbers.
fn total(counts: &Value) -> u64 {
    let values = counts
        .as_object()
        .into_iter()
        .flat_map(|object| object.values());
    values.filter_map(Value::as_u64).sum()
}

/// By the clock that clients note their times by.
fn now_ms() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64() * 1000.0
}

/// Clients in a process of their own.
struct Clients {
    child: Child,
    input: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Clients {
    /// Starts them, and waits until everybody has been shown something.
    fn start(what: &str, site: &Site) -> Result<Self, Failure> {
        let port = |address: SocketAddr| address.port().to_string();
        let mut python = Command::new("python3");
        python.args([
            "-c",
            CLIENT,
            what,
            HOST,
            &port(site.plain),
            &port(site.secure),
        ]);
        python.env("PYTHONPATH", setup::sslyze_path()?);
        python.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().doing("starting python3")?;
        let (input, output) = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .expect("both were asked for");
        let mut clients = Self {
            child,
            input,
            says: BufReader::new(output),
        };
        match clients.line()?.as_str() {
            "flowing" => Ok(clients),
            other => Err(Failure::new(format!("the clients said {other:?}"))),
        }
    }

    /// Has them stop, and takes what they have seen.
    fn stop(mut self) -> Result<Value, Failure> {
        self.input.write_all(b"\n").doing("telling the clients")?;
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|_| Failure::new(format!("the clients said {line:?}")))
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.says
            .read_line(&mut line)
            .doing("hearing the clients")?;
        Ok(line.trim().to_owned())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_is_said_in_minutes_or_seconds() {
        for (words, expected) in [
            ("", Some(300)),
            ("--minutes 2", Some(120)),
            ("--seconds 25", Some(25)),
            ("--seconds 0", None),
            ("--minutes", None),
            ("--hours 1", None),
        ] {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            let seconds = time(&words).ok().map(|time| time.as_secs());
            assert_eq!(seconds, expected, "{words:?}");
        }
    }

    #[test]
    fn counts_are_summed() {
        assert_eq!(total(&json!({ "200": 3, "404": 1 })), 4);
        assert_eq!(total(&json!(null)), 0);
    }
}
