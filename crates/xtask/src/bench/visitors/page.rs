//! The page that `cargo xtask bench visitors --write` writes.

use super::{Came, Kind, Outcome, Setting};

/// On a machine whose processors have more to do than this, figures are of little use.
const LOAD_MAX: f64 = 1.0;

/// `capacity` was measured straight at the site, `without` and `with` at a slow one.
pub(super) fn written(
    setting: &Setting,
    load: Option<f64>,
    share: f64,
    [capacity, without, with]: [&Came; 3],
) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let visitors = setting.visitors;
    let build = match &setting.binary {
        Some(_) => "a build that was given (`--binary`)",
        None => "a release build",
    };
    line("# Performance");
    line("");
    line("## Visitors at a site that is too slow for them");
    line("");
    line(
        "Written by `cargo xtask bench visitors --write`. The store of `shikiri up` with its delivery server and the edge,",
    );
    line(&format!(
        "{build}, one machine of {cores} cores that also makes the visitors: {visitors} at once, {} of them logged in,",
        visitors * setting.members_in_100 / 100
    ));
    line(
        "each with a pause of a second between two requests, half to half as long again. Members ask for films (by their",
    );
    line(
        "ticket), their own pages and the catalogue; the others for pages, the style sheet and covers.",
    );
    match load {
        Some(load) if load <= LOAD_MAX => {}
        load => {
            let load = load.map_or_else(|| "unknown".to_owned(), |it| format!("{it:.1}"));
            line("");
            line(&format!(
                "**The machine was busy with other things (load {load} before the start): the times here say little. The \
                 shares do not depend on it much.**"
            ));
        }
    }
    line("");
    line(&format!(
        "Straight to the site, without pauses and with all of its capacity, it answered {:.0} requests a second. For the rest, \
         both of its processes were let run for {:.1} % of the time only: enough for half of what these visitors ask for.",
        capacity.per_second(),
        share * 100.0
    ));
    line("");
    line("| | without the edge | through the edge |");
    line("|---|---|---|");
    let mut both = |what: &str, of: &dyn Fn(&Came) -> String| {
        line(&format!("| {what} | {} | {} |", of(without), of(with)));
    };
    both("answers a second", &|it| format!("{:.0}", it.per_second()));
    both("failed or took longer than 30 s", &|it| {
        it.count(|it| it.outcome == Outcome::Failed).to_string()
    });
    both("half of the answers within", &|it| ms(it, 50, |_| true));
    both("99 of 100 within", &|it| ms(it, 99, |_| true));
    both("requests a second that reached the site", &|it| {
        format!("{:.0}", it.site_per_second())
    });
    both("the same, of all that were asked", &|it| {
        percent(
            it.count(|it| matches!(it.outcome, Outcome::AskedSite | Outcome::Failed)),
            it.seen.len(),
        )
    });
    line("");
    line("Through the edge, from an empty store on:");
    line("");
    line(
        "| what | requests | hits | waited for another's fetch | asked the site | p50 | p99 | p99 without the edge |",
    );
    line("|---|---|---|---|---|---|---|---|");
    for kind in Kind::ALL {
        let all = with.count(|it| it.kind == kind);
        let of = |outcome| {
            percent(
                with.count(|it| it.kind == kind && it.outcome == outcome),
                all,
            )
        };
        line(&format!(
            "| {} | {all} | {} | {} | {} | {} | {} | {} |",
            kind.words(),
            of(Outcome::Hit),
            of(Outcome::Collapsed),
            of(Outcome::AskedSite),
            ms(with, 50, |it| it == kind),
            ms(with, 99, |it| it == kind),
            ms(without, 99, |it| it == kind),
        ));
    }
    line("");
    line(
        "Members' own pages always ask the site, and so are as slow as it is; that is what the rest of its capacity is for.",
    );
    text
}

fn ms(came: &Came, in_100: usize, is_it: impl Fn(Kind) -> bool) -> String {
    format!("{:.1} ms", came.took_ms(in_100, |it| is_it(it.kind)))
}

fn percent(part: usize, all: usize) -> String {
    format!("{:.1} %", part as f64 * 100.0 / all.max(1) as f64)
}
