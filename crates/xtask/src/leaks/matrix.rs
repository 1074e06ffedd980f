//! The matrix: every script against our edge and against the caches that people run today, side by
//! side, each under its own configurations.
//!
//! Never excuses a cache, ours neither: a column is what the cache does with the very bytes of the
//! script, in front of the script's own origin, in a process of its own.
//!
//! Invariant: every repetition counts. A case leaks in a column if it leaked once, and one whose
//! repetitions differ is named.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::cache::{Cache, Ours};
use super::cell::{self, Outcome, Verdict, Way};
use super::script::Script;
use super::theirs::{Theirs, own};
use super::{describe, notes, page, picture, traffic};
use crate::peers::{CONFIGURATIONS, PEERS};
use crate::process::{Doing, Failure, output, root};

/// Our edge among the names of the caches.
pub(crate) const OURS: &str = "shikiri";
/// Our columns: no policy file; and the most careless policy, with the scripts' own.
pub(crate) const OUR_CONFIGURATIONS: [&str; 2] = ["default", "careless"];

/// What of the matrix is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Empty: all.
    peers: Vec<String>,
    /// Empty: all.
    configurations: Vec<String>,
    pub(crate) repetitions: usize,
    pub(crate) write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            configurations: Vec::new(),
            repetitions: 3,
            write: false,
        }
    }
}

impl Options {
    /// The form for every run of the tests.
    pub(crate) fn small(&mut self) {
        self.peers = [OURS, "nginx", "varnish"].map(str::to_owned).to_vec();
        self.repetitions = 1;
    }

    /// # Errors
    /// A name that no cache has.
    pub(crate) fn peers(&mut self, names: &str) -> Result<(), Failure> {
        let known: Vec<_> = [OURS]
            .into_iter()
            .chain(PEERS.iter().map(|peer| peer.name))
            .collect();
        self.peers = if names == "all" {
            Vec::new()
        } else {
            listed(names, &known)?
        };
        Ok(())
    }

    /// # Errors
    /// A name that no configuration has.
    pub(crate) fn configurations(&mut self, names: &str) -> Result<(), Failure> {
        let known = [&OUR_CONFIGURATIONS[..], &CONFIGURATIONS[..]].concat();
        self.configurations = listed(names, &known)?;
        Ok(())
    }
}

fn listed(names: &str, known: &[&str]) -> Result<Vec<String>, Failure> {
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Failure::new(format!(
            "`{name}` is none of {}",
            known.join(", ")
        ))),
        None => Ok(names),
    }
}

/// One column: a cache under one configuration.
pub(crate) struct Column<'a> {
    pub(crate) peer: &'static str,
    pub(crate) configuration: &'static str,
    cache: Box<dyn Cache + 'a>,
}

impl Column<'_> {
    /// The policies under which a script runs in this column; none where it does not apply.
    fn policies(&self, script: &Script) -> Vec<String> {
        let under = |wanted: &dyn Fn(&String) -> bool| {
            let policies = script.under.iter().filter(|policy| wanted(policy));
            policies.cloned().collect::<Vec<_>>()
        };
        match self.configuration {
            "default" => under(&|policy| policy == "default"),
            "careless" => under(&|policy| policy != "default"),
            // The accident's own rule, where the script has it in this cache's language.
            "hurried" => {
                let owns = under(&|policy| own(script, policy, self.peer).is_some());
                // The configurations themselves listen in cleartext alone.
                if owns.is_empty() && !script.tls {
                    vec!["careless".to_owned()]
                } else {
                    owns
                }
            }
            _ if script.tls => Vec::new(),
            _ => vec!["careless".to_owned()],
        }
    }
}

fn columns<'a>(wanted: &Options, ours: &'a Ours) -> Vec<Column<'a>> {
    let mut columns = Vec::new();
    for configuration in OUR_CONFIGURATIONS {
        columns.push(Column {
            peer: OURS,
            configuration,
            cache: Box::new(ours.clone()),
        });
    }
    for peer in PEERS {
        for configuration in CONFIGURATIONS {
            columns.push(Column {
                peer: peer.name,
                configuration,
                cache: Box::new(Theirs {
                    peer,
                    configuration,
                }),
            });
        }
    }
    let among = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
    columns.retain(|column| {
        among(&wanted.peers, column.peer) && among(&wanted.configurations, column.configuration)
    });
    columns
}

/// What became of a case in one column, over all ways, policies and repetitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Square {
    /// In which ways it leaks.
    pub(crate) leaks: Vec<String>,
    /// Why it says nothing, where it does not leak.
    pub(crate) void: Option<String>,
    pub(crate) unanswered: Option<String>,
    /// In which ways an old copy was shown behind a change.
    pub(crate) old: Option<String>,
    pub(crate) not_cacheable: Option<String>,
    /// In which ways it ran.
    pub(crate) ran: Vec<String>,
    /// In which ways its repetitions differ.
    pub(crate) flaky: Vec<String>,
}

impl Square {
    fn of(results: &BTreeMap<(String, String), Vec<Verdict>>) -> Self {
        let mut square = Self::default();
        for ((way, _), verdicts) in results {
            let mut add = |to: fn(&mut Self) -> &mut Vec<String>| {
                let ways = to(&mut square);
                if !ways.contains(way) {
                    ways.push(way.clone());
                }
            };
            let leaks = |verdict: &Verdict| matches!(verdict, Verdict::Leak(_));
            if verdicts
                .iter()
                .any(|v| !matches!(v, Verdict::NotApplicable))
            {
                add(|square| &mut square.ran);
            }
            if verdicts.iter().any(leaks) {
                add(|square| &mut square.leaks);
            }
            let kind = |verdict: &Verdict| std::mem::discriminant(verdict);
            if verdicts.iter().any(|v| kind(v) != kind(&verdicts[0])) {
                add(|square| &mut square.flaky);
            }
            for verdict in verdicts {
                match verdict {
                    Verdict::Void(why) => square.void = Some(format!("{way}: {}", why.trim())),
                    Verdict::Old(_) => {
                        let ways = square.old.get_or_insert_default();
                        if !ways.contains(way.as_str()) {
                            ways.push_str(way);
                        }
                    }
                    Verdict::Unanswered(why) => square.unanswered = Some(format!("{way}: {why}")),
                    Verdict::NotCacheable(why) => {
                        square.not_cacheable = Some(format!("{way}: {why}"));
                    }
                    Verdict::Safe | Verdict::Leak(_) | Verdict::NotApplicable => {}
                }
            }
        }
        square
    }

    /// The worst of it in a few letters: the ways that leak, or a sign.
    pub(crate) fn sign(&self) -> String {
        if !self.leaks.is_empty() {
            self.leaks.concat()
        } else if self.ran.is_empty() {
            "–".to_owned()
        } else if self.void.is_some() {
            "?".to_owned()
        } else if self.old.is_some() {
            "o".to_owned()
        } else if self.unanswered.is_some() {
            "!".to_owned()
        } else if self.not_cacheable.is_some() {
            "n".to_owned()
        } else {
            "·".to_owned()
        }
    }
}

/// All that was found.
pub(crate) struct Matrix<'a> {
    pub(crate) scripts: &'a [Script],
    /// The names of caches and configurations, in their order.
    pub(crate) columns: Vec<(&'static str, &'static str)>,
    /// For each script, for each column.
    pub(crate) squares: Vec<Vec<Square>>,
    pub(crate) repetitions: usize,
    /// What each cache says its version is.
    pub(crate) versions: BTreeMap<&'static str, String>,
}

impl Matrix<'_> {
    /// How many cases leak in a column.
    pub(crate) fn leaking(&self, column: usize) -> usize {
        let leaks = |row: &&Vec<Square>| !row[column].leaks.is_empty();
        self.squares.iter().filter(leaks).count()
    }

    /// The squares of which something is to be said, with their names.
    pub(crate) fn remarks(&self, of: impl Fn(&Square) -> Option<String>) -> Vec<String> {
        let mut remarks = Vec::new();
        for (script, row) in self.scripts.iter().zip(&self.squares) {
            for ((peer, configuration), square) in self.columns.iter().zip(row) {
                if let Some(said) = of(square) {
                    remarks.push(format!("{} · {peer} {configuration} · {said}", script.name));
                }
            }
        }
        remarks
    }
}

/// One cell to run.
struct Job {
    script: usize,
    column: usize,
    policy: String,
    way: Way,
}

/// For each script and column: by way and policy, the verdicts of the repetitions.
type Results = BTreeMap<(usize, usize), BTreeMap<(String, String), Vec<Verdict>>>;

/// Peers wait longer than our edge: for their start, and for their reloads.
const JOBS: usize = 24;

/// Runs the matrix and prints it.
///
/// # Errors
/// A cell of ours leaks or says nothing, or one of a peer's says nothing.
pub(crate) fn run(
    scripts: &[Script],
    options: &super::Options,
    wanted: &Options,
    ours: &Ours,
) -> Result<(), Failure> {
    let is_whole = options.cases.is_empty()
        && options.way.is_none()
        && wanted.peers.is_empty()
        && wanted.configurations.is_empty();
    if wanted.write && !is_whole {
        return Err(Failure::new(
            "--write is for the whole matrix: `cargo xtask leaks --peers all --write`",
        ));
    }
    let columns = columns(wanted, ours);
    let jobs = jobs(scripts, &columns, options, wanted.repetitions);
    if jobs.is_empty() {
        return Err(Failure::new("no case, way and configuration is as asked"));
    }
    let versions = versions(&columns, &ours.binary)?;
    for (peer, version) in &versions {
        println!("{peer} {version}");
    }
    println!("{} cells", jobs.len());
    print!("{}", header(&columns));
    let begun = Instant::now();
    let cells = jobs.len();
    let results = run_all(scripts, &columns, jobs, options);
    let none = BTreeMap::new();
    let square = |script, column| Square::of(results.get(&(script, column)).unwrap_or(&none));
    let rows = 0..scripts.len();
    let matrix = Matrix {
        scripts,
        columns: columns.iter().map(|c| (c.peer, c.configuration)).collect(),
        squares: rows
            .map(|script| (0..columns.len()).map(|c| square(script, c)).collect())
            .collect(),
        repetitions: wanted.repetitions,
        versions,
    };
    let totals = (0..columns.len()).map(|column| format!("{:<4}", matrix.leaking(column)));
    println!("{:<42} {}", "cases that leak", totals.collect::<String>());
    print!("{}", remarks(&matrix));
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "matrix: {} cases, {cells} cells, {seconds:.0} s",
        scripts.len()
    );
    if wanted.write {
        let write = |name: &str, text: String| {
            let path = root().join(name);
            std::fs::write(&path, text).doing(format_args!("writing {}", path.display()))
        };
        write("docs/re-enactments.md", page::page(&matrix))?;
        write("docs/re-enactments.svg", picture::picture(&matrix))?;
        let readme =
            std::fs::read_to_string(root().join("README.md")).doing("reading README.md")?;
        write("README.md", page::with_summary(&readme, &matrix)?)?;
    }
    judged(&matrix)
}

/// Whoever caches everything must leak here: otherwise the runner finds nothing, and our silence would
/// say nothing.
const MUST_LEAK: (&str, &str) = ("i01-day-1-cache-everything", "hurried");

/// Ours must be safe everywhere, and nobody's silence may pass for anything.
fn judged(matrix: &Matrix<'_>) -> Result<(), Failure> {
    let mut faults = Vec::new();
    for (script, row) in matrix.scripts.iter().zip(&matrix.squares) {
        for ((peer, configuration), square) in matrix.columns.iter().zip(row) {
            let what = match &square.void {
                _ if *peer == OURS && !square.leaks.is_empty() => "leaks".to_owned(),
                None if (script.name.as_str(), *configuration) == MUST_LEAK
                    && square.leaks.is_empty() =>
                {
                    "does not leak, so nothing is found".to_owned()
                }
                Some(why) => format!("is void: {why}"),
                None => continue,
            };
            faults.push(format!("{} at {peer} {configuration} {what}", script.name));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::new(faults.join("\n")))
}

fn jobs(
    scripts: &[Script],
    columns: &[Column<'_>],
    options: &super::Options,
    repetitions: usize,
) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    for (s, script) in scripts.iter().enumerate() {
        for _ in 0..repetitions {
            for (c, column) in columns.iter().enumerate() {
                for policy in column.policies(script) {
                    for way in Way::ALL {
                        if options.way.is_none_or(|only| only == way) {
                            jobs.push_back(Job {
                                script: s,
                                column: c,
                                policy: policy.clone(),
                                way,
                            });
                        }
                    }
                }
            }
        }
    }
    jobs
}

/// Runs all cells, and prints each row as it is done.
fn run_all(
    scripts: &[Script],
    columns: &[Column<'_>],
    jobs: VecDeque<Job>,
    options: &super::Options,
) -> Results {
    let mut left = vec![0_usize; scripts.len()];
    for job in &jobs {
        left[job.script] += 1;
    }
    let waiting = Mutex::new(jobs);
    let done: Mutex<(Results, Vec<usize>)> = Mutex::new((Results::new(), left));
    thread::scope(|scope| {
        for _ in 0..options.jobs.unwrap_or(JOBS).max(1) {
            scope.spawn(|| {
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(job) = next else { return };
                    let (script, column) = (&scripts[job.script], &columns[job.column]);
                    let outcome = cell::run(&*column.cache, script, &job.policy, job.way);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    let (results, left) = &mut *done;
                    if options.show || column.peer == OURS {
                        shown(script, column, &job, &outcome, options.show);
                    }
                    results
                        .entry((job.script, job.column))
                        .or_default()
                        .entry((job.way.to_string(), job.policy.clone()))
                        .or_default()
                        .push(outcome.verdict);
                    left[job.script] -= 1;
                    if left[job.script] == 0 {
                        println!("{}", row(script, columns.len(), job.script, results));
                    }
                }
            });
        }
    });
    let (results, _) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    results
}

/// A cell with its traffic when that is wanted, and in any case one of ours that fails.
fn shown(script: &Script, column: &Column<'_>, job: &Job, outcome: &Outcome, all: bool) {
    let (verdict, details) = match &outcome.verdict {
        Verdict::Leak(leaks) => ("LEAK".to_owned(), describe(leaks, outcome)),
        Verdict::Old(leaks) => ("old copy".to_owned(), describe(leaks, outcome)),
        Verdict::Void(why) => (format!("void: {}", why.trim()), String::new()),
        Verdict::NotCacheable(why) => (format!("not cacheable: {why}"), String::new()),
        Verdict::Unanswered(why) => (format!("no answer: {why}"), String::new()),
        Verdict::Safe | Verdict::NotApplicable if !all => return,
        Verdict::Safe => ("safe".to_owned(), String::new()),
        Verdict::NotApplicable => ("does not apply".to_owned(), String::new()),
    };
    let Job { policy, way, .. } = job;
    let Column {
        peer,
        configuration,
        ..
    } = column;
    println!(
        "{} {way} {peer} {configuration} {policy}: {verdict}\n{details}",
        script.name
    );
    if all {
        println!("{}", traffic(outcome));
    }
}

fn header(columns: &[Column<'_>]) -> String {
    let mut text = String::from(
        "letters: the ways that leak; · safe; o an old copy, nobody else's; n not cacheable; ! no answer; ? void; – does not apply\n",
    );
    let mut names = String::new();
    let mut configurations = String::new();
    let mut last = "";
    for column in columns {
        let name = if last == column.peer { "" } else { column.peer };
        last = column.peer;
        // A name goes over the columns that follow it.
        if name.is_empty() {
            let wide = configurations.len() + 4;
            while names.len() < wide {
                names.push(' ');
            }
        } else {
            names = format!("{names:<width$}", width = configurations.len());
            names.truncate(configurations.len());
            names.push_str(name.get(..name.len().min(11)).unwrap_or(name));
        }
        configurations.push_str(&format!(
            "{:<4}",
            &column.configuration.get(..1).unwrap_or("")
        ));
    }
    writeln!(text, "{:<42} {names}", "").expect("a string can be written to");
    writeln!(text, "{:<42} {configurations}", "").expect("a string can be written to");
    text
}

fn row(script: &Script, columns: usize, number: usize, results: &Results) -> String {
    let none = BTreeMap::new();
    let signs = (0..columns).map(|column| {
        let square = Square::of(results.get(&(number, column)).unwrap_or(&none));
        format!("{:<4}", square.sign())
    });
    format!("{:<42} {}", script.name, signs.collect::<String>())
}

fn remarks(matrix: &Matrix<'_>) -> String {
    let mut text = String::new();
    for note in notes::NOTES
        .iter()
        .filter(|note| note.holds(matrix) == Some(false))
    {
        writeln!(
            text,
            "a note holds no more: {} · {}",
            note.cases.join(", "),
            note.cells.join(", ")
        )
        .expect("a string can be written to");
    }
    for (what, remarks) in [
        ("void", matrix.remarks(|square| square.void.clone())),
        ("old copy", matrix.remarks(|square| square.old.clone())),
        (
            "no answer",
            matrix.remarks(|square| square.unanswered.clone()),
        ),
        (
            "not cacheable",
            matrix.remarks(|square| square.not_cacheable.clone()),
        ),
        ("flaky", matrix.remarks(flaky)),
    ] {
        for remark in remarks {
            writeln!(text, "{what}: {remark}").expect("a string can be written to");
        }
    }
    text
}

/// Of a square whose repetitions differ: in which ways.
pub(crate) fn flaky(square: &Square) -> Option<String> {
    (!square.flaky.is_empty()).then(|| square.flaky.concat())
}

fn versions(
    columns: &[Column<'_>],
    binary: &Path,
) -> Result<BTreeMap<&'static str, String>, Failure> {
    let mut versions = BTreeMap::new();
    for column in columns {
        if versions.contains_key(column.peer) {
            continue;
        }
        let version = match PEERS.iter().find(|peer| peer.name == column.peer) {
            Some(peer) => peer.version()?,
            None => {
                let said = output(Command::new(binary).arg("--version"))?;
                let said = String::from_utf8_lossy(&said).into_owned();
                said.split_whitespace().last().unwrap_or("?").to_owned()
            }
        };
        versions.insert(column.peer, version);
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaks::judge::Leak;

    fn leak() -> Verdict {
        Verdict::Leak(vec![Leak {
            exchange: 0,
            number: 1,
            what: "bob was given what belongs to alice".to_owned(),
            is_old: false,
        }])
    }

    /// What becomes of a square, from its verdicts by way.
    fn square(verdicts: &[(&str, Vec<Verdict>)]) -> Square {
        let results = verdicts
            .iter()
            .map(|(way, verdicts)| (((*way).to_owned(), "careless".to_owned()), verdicts.clone()));
        Square::of(&results.collect())
    }

    #[test]
    fn a_square_shows_the_worst() {
        let void = || Verdict::Void("why".to_owned());
        for (case, verdicts, sign, flaky) in [
            ("nothing ran", vec![], "–", ""),
            (
                "does not apply",
                vec![("c", vec![Verdict::NotApplicable])],
                "–",
                "",
            ),
            (
                "safe",
                vec![("a", vec![Verdict::Safe, Verdict::Safe])],
                "·",
                "",
            ),
            (
                "a leak and a void",
                vec![("a", vec![leak()]), ("b", vec![void()])],
                "a",
                "",
            ),
            (
                "leaks once of three",
                vec![
                    ("a", vec![Verdict::Safe, leak(), Verdict::Safe]),
                    ("b", vec![leak(), leak(), leak()]),
                ],
                "ab",
                "a",
            ),
            (
                "void",
                vec![("a", vec![Verdict::Safe]), ("b", vec![void()])],
                "?",
                "",
            ),
            (
                "an old copy",
                vec![
                    ("a", vec![Verdict::Old(Vec::new())]),
                    ("b", vec![Verdict::Safe]),
                ],
                "o",
                "",
            ),
            (
                "declined",
                vec![("a", vec![Verdict::NotCacheable(String::new())])],
                "n",
                "",
            ),
            (
                "silent",
                vec![("a", vec![Verdict::Unanswered(String::new())])],
                "!",
                "",
            ),
        ] {
            let square = square(&verdicts);
            assert_eq!(square.sign(), sign, "{case}");
            assert_eq!(square.flaky.concat(), flaky, "{case}");
        }
    }

    /// Two cases in our column and in one other: one leaks there, or one of ours is as given.
    fn matrix(scripts: &[Script], ours: Square) -> Matrix<'_> {
        let safe = square(&[("a", vec![Verdict::Safe])]);
        let leaking = square(&[("a", vec![leak()]), ("b", vec![leak(), Verdict::Safe])]);
        Matrix {
            scripts,
            columns: vec![(OURS, "default"), ("nginx", "hurried")],
            squares: vec![vec![ours, leaking], vec![safe.clone(), safe]],
            repetitions: 3,
            versions: BTreeMap::from([(OURS, "0.1".to_owned()), ("nginx", "1.2-3".to_owned())]),
        }
    }

    fn scripts() -> Vec<Script> {
        let options = super::super::options(&[]).expect("no arguments are fine");
        let mut scripts = super::super::read(&options).expect("they are there");
        scripts.truncate(2);
        scripts
    }

    #[test]
    fn a_leak_or_a_void_of_ours_fails_and_a_leak_of_another_s_does_not() {
        let scripts = scripts();
        for (case, verdict, passes) in [
            ("safe", Verdict::Safe, true),
            ("leak", leak(), false),
            ("void", Verdict::Void(String::new()), false),
        ] {
            let matrix = matrix(&scripts, square(&[("a", vec![verdict])]));
            assert_eq!(judged(&matrix).is_ok(), passes, "{case}");
        }
    }

    #[test]
    fn a_runner_that_finds_nothing_fails() {
        let scripts = scripts();
        let safe = || square(&[("a", vec![Verdict::Safe])]);
        let mut matrix = matrix(&scripts, safe());
        matrix.squares[0][1] = safe();
        let why = judged(&matrix).expect_err("the first night leaks nowhere");
        assert!(why.to_string().contains("so nothing is found"), "{why}");
    }

    #[test]
    fn the_page_and_the_picture_show_every_case_and_count_its_leaks() {
        let scripts = scripts();
        let matrix = matrix(&scripts, square(&[("a", vec![Verdict::Safe])]));
        let (page, picture) = (page::page(&matrix), picture::picture(&matrix));
        for script in &scripts {
            assert!(
                page.contains(&format!("tests/leaks/{}.leak", script.name)),
                "{page}"
            );
            assert!(picture.contains(&script.name), "{picture}");
        }
        for part in [
            "| · | **ab** |",
            "| **cases that leak** | **0** | **1** |",
            "| of them, allowed by the RFCs | 0 | 1 |",
            "| Shikiri | 0.1 | default |",
            "[hurried](../crates/xtask/src/peers/nginx/hurried.conf)",
            "each 3 times",
            "nginx hurried · b",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(picture.contains(">ab</text>"), "{picture}");
        let balanced = |tag: &str| {
            picture.matches(&format!("<{tag}")).count()
                == picture.matches(&format!("</{tag}>")).count()
        };
        assert!(
            balanced("text") && balanced("svg") && balanced("title"),
            "{picture}"
        );
    }

    #[test]
    fn the_readme_has_the_totals_in_their_place() {
        let scripts = scripts();
        let matrix = matrix(&scripts, square(&[("a", vec![Verdict::Safe])]));
        let readme = std::fs::read_to_string(root().join("README.md")).expect("it is there");
        let written = page::with_summary(&readme, &matrix).expect("it has a place");
        assert!(written.contains("| nginx 1.2 | – | 1 | – |"), "{written}");
        assert!(
            written.contains("| Shikiri 0.1 | **0**, no policy file |"),
            "{written}"
        );
        let again = page::with_summary(&written, &matrix).expect("it still has one");
        assert_eq!(again, written);
        assert!(page::with_summary("nothing", &matrix).is_err());
    }

    #[test]
    fn names_are_known_or_refused() {
        let mut options = Options::default();
        for (names, known) in [("all", true), ("shikiri,nginx", true), ("ngnix", false)] {
            assert_eq!(options.peers(names).is_ok(), known, "{names}");
        }
        assert!(options.configurations("hurried,careless").is_ok());
        assert!(options.configurations("lazy").is_err());
    }
}
