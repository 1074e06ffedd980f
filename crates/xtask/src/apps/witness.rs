//! Knows what belongs to whom, and looks at every answer that anybody gets.
//!
//! Never knows how the edge decides: only who asked, what came, and what had been given to whom.
//!
//! Invariant: a value that the site made for one viewer (a cookie, a form's token) is seen by that
//! viewer alone, whoever saw it first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::browser::Answer;
use super::django::STATIC;
use crate::process::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Viewer {
    Alice,
    Boris,
    Visitor,
}

impl Viewer {
    pub(super) const ALL: [Self; 3] = [Self::Alice, Self::Boris, Self::Visitor];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Alice => "alice",
            Self::Boris => "boris",
            Self::Visitor => "visitor",
        }
    }

    /// Words that only pages of this member hold. No file of Django's has them.
    pub(super) fn words(self) -> &'static [&'static str] {
        match self {
            // Long enough that no token of 64 random characters spells one by chance.
            Self::Alice => &["alice", "Alice", "Amanohashi"],
            Self::Boris => &["boris", "Boris", "Utsukushigahara"],
            Self::Visitor => &[],
        }
    }
}

pub(super) struct Witness {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Whose each value is that the site made for one viewer.
    given: BTreeMap<String, Viewer>,
    /// The session cookies among them: these must not stand in any page either.
    sessions: BTreeSet<String>,
    answers: BTreeMap<Viewer, u32>,
    /// For each static file, how often it came whole, and how often from the store.
    files: BTreeMap<String, (u32, u32)>,
    violations: Vec<String>,
}

impl Witness {
    pub(super) fn new() -> Self {
        Self {
            known: Mutex::default(),
        }
    }

    /// Whether a file had come whole before: asked before a request for it is sent.
    pub(super) fn has_seen_file(&self, path: &str) -> bool {
        self.known().files.contains_key(path)
    }

    /// Judges an answer. `had_come` is what [`Self::has_seen_file`] said before it was asked for.
    pub(super) fn saw(&self, viewer: Viewer, path: &str, had_come: bool, answer: &Answer) {
        let mut known = self.known();
        *known.answers.entry(viewer).or_default() += 1;
        let mut found = words_of_others(viewer, answer);
        found.extend(known.values_of_others(viewer, answer));
        if path.starts_with(STATIC) {
            found.extend(known.file(path, had_come, answer));
        } else {
            found.extend(not_kept_private(answer));
        }
        let named = found
            .into_iter()
            .map(|what| format!("{} at {path}: {what}", viewer.name()));
        known.violations.extend(named);
    }

    /// What was seen, for the transcript.
    ///
    /// # Errors
    /// Anything that must not have been, or nothing that could show a leak.
    pub(super) fn verdict(&self) -> Result<String, Failure> {
        let known = self.known();
        if !known.violations.is_empty() {
            let shown = known
                .violations
                .iter()
                .take(SHOWN_MAX)
                .cloned()
                .collect::<Vec<_>>();
            let all = known.violations.len();
            return Err(Failure::new(format!(
                "{all} violations\n{}",
                shown.join("\n")
            )));
        }
        let mut report = String::new();
        for (viewer, answers) in &known.answers {
            let given = known
                .given
                .values()
                .filter(|whose| *whose == viewer)
                .count();
            report.push_str(&format!(
                "{:<8} {answers:>5} answers, {given:>4} cookies and form tokens: none seen by another\n",
                viewer.name()
            ));
        }
        for (path, (asked, hits)) in &known.files {
            let from_origin = asked - hits;
            report.push_str(&format!(
                "{path:<36} {asked:>4} answers, {hits:>4} hits, {from_origin} from Django\n"
            ));
        }
        Ok(report)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known
            .lock()
            .expect("no thread panics while it holds what is known")
    }
}

impl Known {
    fn values_of_others(&mut self, viewer: Viewer, answer: &Answer) -> Vec<String> {
        let mut found = Vec::new();
        let cookies = answer.cookies_set().filter(|(_, value)| value.len() > 2);
        let tokens = answer.hidden(TOKEN).into_iter().map(|token| (TOKEN, token));
        for (name, value) in cookies.chain(tokens) {
            let whose = *self.given.entry(value.to_owned()).or_insert(viewer);
            if whose != viewer {
                found.push(format!("a {name} that is {}'s", whose.name()));
            }
            if name == SESSION {
                self.sessions.insert(value.to_owned());
            }
        }
        for session in &self.sessions {
            let whose = self.given.get(session).copied().unwrap_or(viewer);
            if whose != viewer && holds(answer, session) {
                found.push(format!("the session of {}", whose.name()));
            }
        }
        found
    }

    fn file(&mut self, path: &str, had_come: bool, answer: &Answer) -> Vec<String> {
        let mut found = Vec::new();
        if answer.status != 200 {
            found.push(format!("status {} for a static file", answer.status));
            return found;
        }
        if answer.headers_named("set-cookie").next().is_some() {
            found.push("a static file that sets a cookie".to_owned());
        }
        let hit = is_hit(answer);
        if had_come && !hit && !is_revalidated(answer) {
            let status = answer.header("cache-status");
            found.push(format!("a static file that had come was no hit: {status}"));
        }
        let (asked, hits) = self.files.entry(path.to_owned()).or_default();
        *asked += 1;
        *hits += u32::from(hit);
        found
    }
}

fn words_of_others(viewer: Viewer, answer: &Answer) -> Vec<String> {
    let others = Viewer::ALL.into_iter().filter(|other| *other != viewer);
    let words = others.flat_map(Viewer::words);
    let seen = words.filter(|word| holds(answer, word));
    seen.map(|word| {
        let place = place(answer, word);
        format!("the word {word:?}, status {}, in {place:?}", answer.status)
    })
    .collect()
}

/// The word with what stands around it: a name that a random token happens to spell is no leak.
fn place(answer: &Answer, word: &str) -> String {
    const AROUND: usize = 30;
    let headers = answer.headers.iter().map(|(_, value)| value.as_str());
    let mut texts = std::iter::once(answer.body.as_str()).chain(headers);
    let around = texts.find_map(|text| {
        let at = text.find(word)?;
        let from = at.saturating_sub(AROUND);
        let to = (at + word.len() + AROUND).min(text.len());
        text.as_bytes().get(from..to)
    });
    String::from_utf8_lossy(around.unwrap_or_default()).into_owned()
}

fn not_kept_private(answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    let directives = answer
        .headers_named("cache-control")
        .flat_map(|value| value.split(','));
    if !directives
        .map(str::trim)
        .any(|directive| directive == "private")
    {
        let said = answer.header("cache-control");
        found.push(format!("a page that leaves without `private`: {said:?}"));
    }
    if answer.header("cache-status").is_empty() {
        found.push("a page without Cache-Status: it did not come by the edge".to_owned());
    }
    if is_hit(answer) {
        found.push(format!(
            "a page from the store: {}",
            answer.header("cache-status")
        ));
    }
    found
}

/// RFC 9211 section 2.1, of our own entry: the parameter, not the word.
fn is_hit(answer: &Answer) -> bool {
    let ours = answer
        .headers_named("cache-status")
        .filter(|value| value.starts_with("shikiri"));
    ours.flat_map(|value| value.split(';'))
        .any(|parameter| parameter.trim() == "hit")
}

/// On a slow machine a file outlives its lifetime: Django was asked, and had nothing newer.
fn is_revalidated(answer: &Answer) -> bool {
    let ours = answer
        .headers_named("cache-status")
        .filter(|value| value.starts_with("shikiri"));
    ours.flat_map(|value| value.split(';'))
        .any(|parameter| parameter.trim() == "fwd-status=304")
}

fn holds(answer: &Answer, word: &str) -> bool {
    answer.body.contains(word) || answer.headers.iter().any(|(_, value)| value.contains(word))
}

/// The hidden field that Django puts into each form, another value each time.
pub(super) const TOKEN: &str = "csrfmiddlewaretoken";
const SESSION: &str = "sessionid";
const SHOWN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "/admin/";
    const FILE: &str = "/static/a.css";

    fn answer(headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Answer {
            status: 200,
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    fn page(cookie: &str, body: &str) -> Answer {
        let cookie = format!("{cookie}; Path=/");
        let headers = [
            ("cache-control", "max-age=0, private"),
            ("cache-status", "shikiri; fwd=bypass"),
            ("set-cookie", &cookie),
        ];
        answer(&headers, body)
    }

    /// Judges answers in order and says what the first violation was about.
    fn check(seen: &[(Viewer, &str, Answer)], expected: Option<&str>) {
        let witness = Witness::new();
        for (viewer, path, answer) in seen {
            let had_come = witness.has_seen_file(path);
            witness.saw(*viewer, path, had_come, answer);
        }
        let violation = witness.verdict().err().map(|failure| failure.to_string());
        let as_expected = match expected {
            Some(expected) => violation.as_ref().is_some_and(|it| it.contains(expected)),
            None => violation.is_none(),
        };
        assert!(as_expected, "expected {expected:?}, found {violation:?}");
    }

    #[test]
    fn what_is_ones_own_may_be_seen_again() {
        let mine = || {
            page(
                "sessionid=s1s1s1",
                "Welcome, Alice <input name=\"csrfmiddlewaretoken\" value=\"t1\">",
            )
        };
        check(
            &[(Viewer::Alice, PAGE, mine()), (Viewer::Alice, PAGE, mine())],
            None,
        );
    }

    #[test]
    fn each_kind_of_leak_is_seen() {
        let token = "<input name=\"csrfmiddlewaretoken\" value=\"token1\">";
        for (first, second, expected) in [
            (
                page("x=x", ""),
                page("x=x", "Welcome, Alice"),
                "the word \"Alice\"",
            ),
            (
                page("sessionid=s1s1s1", ""),
                page("sessionid=s1s1s1", ""),
                "a sessionid that is alice's",
            ),
            (
                page("csrftoken=c1c1c1", ""),
                page("csrftoken=c1c1c1", ""),
                "a csrftoken that is alice's",
            ),
            (
                page("x=x", token),
                page("x=x", token),
                "a csrfmiddlewaretoken that is alice's",
            ),
            (
                page("sessionid=s1s1s1", ""),
                page("x=x", "debug: s1s1s1"),
                "the session of alice",
            ),
        ] {
            check(
                &[
                    (Viewer::Alice, PAGE, first),
                    (Viewer::Visitor, PAGE, second),
                ],
                Some(expected),
            );
        }
    }

    #[test]
    fn a_page_leaves_as_private_and_never_from_the_store() {
        for (headers, expected) in [
            (
                &[
                    ("cache-control", "private"),
                    ("cache-status", "shikiri; fwd=bypass"),
                ][..],
                None,
            ),
            (
                &[
                    ("cache-control", "private"),
                    ("cache-status", "shikiri; fwd=miss; detail=hit"),
                ],
                None,
            ),
            (
                &[
                    ("cache-control", "no-cache"),
                    ("cache-status", "shikiri; fwd=bypass"),
                ],
                Some("without `private`"),
            ),
            (
                &[
                    ("cache-control", "private"),
                    ("cache-status", "shikiri; hit; ttl=3"),
                ],
                Some("from the store"),
            ),
            (
                &[("cache-control", "private")],
                Some("without Cache-Status"),
            ),
        ] {
            check(&[(Viewer::Boris, PAGE, answer(headers, ""))], expected);
        }
    }

    #[test]
    fn a_static_file_is_a_hit_once_it_has_come() {
        let miss = || {
            (
                Viewer::Boris,
                FILE,
                answer(&[("cache-status", "shikiri; fwd=uri-miss; stored")], ""),
            )
        };
        let hit = || {
            (
                Viewer::Alice,
                FILE,
                answer(&[("cache-status", "shikiri; hit")], ""),
            )
        };
        let asked_again = || {
            let headers = [("cache-status", "shikiri; fwd=stale; fwd-status=304")];
            (Viewer::Boris, FILE, answer(&headers, ""))
        };
        let theirs = || {
            (
                Viewer::Alice,
                FILE,
                answer(&[("cache-status", "other; hit")], ""),
            )
        };
        let sets = || {
            let headers = [("cache-status", "shikiri; hit"), ("set-cookie", "a=bcd")];
            (Viewer::Boris, FILE, answer(&headers, ""))
        };
        check(&[miss(), hit()], None);
        check(&[miss(), miss()], Some("was no hit"));
        check(&[miss(), asked_again()], None);
        check(&[miss(), theirs()], Some("was no hit"));
        check(&[sets()], Some("sets a cookie"));
    }
}
