//! The published corpus of desynchronising requests of the `http_desync_guardian` package.
//!
//! Each of its cases is sent to a server behind the guard, with a second request after it. Cases
//! that the corpus calls severe must be refused and the connection closed; so must those that are
//! only ambiguous. Where this guard differs from the corpus, the cases are listed with the reason.

use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, Yaml};
use shikiri_partition::Limits;

use crate::server::exchange;

/// Names the folder of the corpus's YAML files.
const FOLDER: &str = "SHIKIRI_DESYNC_CORPUS";
const WHAT_TO_DO: &str = "`cargo xtask setup` places the corpus where this test looks; by hand, set \
     SHIKIRI_DESYNC_CORPUS to the `tests` folder of the sources of the package \
     http_desync_guardian 0.1.3.";

/// Ambiguous to the corpus, sound to us: a body on GET and HEAD. Its end is declared once, in one
/// way, and such a request is never shared.
const SOUND_ALL_THE_SAME: &[&str] = &[
    "Get with a body and Content-Length",
    "Get with a body and Transfer-Encoding",
    "Head with a body and Content-Length",
    "Head with a body and Transfer-Encoding",
    "Has a CL in GET",
    "Has a TE in GET",
];

/// Compliant to the corpus, refused by us.
const REFUSED_ALL_THE_SAME: &[&str] = &[
    // Codings besides `chunked`, which nobody sends and readers disagree about.
    "Correct TE OK",
    "Transfer-Encoding: identity and chunked OK",
    "Multiple transfer encoding headers in a single request OK",
    "TE with custom parameters OK",
    "Different Transfer-Encoding headers",
    "Different Transfer-Encoding headers combined",
    "Transfer-Encoding with a param: chunked;custom_param",
    // Targets that are none: a fragment, letters beyond ASCII, nothing (RFC 9112 3.2).
    "Compliant URL",
    "International in URI",
    "Empty URI",
];

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Refused,
    Served,
}

#[tokio::test(start_paused = true)]
async fn every_severe_case_is_refused() {
    let folder = PathBuf::from(
        std::env::var_os(FOLDER).unwrap_or_else(|| panic!("{FOLDER} is not set. {WHAT_TO_DO}")),
    );
    let mut severe = 0;
    let mut wrong = Vec::new();
    for case in cases(&folder) {
        let fate = fate(&case).await;
        let name = case.name.as_str();
        let expected = match case.tier.as_str() {
            "Severe" => Some(Fate::Refused),
            "Ambiguous" if SOUND_ALL_THE_SAME.contains(&name) => Some(Fate::Served),
            "Ambiguous" => Some(Fate::Refused),
            "Compliant" if REFUSED_ALL_THE_SAME.contains(&name) => Some(Fate::Refused),
            "Compliant" => Some(Fate::Served),
            // Merely unusual: a fault in a field that frames nothing. Either is safe.
            "Acceptable" => None,
            other => panic!("{name}: the tier {other} is not known here"),
        };
        severe += usize::from(case.tier == "Severe");
        if expected.is_some_and(|expected| expected != fate) {
            wrong.push(case.name);
        }
    }
    assert!(
        severe >= 50,
        "only {severe} severe cases in {}",
        folder.display()
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Sends a case and a request after it. What is neither wholly refused nor wholly served panics.
async fn fate(case: &Case) -> Fate {
    let mut bytes = case.bytes.clone();
    bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let exchange = exchange(vec![bytes], &Limits::default()).await;
    match exchange.statuses.as_slice() {
        [400..=499 | 505] => {
            assert!(
                exchange.seen.iter().all(|seen| seen.body.is_none()),
                "{}: {:?}",
                case.name,
                exchange.seen
            );
            Fate::Refused
        }
        [200, 200] => {
            assert_eq!(exchange.seen[1].target, "/smuggled", "{}", case.name);
            Fate::Served
        }
        other => panic!("{}: answered {other:?}", case.name),
    }
}

/// One request of the corpus, as bytes.
struct Case {
    name: String,
    tier: String,
    bytes: Vec<u8>,
}

fn cases(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}. {WHAT_TO_DO}", folder.display()))
        .map(|entry| entry.expect("a folder that can be listed").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files.iter().flat_map(|file| cases_of(file)).collect()
}

fn cases_of(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).expect("the corpus is readable");
    let documents =
        Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let cases = documents.iter().filter_map(Yaml::as_sequence).flatten();
    cases.map(case).collect()
}

fn case(yaml: &Yaml<'_>) -> Case {
    let name = text(&yaml["name"]);
    let fields: Vec<(String, String)> = yaml
        .as_mapping_get("headers")
        .and_then(Yaml::as_sequence)
        .into_iter()
        .flatten()
        .map(|field| (text(&field["name"]), text(&field["value"])))
        .collect();
    // The corpus leaves out what it has nothing to say about. Without a host all of it would be
    // refused for that; without the declared bytes every body would end early.
    let mut head = format!(
        "{} {} {}\r\n",
        text(&yaml["method"]),
        text(&yaml["uri"]),
        text(&yaml["version"])
    );
    if !fields
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        head.push_str("Host: a\r\n");
    }
    let mut body = Vec::new();
    for (name, value) in &fields {
        head.push_str(&format!("{name}: {value}\r\n"));
        if name.eq_ignore_ascii_case("content-length") {
            body = vec![b'x'; value.trim().parse().unwrap_or(0).min(8 << 20)];
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            body = b"0\r\n\r\n".to_vec();
        }
    }
    head.push_str("\r\n");
    Case {
        name,
        tier: text(&yaml["expected"]["tier"]),
        bytes: [head.into_bytes(), body].concat(),
    }
}

/// A scalar as it was written.
fn text(yaml: &Yaml<'_>) -> String {
    yaml.as_str()
        .map(str::to_owned)
        .or_else(|| yaml.as_integer().map(|number| number.to_string()))
        .or_else(|| yaml.is_null().then(String::new))
        .unwrap_or_else(|| panic!("not a text: {yaml:?}"))
}
