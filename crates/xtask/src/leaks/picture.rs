//! The matrix as a picture: `docs/re-enactments.svg`.
//!
//! Never relies on colour alone (a leak has its letters), nor on the page around it: it brings its own
//! colours for light and for dark.

use std::fmt::Write as _;

use super::matrix::{Matrix, Square};
use super::page::called;
use super::script::Script;

/// In pixels: the column of names, one square, and what is left between caches and between the
/// incidents and the mechanisms.
const NAMES: usize = 272;
const WIDE: usize = 26;
const HIGH: usize = 15;
const GAP: usize = 14;
const BREAK: usize = 8;
const HEADER: usize = 96;
const LEGEND: usize = 92;

const STYLE: &str = "\
text{font:10px ui-sans-serif,system-ui,sans-serif;fill:#24292f}\
.n{font-family:ui-monospace,monospace;font-size:9.5px}.h{font-weight:600;font-size:11px}\
.m{text-anchor:middle}.w{fill:#fff;font-weight:600;font-size:9px;text-anchor:middle}\
.back{fill:#fff}.safe{fill:#b7e4c7}.leak{fill:#c1121f}.old{fill:#f4a261}.not{fill:#d0d7de}\
.void{fill:#ffd60a}.none{fill:none;stroke:#d0d7de}\
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.safe{fill:#1b4332}\
.leak{fill:#e5383b}.old{fill:#bc6c25}.not{fill:#3d444d}.none{stroke:#3d444d}.w{fill:#fff}}";

/// The whole picture.
pub(crate) fn picture(matrix: &Matrix<'_>) -> String {
    let lefts = lefts(matrix);
    let width = lefts.last().map_or(NAMES, |left| left + WIDE) + 8;
    let end = top(matrix, matrix.scripts.len());
    let height = end + HIGH + LEGEND;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"t\">\n<title id=\"t\">{} published leaks, \
         replayed on {} caches under {} configurations</title>\n<style>{STYLE}</style>\n\
         <rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n",
        matrix.scripts.len(),
        matrix.versions.len(),
        matrix.columns.len(),
    );
    header(matrix, &lefts, &mut svg);
    for (number, (script, row)) in matrix.scripts.iter().zip(&matrix.squares).enumerate() {
        let top = top(matrix, number);
        text(&mut svg, "n", 8, top + 11, &script.name);
        for (square, left) in row.iter().zip(&lefts) {
            drawn(square, *left, top, &mut svg);
        }
    }
    let all = format!("cases that leak, of {}", matrix.scripts.len());
    text(&mut svg, "h", 8, end + 14, &all);
    for (column, left) in lefts.iter().enumerate() {
        let count = matrix.leaking(column).to_string();
        text(&mut svg, "h m", left + WIDE / 2, end + 14, &count);
    }
    legend(end + HIGH + 14, &mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// Where a row begins: the mechanisms stand apart from the incidents.
fn top(matrix: &Matrix<'_>, row: usize) -> usize {
    let is_incident = |script: &&Script| script.name.starts_with('i');
    let incidents = matrix.scripts.iter().filter(is_incident).count();
    let apart = if row < incidents { 0 } else { BREAK };
    HEADER + HIGH * row + apart
}

/// Where each column begins: those of one cache stand together.
fn lefts(matrix: &Matrix<'_>) -> Vec<usize> {
    let mut lefts = Vec::new();
    let mut left = NAMES;
    let mut last = None;
    for (peer, _) in &matrix.columns {
        if last.is_some_and(|last| last != peer) {
            left += GAP;
        }
        last = Some(peer);
        lefts.push(left);
        left += WIDE;
    }
    lefts
}

fn header(matrix: &Matrix<'_>, lefts: &[usize], svg: &mut String) {
    let mut last = "";
    for ((peer, configuration), left) in matrix.columns.iter().zip(lefts) {
        if last != *peer {
            last = peer;
            let version = matrix.versions.get(peer).map_or("", String::as_str);
            let version = version.split('-').next().unwrap_or_default();
            text(svg, "h", *left, 18, called(peer));
            text(svg, "", *left, 32, version);
        }
        // The words are too long for their columns, so they stand upright.
        writeln!(
            svg,
            "<text transform=\"translate({} {}) rotate(-90)\">{configuration}</text>",
            left + WIDE / 2 + 4,
            HEADER - 6
        )
        .expect("a string can be written to");
    }
}

fn drawn(square: &Square, left: usize, top: usize, svg: &mut String) {
    let sign = square.sign();
    let class = match sign.as_str() {
        "·" => "safe",
        "–" => "none",
        "o" => "old",
        "n" | "!" => "not",
        "?" => "void",
        _ => "leak",
    };
    writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"/>",
        left + 1,
        top + 1,
        WIDE - 2,
        HIGH - 2
    )
    .expect("a string can be written to");
    let class = match class {
        "safe" | "none" => return,
        "leak" => "w",
        _ => "m",
    };
    text(svg, class, left + WIDE / 2, top + 11, &sign);
}

fn legend(top: usize, svg: &mut String) {
    let leak = Square {
        leaks: vec!["abc".to_owned()],
        ..Square::default()
    };
    let safe = Square {
        ran: vec!["a".to_owned()],
        ..Square::default()
    };
    let old = Square {
        old: Some(String::new()),
        ..safe.clone()
    };
    let not = Square {
        not_cacheable: Some(String::new()),
        ..safe.clone()
    };
    for (left, down, square, said) in [
        (
            8,
            0,
            &leak,
            "somebody was shown what is another's: a in sequence, b overlapping, c on one connection",
        ),
        (
            NAMES + 236,
            0,
            &safe,
            "safe, and something public was served from the cache",
        ),
        (8, 18, &old, "an old copy behind a change, nobody else's"),
        (
            NAMES + 236,
            18,
            &not,
            "n not cacheable, ! no answer; an empty frame: does not apply",
        ),
    ] {
        drawn(square, left, top + down, svg);
        text(svg, "", left + WIDE + 5, top + down + 11, said);
    }
    for (down, said) in [
        (
            50,
            "default: no policy file. careless: the most careless policy that can be said. packaged: the package \
             with its cache turned on.",
        ),
        (
            64,
            "hurried: what operators wrote before the accidents. expert: the best practice of the vendor's own \
             documentation.",
        ),
    ] {
        text(svg, "", 8, top + down, said);
    }
}

fn text(svg: &mut String, class: &str, x: usize, y: usize, said: &str) {
    let said = said.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{said}</text>"
    )
    .expect("a string can be written to");
}
