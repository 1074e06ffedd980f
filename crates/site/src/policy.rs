//! What follows from the declarations for others: a policy for the edge, a list for programs.
//!
//! Nothing is written here that is not in a declaration.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::asked::SESSION_COOKIE;
use crate::declare::{App, Class, Kind, Page};

/// The policy for an edge in front of this site, as TOML. The origin is named on its command line.
#[must_use]
pub fn policy<A: App>(pages: &[Page<A>]) -> String {
    let mut text = format!(
        "# Written by the site from its own declarations.\nversion = 1\n\n\
         [session]\ncookies = [\"{SESSION_COOKIE}\"]\n\n\
         [pins]\naction = \"stop\"\n"
    );
    let of = |class| pages.iter().filter(move |it| it.class() == class);
    let mut personal: Vec<String> = of(Class::Personal)
        .flat_map(|it| it.pattern().in_policy())
        .collect();
    personal.sort();
    personal.dedup();
    let mut say = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a text takes more text");
    };
    if !personal.is_empty() {
        say(format_args!(
            "\n[[personal]]\npaths = {}\n",
            list(&personal)
        ));
    }
    for page in pages.iter().filter(|it| it.class() != Class::Personal) {
        let name = page.name().replace('/', ".");
        let types = [page.content_type()];
        let fresh_s = page.fresh().as_secs();
        say(format_args!(
            "\n[[class]]\nname = \"{name}\"\nmatch = {{ paths = {} }}\nto = \"everyone\"\ntypes = {}\n\
             query = {}\nlifetime = {{ max = \"{fresh_s}s\" }}\n",
            list(&page.pattern().in_policy()),
            list(&types),
            list(page.query()),
        ));
    }
    text
}

/// A list of texts; paths, names and types need no escape.
fn list(texts: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = texts
        .iter()
        .map(|it| format!("\"{}\"", it.as_ref()))
        .collect();
    format!("[{}]", quoted.join(", "))
}

/// Every page with its class, the kinds of personal data on it and addresses to crawl, as JSON.
#[must_use]
pub fn pages_json<A: App>(pages: &[Page<A>]) -> Value {
    let one = |page: &Page<A>| {
        json!({
            "page": page.name(),
            "method": page.verb().name(),
            "path": page.pattern().text(),
            "class": page.class().name(),
            "shows": page.shows().iter().map(|it| it.name()).collect::<Vec<_>>(),
            "query": page.query(),
            "fresh_s": page.fresh().as_secs(),
            "crawl": page.examples(),
        })
    };
    json!({ "version": 1, "pages": pages.iter().map(one).collect::<Vec<_>>() })
}

/// The same for people: one page a line.
#[must_use]
pub fn pages_text<A: App>(pages: &[Page<A>]) -> String {
    let mut text = String::new();
    for page in pages {
        let shows: Vec<_> = page.shows().iter().copied().map(Kind::name).collect();
        let line = format!(
            "{:9} {:4} {:34} {:20} {}",
            page.class().name(),
            page.verb().name(),
            page.pattern().text(),
            page.name(),
            shows.join(" ")
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
