//! Running other programs: what is run is printed first, so that a failure can be repeated by hand.
//!
//! Never gives a child our standard input: a test that asks a question would hang in CI.
//!
//! Invariant: a child that this module started is ended by [`end`] with all its descendants, or has
//! ended by itself.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Why a command stopped, in words for the person who ran it: what went wrong, and what to do.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// Gives an I/O error its place: what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure>;
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, what: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{what}: {error}")))
    }
}

/// The root of the work tree.
pub(crate) fn root() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = ours
        .ancestors()
        .nth(2)
        .expect("this crate lies two folders below the root");
    root.to_owned()
}

/// A command from a line as it would be typed at a shell in the root of the work tree:
/// `NAME=VALUE` words first, then the program and its arguments, all without blanks or quotes.
pub(crate) fn line(line: &str) -> Command {
    let mut words = line.split_whitespace().peekable();
    let mut settings = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| setting(word)) {
        settings.push((name, value));
        words.next();
    }
    let mut command = Command::new(words.next().expect("a command line names a program"));
    command
        .args(words)
        .envs(settings)
        .current_dir(root())
        .stdin(Stdio::null());
    command
}

fn setting(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = name
        .chars()
        .all(|letter| letter.is_ascii_uppercase() || letter == '_');
    (is_name && !name.is_empty()).then_some((name, value))
}

/// Runs a command to its end; its output is ours.
///
/// # Errors
/// It could not be started, or its exit status was not success.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .doing(start_failed(command))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "`{}` failed: {status}",
        shown(command)
    )))
}

/// Runs a command to its end and takes what it prints on standard output.
///
/// # Errors
/// As [`run`]; what it printed on standard error is in the failure.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>, Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .doing(start_failed(command))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!(
        "`{}` failed: {}\n{said}",
        shown(command),
        output.status
    )))
}

/// Runs a command, its output ours, and ends it with all its descendants once `limit` has passed.
///
/// # Errors
/// As [`run`], or the limit passed.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    let child = command
        .stdin(Stdio::null())
        .spawn()
        .doing(start_failed(command))?;
    wait_within(child, command, limit)
}

/// As [`run_within`]; a failure ends with the last lines that the command printed, at most `kept`.
///
/// # Errors
/// As [`run_within`], or the pipe that carries its output could not be made.
pub(crate) fn run_within_keeping(
    command: &mut Command,
    limit: Duration,
    kept: usize,
) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    let (ours, theirs) = std::io::pipe().doing("making a pipe")?;
    let child = command
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().doing("sharing a pipe")?)
        .stderr(theirs)
        .spawn()
        .doing(start_failed(command))?;
    // The command holds the pipe's other end: it must not, or the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let lines = Arc::new(Mutex::new(VecDeque::new()));
    let (at_end, ended) = mpsc::channel();
    let noted = Arc::clone(&lines);
    std::thread::spawn(move || {
        pass_on(BufReader::new(ours), kept, &noted);
        at_end.send(()).ok();
    });
    let result = wait_within(child, command, limit);
    // What it started may have outlived it, and holds the pipe open.
    ended.recv_timeout(REST_OF_OUTPUT_MAX).ok();
    result.map_err(|failure| {
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let said: String = lines.iter().map(|line| format!("\n    {line}")).collect();
        Failure::new(format!("{failure}{said}"))
    })
}

const REST_OF_OUTPUT_MAX: Duration = Duration::from_secs(2);

/// Prints what comes, and notes its last lines.
fn pass_on(mut from: impl BufRead, kept: usize, noted: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    while from
        .read_until(b'\n', &mut line)
        .is_ok_and(|length| length > 0)
    {
        let mut out = std::io::stdout().lock();
        out.write_all(&line).and_then(|()| out.flush()).ok();
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push_back(text);
        if noted.len() > kept {
            noted.pop_front();
        }
        line.clear();
    }
}

fn wait_within(mut child: Child, command: &Command, limit: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().doing("waiting for a child")? {
            if status.success() {
                return Ok(());
            }
            return Err(Failure::new(format!(
                "`{}` failed: {status}",
                shown(command)
            )));
        }
        if begun.elapsed() > limit {
            end(&mut child);
            let seconds = limit.as_secs();
            return Err(Failure::new(format!(
                "`{}` was ended after {seconds} s",
                shown(command)
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a server that was started does what it is there for.
///
/// # Errors
/// It ended before, or `limit` has passed.
pub(crate) fn wait_until_it_starts(
    name: &str,
    child: &mut Child,
    limit: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_so() {
        if let Some(status) = child.try_wait().doing("waiting for a child")? {
            return Err(Failure::new(format!("{name} ended with {status}")));
        }
        if begun.elapsed() > limit {
            let seconds = limit.as_secs();
            return Err(Failure::new(format!("{name} did not start in {seconds} s")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends a child and all that it started.
pub(crate) fn end(child: &mut Child) {
    // Its descendants are found first: once it has ended they belong to nobody. And they are stopped
    // before they are counted: one that starts another meanwhile would leave it behind.
    let mut ids = vec![child.id()];
    loop {
        signal("STOP", &ids);
        let found = descendants(child.id(), &parents());
        let new = found.into_iter().filter(|id| !ids.contains(id));
        let new: Vec<u32> = new.collect();
        if new.is_empty() {
            break;
        }
        ids.extend(new);
    }
    signal("KILL", &ids);
    drop(child.kill());
    drop(child.wait());
}

/// Best effort on purpose: one that has ended by itself in between is what was wanted.
fn signal(name: &str, ids: &[u32]) {
    let mut kill = Command::new("kill");
    kill.arg("-s")
        .arg(name)
        .args(ids.iter().map(u32::to_string));
    drop(kill.stderr(Stdio::null()).status());
}

/// The running processes that a process started itself, where the system tells (`/proc`).
pub(crate) fn children(of: u32) -> Vec<u32> {
    let children = parents().into_iter().filter(|(_, parent)| *parent == of);
    children.map(|(id, _)| id).collect()
}

/// Each running process with its parent, where the system tells (`/proc`); elsewhere none.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let stats = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| child_and_parent(&stat)).collect()
}

/// The ids in one `/proc/PID/stat`: `PID (NAME) STATE PARENT …`, where the name may hold anything.
fn child_and_parent(stat: &str) -> Option<(u32, u32)> {
    let id = stat.split(' ').next()?.parse().ok()?;
    let parent = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    Some((id, parent))
}

fn descendants(of: u32, parents: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        let children = parents
            .iter()
            .filter(|(id, its)| *its == parent && !found.contains(id));
        let children: Vec<u32> = children.map(|(id, _)| *id).collect();
        found.extend(children);
        next += 1;
    }
    found.split_off(1)
}

fn shown(command: &Command) -> String {
    let settings = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}={} ",
            name.to_string_lossy(),
            value?.to_string_lossy()
        ))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    settings.collect::<String>() + &words.join(" ")
}

fn start_failed(command: &Command) -> String {
    format!("`{}` could not be started", shown(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_with_the_last_lines_of_both_outputs_and_no_more() {
        let script = "for i in 1 2 3 4; do echo line$i; done; echo wrong >&2; exit 7";
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let failure = run_within_keeping(&mut command, Duration::from_secs(60), 2)
            .expect_err("it exits with 7")
            .to_string();
        assert!(failure.contains("exit status: 7"), "{failure}");
        assert!(failure.ends_with("\n    line4\n    wrong"), "{failure}");
        assert!(!failure.contains("\n    line3"), "{failure}");
    }

    #[test]
    fn who_holds_the_output_open_is_not_waited_for() {
        let begun = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 60 & echo $!"]);
        run_within_keeping(&mut command, Duration::from_secs(60), 2).expect("it succeeds");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_line_is_split_into_settings_program_and_arguments() {
        for (text, settings, words) in [
            ("cargo fmt --check", vec![], vec!["cargo", "fmt", "--check"]),
            (
                "A_B=c=d true x=y",
                vec![("A_B", "c=d")],
                vec!["true", "x=y"],
            ),
        ] {
            let command = line(text);
            let names: Vec<_> = command
                .get_envs()
                .map(|(n, v)| (n.to_str(), v.and_then(|v| v.to_str())))
                .collect();
            let expected: Vec<_> = settings.iter().map(|(n, v)| (Some(*n), Some(*v))).collect();
            assert_eq!(names, expected, "{text}");
            let given = std::iter::once(command.get_program()).chain(command.get_args());
            assert_eq!(
                given.map(|word| word.to_str()).collect::<Option<Vec<_>>>(),
                Some(words),
                "{text}"
            );
        }
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        assert_eq!(child_and_parent("12 (a) b) (c) S 7 12 12 0"), Some((12, 7)));
        assert_eq!(child_and_parent("12 (a"), None);
    }

    #[test]
    fn descendants_are_children_of_children_and_nobody_elses() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 9)];
        assert_eq!(descendants(2, &parents), [3, 4]);
        assert_eq!(descendants(1, &parents), [2, 5, 3, 4]);
        assert_eq!(descendants(6, &parents), [0_u32; 0]);
    }

    #[test]
    fn a_child_over_its_limit_is_ended_with_what_it_started() {
        // The shell's own child holds the pipe open: were it left running, reading would not end.
        let begun = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 300 & sleep 300"]);
        let failure =
            run_within(&mut command, Duration::from_millis(200)).expect_err("it sleeps for longer");
        assert!(failure.to_string().contains("was ended after"), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(run_within(&mut line("false"), Duration::from_secs(60)).is_err());
        run_within(&mut line("true"), Duration::from_secs(60)).expect("true succeeds");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let failure = run(&mut line("no-such-program-here x")).expect_err("it does not exist");
        assert!(
            failure
                .to_string()
                .contains("`no-such-program-here x` could not be started"),
            "{failure}"
        );
    }
}
