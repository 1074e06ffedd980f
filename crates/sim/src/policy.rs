//! Policies for schedules: the most careless that the language can say, and tighter ones.

use std::fmt::Write;

use crate::rng::Rng;

/// A policy's text, and what a checker may know of its meaning without compiling it.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) text: String,
    /// No URL is shared at all.
    pub(crate) shares_nothing: bool,
    /// What begins so is personal.
    pub(crate) personal: Option<&'static str>,
    /// Two policies with different salts mean something else in every class.
    pub(crate) salt: u64,
}

const LISTED: [&str; 3] = ["/account", "/api/me", "/news"];

impl Policy {
    /// A policy. `salt` goes into its session definition, and so into the digest of every class.
    pub(crate) fn random(rng: &mut Rng, salt: u64) -> Self {
        let mut text = String::from("version = 1\n");
        let mut say = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        say("[[origin]]\nhosts = [\"other.test\"]\nurl = \"http://o2.test:8080\"");
        if rng.percent(20) {
            say("host_header = \"origin\"");
        }
        say("[[origin]]\nhosts = [\"*\"]\nurl = \"http://o1.test:8080\"");
        say("[limits]\nstore_bytes_max = \"8 MiB\"");
        if rng.percent(10) {
            say(&format!("waiting_max = {}", 1 + rng.below(2)));
        }
        if rng.percent(15) {
            say("waiting_time_max = \"320ms\"");
        }
        if rng.percent(10) {
            say("document_bytes_max = \"64 KiB\"\ntarget_bytes_max = 256");
        }
        if rng.percent(20) {
            say("remember_pass_time = \"32ms\"");
        }
        if rng.percent(15) {
            say("origin_idle_time_max = \"640ms\"");
        }
        say(&format!(
            "[session]\nheaders = [\"x-user\", \"x-salt-{salt}\"]"
        ));
        if rng.percent(50) {
            say("cookies = [\"sid\"]");
        }
        if rng.percent(20) {
            say("ignorable_cookies = [\"theme\"]");
        }
        let personal = rng.percent(20).then(|| rng.pick(&LISTED));
        if let Some(start) = personal {
            say(&format!("[[personal]]\npaths = [\"{start}**\"]"));
        }
        let shares_nothing = rng.percent(4);
        if shares_nothing || rng.percent(15) {
            say("[builtin]\nassets = false");
        }
        if !shares_nothing {
            if rng.percent(15) {
                say(&class(rng, "assets", None));
            }
            if rng.percent(97) {
                say(&class(rng, "all", Some("/**")));
            }
        }
        Self {
            text,
            shares_nothing,
            personal,
            salt,
        }
    }

    /// The same, with a class for whoever the origin lets see it, before all others.
    pub(crate) fn gated(mut self, rng: &mut Rng) -> Self {
        if self.shares_nothing {
            return self;
        }
        let before = self.text.find("[[class]]").unwrap_or(self.text.len());
        self.text.insert_str(before, &films(rng));
        self
    }

    /// The same, with a class of large objects in slices, before all others.
    pub(crate) fn sliced(mut self, rng: &mut Rng) -> Self {
        if self.shares_nothing {
            return self;
        }
        let before = self.text.find("[[class]]").unwrap_or(self.text.len());
        self.text.insert_str(before, &reels(rng));
        self
    }

    /// Whether a path is personal, as far as this policy says so in plain words.
    pub(crate) fn is_personal(&self, path: &str) -> bool {
        self.shares_nothing || self.personal.is_some_and(|start| path.starts_with(start))
    }
}

/// The host at which a path that begins so is gated, in schedules that have gates.
pub(crate) const FILMS: (&str, &str) = ("shop.test", "/films/");
/// What goes before such a path makes that of its gate.
pub(crate) const GATE: &str = "/authz";
/// The header that bears the edge's credential.
pub(crate) const CREDENTIAL: &str = "x-edge-key";
/// The variable that its secret is found in.
pub(crate) const SECRET: &str = "SIM_FILMS";

fn films(rng: &mut Rng) -> String {
    let (host, path) = FILMS;
    let method = rng.pick(&["GET", "GET", "HEAD"]);
    let query = rng.pick(&["", "query = [\"page\"]\n"]);
    let swr = rng.pick(&["0s", "1h"]);
    format!(
        "[[class]]\nname = \"films\"\nmatch = {{ hosts = [\"{host}\"], paths = [\"{path}**\"] }}\nto = \"gated\"\n\
         types = [\"*/*\", \"text/html\", \"application/xhtml+xml\"]\n{query}\
         lifetime = {{ default = \"1h\", max = \"10h\", stale_while_revalidate = \"{swr}\", stale_if_error = \"1h\" }}\n\
         gate = {{ path = \"{GATE}{{path}}?{{query}}\", method = \"{method}\" }}\n\
         credential = {{ header = \"{CREDENTIAL}\", env = \"{SECRET}\" }}\n"
    )
}

/// How a path begins of what is large and comes in slices, in schedules that have such.
pub(crate) const REELS: &str = "/reels/";

fn reels(rng: &mut Rng) -> String {
    let slices = rng.pick(&["4 KiB", "4 KiB", "5 KiB", "8 KiB"]);
    let default = rng.pick(&["1s", "20s", "1h"]);
    let swr = rng.pick(&["0s", "0s", "1h"]);
    let sie = rng.pick(&["0s", "1h"]);
    format!(
        "[[class]]\nname = \"reels\"\nmatch = {{ paths = [\"{REELS}**\"] }}\nto = \"everyone\"\n\
         types = [\"*/*\"]\nslices = \"{slices}\"\n\
         lifetime = {{ default = \"{default}\", max = \"10h\", stale_while_revalidate = \"{swr}\", stale_if_error = \"{sie}\" }}\n"
    )
}

fn class(rng: &mut Rng, name: &str, paths: Option<&str>) -> String {
    let mut text = format!("[[class]]\nname = \"{name}\"\n");
    let mut say = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("a string grows");
    if let Some(paths) = paths {
        say(format_args!("match = {{ paths = [\"{paths}\"] }}"));
    }
    let to = if rng.percent(85) {
        "everyone"
    } else {
        "anonymous"
    };
    say(format_args!("to = \"{to}\""));
    match rng.below(10) {
        0 => say(format_args!("types = [\"*/*\"]")),
        1 => say(format_args!("types = [\"text/html\", \"text/css\"]")),
        _ => say(format_args!(
            "types = [\"*/*\", \"text/html\", \"application/xhtml+xml\"]"
        )),
    }
    if rng.percent(70) {
        say(format_args!(
            "statuses = [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 500, 501, 503]"
        ));
    }
    match rng.below(8) {
        0 => say(format_args!("query = [\"page\"]")),
        1 => say(format_args!(
            "query = [\"page\", \"q\"]\nquery_else = \"personal\""
        )),
        2 => say(format_args!("query = []")),
        _ => {}
    }
    match rng.below(6) {
        0 => say(format_args!("key_headers = [\"accept-language\"]")),
        1 => say(format_args!(
            "key_headers = [\"accept-language\", \"x-color\", \"accept\"]"
        )),
        _ => {}
    }
    if rng.percent(40) {
        say(format_args!("key_encoding = true"));
    }
    let default = rng.pick(&["none", "1s", "20s", "1h", "1h"]);
    let max = rng.pick(&["1h", "10h", "1d"]);
    let swr = rng.pick(&["0s", "10s", "1h"]);
    let sie = rng.pick(&["0s", "10s", "1d"]);
    say(format_args!(
        "lifetime = {{ default = \"{default}\", max = \"{max}\", stale_while_revalidate = \"{swr}\", stale_if_error = \"{sie}\" }}"
    ));
    if rng.percent(40) {
        say(format_args!(
            "volatile = [{{ from = \"<!--v-->\", to = \"<!--/v-->\" }}]"
        ));
    }
    if rng.percent(10) {
        say(format_args!("object_bytes_max = 2048"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::compile;

    #[test]
    fn every_policy_compiles() {
        for seed in 0..2000 {
            let policy = Policy::random(&mut Rng::new(seed), seed);
            let gated = policy.clone().gated(&mut Rng::new(seed));
            let sliced = gated.clone().sliced(&mut Rng::new(seed));
            for policy in [policy, gated, sliced] {
                if let Err(why) = compile(&policy.text) {
                    panic!("{why}\n{}", policy.text);
                }
            }
        }
    }
}
