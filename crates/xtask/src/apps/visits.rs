//! What each viewer does: the walk that the transcript shows, and the rounds all do at once.
//!
//! Never asks for another member's page: staff may see those, and the test would prove nothing.

use std::net::SocketAddr;

use super::browser::{Answer, Browser};
use super::witness::{TOKEN, Viewer, Witness};
use crate::process::Failure;

/// One viewer with their browser, under the witness's eyes.
pub(super) struct Visit<'w> {
    pub(super) viewer: Viewer,
    browser: Browser,
    witness: &'w Witness,
}

impl<'w> Visit<'w> {
    pub(super) fn new(viewer: Viewer, site: SocketAddr, witness: &'w Witness) -> Self {
        Self {
            viewer,
            browser: Browser::new(site),
            witness,
        }
    }

    fn get(&mut self, path: &str, status: u16) -> Result<Answer, Failure> {
        let had_come = self.witness.has_seen_file(path);
        let answer = self.browser.get(path)?;
        self.judged(path, had_come, status, answer)
    }

    /// Sends the form that was shown at `path`, with the token that it held.
    fn submit(
        &mut self,
        path: &str,
        shown: &Answer,
        form: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let token = shown.hidden(TOKEN).first().copied();
        let token = token.ok_or_else(|| self.wrong(path, "a form without a token", shown))?;
        let mut fields = vec![(TOKEN, token)];
        fields.extend(form);
        let answer = self.browser.post(path, &fields)?;
        self.judged(path, false, 302, answer)
    }

    fn judged(
        &self,
        path: &str,
        had_come: bool,
        status: u16,
        answer: Answer,
    ) -> Result<Answer, Failure> {
        self.witness.saw(self.viewer, path, had_come, &answer);
        if answer.status == status {
            return Ok(answer);
        }
        Err(self.wrong(path, &format!("expected {status}"), &answer))
    }

    /// A page that must show its viewer something of their own: else nobody could see a leak.
    fn own_page(&mut self, path: &str, holding: &str) -> Result<Answer, Failure> {
        let answer = self.get(path, 200)?;
        if answer.body.contains(holding) {
            return Ok(answer);
        }
        Err(self.wrong(path, &format!("a page without {holding:?}"), &answer))
    }

    fn log_in(&mut self) -> Result<Answer, Failure> {
        let form = self.get(LOGIN, 200)?;
        let name = self.viewer.name();
        let password = format!("{name} has a password");
        let fields = [
            ("username", name),
            ("password", password.as_str()),
            ("next", "/admin/"),
        ];
        self.submit(LOGIN, &form, &fields)
    }

    fn log_out(&mut self, shown: &Answer) -> Result<(), Failure> {
        // The answer says goodbye with 200: the form is sent by hand for its status.
        let token = shown
            .hidden(TOKEN)
            .first()
            .copied()
            .unwrap_or_default()
            .to_owned();
        let answer = self.browser.post("/admin/logout/", &[(TOKEN, &token)])?;
        self.judged("/admin/logout/", false, 200, answer)?;
        self.get("/admin/", 302).map(drop)
    }

    fn is_logged_in(&self) -> bool {
        self.browser.cookies.contains_key("sessionid")
    }

    fn wrong(&self, path: &str, what: &str, answer: &Answer) -> Failure {
        let status = answer.status;
        let start: String = answer.body.chars().take(300).collect();
        Failure::new(format!(
            "{} at {path}: {what}; came {status}: {start}",
            self.viewer.name()
        ))
    }
}

/// One after another, for the transcript: who asked for what, and what the edge said of it.
pub(super) fn first_walk(visits: &mut [Visit<'_>; 3]) -> Result<String, Failure> {
    let [alice, boris, visitor] = visits;
    let mut lines = String::new();
    let mut show = |viewer, method, path, answer: Answer, seen: &str| {
        lines.push_str(&line(viewer, method, path, &answer, seen));
    };
    let css = FILES[0];
    for _ in 0..2 {
        show(Viewer::Visitor, "GET", css, visitor.get(css, 200)?, "");
    }
    show(
        Viewer::Visitor,
        "GET",
        "/admin/",
        visitor.get("/admin/", 302)?,
        "to the login page",
    );
    for member in [alice, boris] {
        let viewer = member.viewer;
        let first = viewer.words()[1];
        let welcome = format!("Welcome, {first}");
        show(viewer, "POST", LOGIN, member.log_in()?, "logged in");
        show(
            viewer,
            "GET",
            "/admin/",
            member.own_page("/admin/", first)?,
            &welcome,
        );
        show(viewer, "GET", css, member.get(css, 200)?, "");
    }
    show(
        Viewer::Visitor,
        "GET",
        "/admin/",
        visitor.get("/admin/", 302)?,
        "to the login page",
    );
    Ok(lines)
}

fn line(viewer: Viewer, method: &str, path: &str, answer: &Answer, seen: &str) -> String {
    let mut line = format!("{:<8}{method:<5}{path:<34}{}", viewer.name(), answer.status);
    if !seen.is_empty() {
        line.push_str(&format!("  {seen}"));
    }
    line.push('\n');
    for name in ["cache-control", "cache-status"] {
        let value = answer.headers_named(name).collect::<Vec<_>>().join(", ");
        if !value.is_empty() {
            line.push_str(&format!("            {name}: {value}\n"));
        }
    }
    line
}

/// What one viewer does in a round of the crowd.
pub(super) fn crowd_round(visit: &mut Visit<'_>, round: usize) -> Result<(), Failure> {
    match visit.viewer {
        Viewer::Visitor => visitor_round(visit)?,
        Viewer::Alice | Viewer::Boris => member_round(visit, round)?,
    }
    // Members carry their cookies to the static files, as browsers do.
    for path in FILES {
        visit.get(path, 200)?;
    }
    Ok(())
}

fn member_round(visit: &mut Visit<'_>, round: usize) -> Result<(), Failure> {
    if !visit.is_logged_in() {
        visit.log_in()?;
    }
    let [name, first, last] = visit.viewer.words() else {
        return Err(Failure::new("only members have pages of their own"));
    };
    let mail = format!("{name}.{}@example.test", last.to_lowercase());
    let id = if visit.viewer == Viewer::Alice { 1 } else { 2 };
    let group = format!("/admin/auth/group/{id}/");

    let home = visit.own_page("/admin/", first)?;
    visit.own_page(&format!("/admin/auth/user/?username={name}"), &mail)?;
    visit.own_page(&format!("/admin/auth/user/{id}/change/"), &mail)?;
    visit.own_page(&format!("/admin/auth/user/{id}/history/"), first)?;
    visit.own_page("/admin/password_change/", first)?;
    visit.own_page("/admin/auth/group/", first)?;
    if round.is_multiple_of(CHANGE_EVERY) {
        let path = format!("{group}change/");
        let form = visit.own_page(&path, first)?;
        let circle = format!("Reading circle {id} since round {round}");
        visit.submit(&path, &form, &[("name", &circle), ("_save", "Save")])?;
    }
    // Who changed it is named there, with their full name.
    visit.own_page(&format!("{group}history/"), last)?;
    if round % LOG_OUT_EVERY == LOG_OUT_EVERY - 1 {
        visit.log_out(&home)?;
    }
    Ok(())
}

/// The same pages, by one who may not see them.
fn visitor_round(visit: &mut Visit<'_>) -> Result<(), Failure> {
    visit.get("/admin/", 302)?;
    visit.get(LOGIN, 200)?;
    for path in [
        "/admin/auth/user/1/change/",
        "/admin/auth/user/2/change/",
        "/admin/password_change/",
    ] {
        visit.get(path, 302)?;
    }
    visit.get("/admin/auth/group/", 302)?;

    visit.get("/none/", 404).map(drop)
}

const LOGIN: &str = "/admin/login/?next=/admin/";
const FILES: [&str; 5] = [
    "/static/admin/css/base.css",
    "/static/admin/css/login.css",
    "/static/admin/js/theme.js",
    "/static/admin/img/icon-yes.svg",
    "/static/admin/js/nav_sidebar.js",
];
const CHANGE_EVERY: usize = 10;
const LOG_OUT_EVERY: usize = 4;
