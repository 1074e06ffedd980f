//! The matrix as a page: `docs/re-enactments.md`.
//!
//! Never says when it was made: run again with the same programs, it is the same page.
//!
//! Invariant: what is counted in the text is what stands in the tables. Nothing here is written by hand
//! but the words around them.

use std::fmt::Write as _;

use super::matrix::{Matrix, OURS, Square, flaky};
use super::notes::NOTES;
use crate::peers::CONFIGURATIONS;
use crate::process::{Failure, root};

/// How caches are called by people.
pub(crate) fn called(peer: &str) -> &str {
    match peer {
        "shikiri" => "Shikiri",
        "varnish" => "Varnish",
        "squid" => "Squid",
        "trafficserver" => "Traffic Server",
        "apache" => "httpd",
        "haproxy" => "HAProxy",
        other => other,
    }
}

/// The whole page.
pub(crate) fn page(matrix: &Matrix<'_>) -> String {
    let mut text = String::from(HEAD);
    text.push_str(&caches(matrix));
    text.push_str(&squares(matrix));
    text.push_str(&noted(matrix));
    text.push_str(&cases(matrix));
    text.push_str(&remarks(matrix));
    text.push_str(TAIL);
    text
}

const BEGIN: &str = "<!-- `cargo xtask leaks --peers all --write` writes from here -->\n";
const END: &str = "<!-- to here -->\n";

/// README.md with the summary in its place.
///
/// # Errors
/// It has no place for it.
pub(crate) fn with_summary(readme: &str, matrix: &Matrix<'_>) -> Result<String, Failure> {
    let place = readme
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = place.ok_or_else(|| {
        Failure::new("README.md has no place for the summary of the re-enactments")
    })?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", summary(matrix)))
}

fn summary(matrix: &Matrix<'_>) -> String {
    let cases = matrix.scripts.len();
    let column = |peer: &str, configuration: &str| {
        let is = |c: &(&str, &str)| *c == (peer, configuration);
        let column = matrix.columns.iter().position(is);
        column.map_or_else(
            || "–".to_owned(),
            |column| matrix.leaking(column).to_string(),
        )
    };
    let mut text = format!(
        "\n[{cases} published leaks](docs/re-enactments.md), replayed on the caches that people run today and on \
         this one: one after another, overlapping,\nand on one connection; something public must be served from \
         the cache on the same set-up, or the cell does not count.\n\n\
         [![Every case against every cache](docs/re-enactments.svg)](docs/re-enactments.md)\n\n\
         | of {cases} cases, so many leak | as packaged, caching on | the hurried operator of the accidents | one \
         expert's best practice |\n|---|---|---|---|\n",
    );
    for (peer, version) in in_order(matrix) {
        let row = if peer == OURS {
            format!(
                "**{}**, no policy file | **{}**, the most careless policy that can be said | ",
                column(peer, "default"),
                column(peer, "careless")
            )
        } else {
            CONFIGURATIONS.map(|c| column(peer, c)).join(" | ")
        };
        let version = version.split('-').next().unwrap_or_default();
        writeln!(text, "| {} {version} | {row} |", called(peer))
            .expect("a string can be written to");
    }
    text.push_str(
        "\nLeaks that the RFCs allow are counted too: they let a cache share a page that says `max-age=60`, \
         whoever's name is on it. An expert's configuration\nstill leaks where a person is known by something else \
         than a cookie or `Authorization` (a header of the site's own, an address, a connection),\nwhere what one \
         sends comes back to all (an `Origin`, a reflected header, a body), and where the origin says `public` of \
         what was made for one, or\n`private` in a way that no RFC defines: no vendor's manual can know that of a \
         site. Every cell, its configuration and how to replay it:\n\
         [docs/re-enactments.md](docs/re-enactments.md). `cargo xtask leaks --peers all --write` runs it again.\n\n",
    );
    text
}

const HEAD: &str = "\
# Re-enactments

Each published way in which a shared cache has shown one person's page to another, replayed on the caches
that people run today, and on ours. `cargo xtask leaks --peers all --write` plays all of it and writes this
page and its picture; nothing in the tables is written by hand.

![Every case against every cache](re-enactments.svg)

## How to read it

A case is a [script](leak-scripts.md): an origin that stamps every answer with whom it believes it serves,
viewers who ask, and something public that must be a hit on the same set-up (the control). A case **leaks**
when a viewer was given a byte that belongs to another. It is played in three ways: **a** one request after
another, **b** overlapping, **c** all viewers on one connection, as behind a proxy that pools.

Every cell, each repetition too, has a process of its own with an empty store, in front of an origin of its
own. That is why URLs are the same in all of them: nothing can be left from another cell, and every cache is
sent the same bytes. The control is asked for before the script begins and until it is a hit, so every cache is
warm. Tokens hold a word that is new for each cell, so that nothing old is ever taken for a finding.

A script shows its own mechanism and no other. Pages that are not its matter are the same for everybody; where
its matter is connections (M31, M33, M34, M37, I16, I22) each viewer asks for URLs of its own, so that storing too
much shows nothing. In the hurried operator's columns most leaks are what his one rule says: a lifetime for
everything.

| sign | means |
|---|---|
| letters | it leaks, in these ways, in at least one repetition |
| · | safe: nothing leaked, and the control was a hit |
| o | nobody saw what is another's, but an old copy was served behind a change that forbids it (for us: a leak) |
| n | not cacheable: nothing leaked, and the cache declines to keep this control, though it keeps other public things |
| ! | nothing leaked, and somebody got no answer |
| ? | void: the cell says nothing |
| – | does not apply |

A leak is not always a fault of the cache: where the second table says *allowed*, a cache that leaks keeps
to the RFCs. That is the finding: keeping to them is not enough for a site with logins.

";

const TAIL: &str = "\
## To run it again

```
cargo xtask setup                        # the six, as Debian packages them, into target/tools
cargo xtask leaks --peers all --write    # everything, three times, and this page
cargo xtask leaks --small                # ours, nginx and Varnish, once
```

One cell, with all that was said on both sides:

```
cargo xtask leaks --case i02 --peers nginx --configs hurried --way b --repeat 1 --show
cargo xtask leaks --case i02 --peers shikiri --configs careless --way b --repeat 1 --show
```

The command fails if a cell of ours leaks or is void, or if another's is void. A leak of another's is a
finding, not a failure. The origin, the clients and the judge share no code with our edge. How the caches
are started and why their configurations are fair: [peers.md](peers.md). What outsiders' scanners find:
[judges.md](judges.md).
";

fn caches(matrix: &Matrix<'_>) -> String {
    let mut text = String::from(
        "## The caches\n\nVersions are as the programs say; all but ours are Debian's packages.\n\n\
         | cache | version | configurations |\n|---|---|---|\n",
    );
    for (peer, version) in in_order(matrix) {
        let configurations = matrix.columns.iter().filter(|(name, _)| *name == peer);
        let configurations: Vec<_> = configurations
            .map(|(_, configuration)| link(peer, configuration))
            .collect();
        writeln!(
            text,
            "| {} | {version} | {} |",
            called(peer),
            configurations.join(", ")
        )
        .expect("a string can be written to");
    }
    text.push_str(
        "\n**Shikiri**: *default* is no policy file. *careless* is the most careless policy that can be \
         said: everything, to everybody, every type and status, for an hour, with no cookie known as a \
         session's; and each script's own policies, where it has some.\n\n\
         **The others**: *packaged* is the smallest change from the package that turns caching on; \
         *hurried* is what operators wrote before the published accidents, and the accident's own rule \
         where a script has it in the program's language; *expert* is the best practice of the vendor's \
         own documentation that still shares what is public. Where a script loads the right policy, \
         the expert's text is loaded, as operators do it, without a purge. \
         Where a script needs TLS, those take part for which it has a text with TLS, in the hurried \
         operator's column: Varnish and Squid as Debian packages them speak none.\n\n",
    );
    text
}

/// The caches in the order of the columns.
fn in_order<'a>(matrix: &'a Matrix<'_>) -> Vec<(&'static str, &'a str)> {
    let mut caches: Vec<(&'static str, &str)> = Vec::new();
    for (peer, _) in &matrix.columns {
        if caches.last().is_none_or(|(last, _)| last != peer) {
            let version = matrix.versions.get(peer).map_or("?", String::as_str);
            caches.push((peer, version));
        }
    }
    caches
}

/// A configuration with a link to its text.
fn link(peer: &str, configuration: &str) -> String {
    match (peer, configuration) {
        (OURS, "careless") => return "[careless](../crates/xtask/src/leaks/cache.rs)".to_owned(),
        (OURS, _) => return configuration.to_owned(),
        _ => {}
    }
    let folder = format!("crates/xtask/src/peers/{peer}");
    let entries = std::fs::read_dir(root().join(&folder))
        .into_iter()
        .flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    let name = names
        .map(|name| name.to_string_lossy().into_owned())
        .find(|name| name.split('.').next() == Some(configuration));
    match name {
        Some(name) => format!("[{configuration}](../{folder}/{name})"),
        None => configuration.to_owned(),
    }
}

fn squares(matrix: &Matrix<'_>) -> String {
    let cells: usize = matrix.squares.iter().flatten().map(|s| s.ran.len()).sum();
    let mut text = format!(
        "## The matrix\n\n{} cases, {cells} cells, each {}. The columns of a cache are its \
         configurations: *d*efault and *c*areless for ours, *p*ackaged, *h*urried and *e*xpert for the \
         others.\n\n| case |",
        matrix.scripts.len(),
        match matrix.repetitions {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        },
    );
    let mut last = "";
    for (peer, configuration) in &matrix.columns {
        let name = if last == *peer { "" } else { called(peer) };
        last = peer;
        let letter = configuration.get(..1).unwrap_or_default();
        write!(text, " {} |", format!("{name} {letter}").trim())
            .expect("a string can be written to");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(matrix.columns.len()));
    for (script, row) in matrix.scripts.iter().zip(&matrix.squares) {
        write!(text, "\n| [{0}](../tests/leaks/{0}.leak) |", script.name)
            .expect("a string can be written to");
        for square in row {
            let sign = square.sign();
            if square.leaks.is_empty() {
                write!(text, " {sign} |").expect("a string can be written to");
            } else {
                write!(text, " **{sign}** |").expect("a string can be written to");
            }
        }
    }
    let columns = 0..matrix.columns.len();
    let totals = columns
        .clone()
        .map(|c| format!(" **{}** |", matrix.leaking(c)));
    write!(
        text,
        "\n| **cases that leak** |{}",
        totals.collect::<String>()
    )
    .expect("a string can be written to");
    for verdict in ["allowed", "uncovered", "forbidden"] {
        let of_them = columns
            .clone()
            .map(|c| format!(" {} |", leaking_where(matrix, c, verdict)));
        let by = match verdict {
            "uncovered" => "not covered by the RFCs",
            "allowed" => "allowed by the RFCs",
            _ => "forbidden by the RFCs",
        };
        write!(text, "\n| of them, {by} |{}", of_them.collect::<String>())
            .expect("a string can be written to");
    }
    text.push_str("\n\n");
    text
}

fn leaking_where(matrix: &Matrix<'_>, column: usize, verdict: &str) -> usize {
    let rows = matrix.scripts.iter().zip(&matrix.squares);
    rows.filter(|(script, row)| {
        script.legality.starts_with(verdict) && !row[column].leaks.is_empty()
    })
    .count()
}

/// What surprises in cells, and is true.
fn noted(matrix: &Matrix<'_>) -> String {
    let mut text = String::from(
        "## Notes on cells\n\nWhat surprises at first sight, was replayed, and is so.\n\n",
    );
    for note in NOTES.iter().filter(|note| note.holds(matrix) == Some(true)) {
        writeln!(
            text,
            "- **{}** · {}: {}",
            note.cases.join(", "),
            note.cells.join(", "),
            note.says
        )
        .expect("a string can be written to");
    }
    text.push('\n');
    text
}

fn cases(matrix: &Matrix<'_>) -> String {
    let mut text = String::from(
        "## The cases\n\nNumbers of mechanisms and incidents are explained in \
         [leak-scripts.md](leak-scripts.md#mechanisms).\n\n\
         | case | what happens | | by the RFCs | what prevents it |\n|---|---|---|---|---|\n",
    );
    for script in matrix.scripts {
        writeln!(
            text,
            "| [{0}](../tests/leaks/{0}.leak) | {1} | {2} | {3} | {4} |",
            script.name,
            plain(&script.title),
            script.numbers.join(" "),
            plain(&script.legality),
            plain(&script.cure),
        )
        .expect("a string can be written to");
    }
    text.push('\n');
    text
}

/// Prose of a script as it stands in a table.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if matches!(c, '|' | '*' | '_' | '<' | '`') {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

/// Words, and what of a square they are about.
type Kind = (&'static str, fn(&Square) -> Option<String>);

fn remarks(matrix: &Matrix<'_>) -> String {
    let mut text = String::from("## Remarks on cells\n\n");
    let kinds: [Kind; 5] = [
        (
            "Flaky: its repetitions differ in these ways; the worst counts",
            flaky,
        ),
        ("An old copy was served behind a change, in this way", |s| {
            s.old.clone().filter(|_| s.leaks.is_empty())
        }),
        ("Somebody got no answer", |s| s.unanswered.clone()),
        ("The control is not kept", |s| s.not_cacheable.clone()),
        ("Void", |s| s.void.clone()),
    ];
    for (what, of) in kinds {
        let remarks = matrix.remarks(of);
        writeln!(text, "**{what}:** {}.\n", remarks.len()).expect("a string can be written to");
        for remark in &remarks {
            writeln!(text, "- {}", plain(remark)).expect("a string can be written to");
        }
        if !remarks.is_empty() {
            text.push('\n');
        }
    }
    text
}
