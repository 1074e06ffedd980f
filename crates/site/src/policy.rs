//! What follows from the declarations for others: a policy for the edge, a list for programs.
//!
//! Nothing is written here that is not in a declaration.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::asked::SESSION_COOKIE;
use crate::declare::{App, Class, Kind, Page};
use crate::delivery::EDGE_HEADER;
use crate::ticket::PREFIX;

/// An origin, as an edge is told of it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The hosts that it answers for, without ports.
    pub hosts: Vec<String>,
    /// Where the edge reaches it: `http://127.0.0.1:8081`.
    pub url: String,
}

/// Where the store and the delivery server are.
#[derive(Clone, Debug)]
pub struct Places {
    pub store: Place,
    pub delivery: Place,
    /// Files with secrets, by their whole paths: what the edge shows to the delivery server.
    pub edge_key: String,
    /// With which tickets are made.
    pub tickets: String,
}

/// The policy for an edge in front of this site, as TOML. Without places, the origins are to be added, and
/// what is for holders is shared by nobody.
#[must_use]
pub fn policy<A: App, B: App>(
    store: &[Page<A>],
    delivery: &[Page<B>],
    places: Option<&Places>,
) -> String {
    let mut text = format!(
        "# Written by the site from its own declarations.\nversion = 1\n\n\
         [session]\ncookies = [\"{SESSION_COOKIE}\"]\n\n\
         [pins]\naction = \"stop\"\n"
    );
    for place in places.iter().flat_map(|it| [&it.store, &it.delivery]) {
        let origin = format!(
            "\n[[origin]]\nhosts = {}\nurl = \"{}\"\n",
            list(&place.hosts),
            place.url
        );
        text.push_str(&origin);
    }
    personal(&mut text, store, places);
    personal(&mut text, delivery, places);
    classes(&mut text, store, places);
    classes(&mut text, delivery, places);
    text
}

/// What is never shared, and why nobody needs to say so: it is for one person, or for who has a ticket.
fn personal<A: App>(text: &mut String, pages: &[Page<A>], places: Option<&Places>) {
    let own = pages.iter().filter(|it| it.class() == Class::Personal);
    let mut personal: Vec<String> = own.flat_map(|it| it.pattern().in_policy()).collect();
    let holders = pages
        .iter()
        .filter(|it| it.is_for_holders() && places.is_none());
    for pattern in holders.flat_map(|it| it.pattern().in_policy()) {
        personal.push(format!("{PREFIX}*{pattern}"));
        personal.push(pattern);
    }
    personal.sort();
    personal.dedup();
    if !personal.is_empty() {
        let personal = list(&personal);
        text.push_str(&format!("\n[[personal]]\npaths = {personal}\n"));
    }
}

fn classes<A: App>(text: &mut String, pages: &[Page<A>], places: Option<&Places>) {
    let mut say = |line: fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a text takes more text");
    };
    let shared = pages
        .iter()
        .filter(|it| it.class() != Class::Personal && (places.is_some() || !it.is_for_holders()));
    for page in shared {
        let name = page.name().replace('/', ".");
        let fresh_s = page.fresh().as_secs();
        // Where the edge's credential goes, hosts are named: a gated class is for one origin.
        let gated = places.filter(|_| page.is_for_holders());
        let hosts = gated.map_or_else(String::new, |places| {
            format!("hosts = {}, ", list(&places.delivery.hosts))
        });
        let to = if gated.is_some() { "gated" } else { "everyone" };
        say(format_args!(
            "\n[[class]]\nname = \"{name}\"\nmatch = {{ {hosts}paths = {} }}\nto = \"{to}\"\ntypes = {}\n\
             query = {}\nlifetime = {{ max = \"{fresh_s}s\" }}\n",
            list(&page.pattern().in_policy()),
            list(page.content_types()),
            list(page.query()),
        ));
        if let Some(places) = gated {
            say(format_args!(
                "gate = {{ token = \"path\", prefix = \"{PREFIX}\", files = {} }}\n\
                 credential = {{ header = \"{EDGE_HEADER}\", file = {} }}\n",
                list(&[&places.tickets]),
                quoted(&places.edge_key),
            ));
        }
        if page.class() == Class::Media {
            say(format_args!("static = true\n"));
        }
        if page.slice_bytes() > 0 {
            say(format_args!("slices = {}\n", page.slice_bytes()));
        }
    }
}

/// A list of texts.
fn list(texts: &[impl AsRef<str>]) -> String {
    let quoted: Vec<_> = texts.iter().map(|it| quoted(it.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A text of TOML. JSON's escapes are among its own.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Every page with its server, its class, the kinds of personal data on it and addresses to crawl, as JSON.
#[must_use]
pub fn pages_json<A: App, B: App>(store: &[Page<A>], delivery: &[Page<B>]) -> Value {
    let mut pages = Vec::new();
    listed(&mut pages, "store", store);
    listed(&mut pages, "delivery", delivery);
    json!({ "version": 1, "pages": pages })
}

fn listed<A: App>(to: &mut Vec<Value>, server: &str, pages: &[Page<A>]) {
    to.extend(pages.iter().map(|page| {
        json!({
            "server": server,
            "page": page.name(),
            "method": page.verb().name(),
            "path": page.pattern().text(),
            "class": page.class().name(),
            "shows": page.shows().iter().map(|it| it.name()).collect::<Vec<_>>(),
            "query": page.query(),
            "fresh_s": page.fresh().as_secs(),
            "holders": page.is_for_holders(),
            "slice_bytes": page.slice_bytes(),
            "crawl": page.examples(),
        })
    }));
}

/// The same for people: one page a line.
#[must_use]
pub fn pages_text<A: App, B: App>(store: &[Page<A>], delivery: &[Page<B>]) -> String {
    let mut text = String::new();
    lines(&mut text, "store", store);
    lines(&mut text, "delivery", delivery);
    text
}

fn lines<A: App>(text: &mut String, server: &str, pages: &[Page<A>]) {
    for page in pages {
        let mut shows: Vec<_> = page.shows().iter().copied().map(Kind::name).collect();
        if page.is_for_holders() {
            shows.push("(for holders)");
        }
        let line = format!(
            "{server:9} {:9} {:4} {:34} {:20} {}",
            page.class().name(),
            page.verb().name(),
            page.pattern().text(),
            page.name(),
            shows.join(" ")
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
