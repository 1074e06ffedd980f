//! The matrix as a page: `docs/re-enactments.md`.
//!
//! Never says when it was made: run again with the same programs, it is the same page.
//!
//! Invariant: what is counted in the text is what stands in the tables. Nothing here is written by hand
//! but the words around them.

use std::fmt::Write as _;

use super::matrix::{Matrix, OURS, Square, flaky};
use crate::process::root;

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
    text.push_str(&cases(matrix));
    text.push_str(&remarks(matrix));
    text.push_str(TAIL);
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

Every cell has a process of its own, in front of an origin of its own, and a cache with nothing in it but
what the control and the script have put there. So no script is changed to keep cells apart: every cache
is sent the same bytes.

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
        let configurations = matrix
            .columns
            .iter()
            .filter(|(name, _)| *name == peer)
            .map(|(_, configuration)| link(peer, configuration));
        let configurations: Vec<_> = configurations.collect();
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
         the expert's text is loaded, as operators do it, without a purge.\n\n",
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
    if peer == OURS {
        return if configuration == "careless" {
            "default, [careless](../crates/xtask/src/leaks/cache.rs)".to_owned()
        } else {
            String::new()
        };
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
        "## The matrix\n\n{} cases, {cells} cells, each {} times. The columns of a cache are its \
         configurations: *d*efault and *c*areless for ours, *p*ackaged, *h*urried and *e*xpert for the \
         others.\n\n| case |",
        matrix.scripts.len(),
        matrix.repetitions,
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
    let lawful = columns.map(|c| format!(" {} |", leaking_lawfully(matrix, c)));
    write!(
        text,
        "\n| of them, allowed by the RFCs |{}\n\n",
        lawful.collect::<String>()
    )
    .expect("a string can be written to");
    text
}

fn leaking_lawfully(matrix: &Matrix<'_>, column: usize) -> usize {
    let rows = matrix.scripts.iter().zip(&matrix.squares);
    rows.filter(|(script, row)| {
        script.legality.starts_with("allowed") && !row[column].leaks.is_empty()
    })
    .count()
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
