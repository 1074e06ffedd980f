//! A site with logins, as its origin sees it: whose each session is, changed by one request after
//! another, whichever way those come in and their answers go out.
//!
//! It declares every change of a session's viewer, as the origin contract asks; and now and then it
//! answers, on purpose, as somebody else.

use std::collections::BTreeMap;

use crate::rng::Rng;

/// A member's number.
pub(super) type Member = u64;
/// A session cookie's value.
pub(super) type Sid = u64;

/// What the edge has been told of sessions, as far as a bystander can say.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<Sid, ToldOf>);

#[derive(Clone, Copy, Debug, Default)]
struct ToldOf {
    /// Since when its viewer is known.
    since: Option<u64>,
    /// Until when a lost request may change it.
    unsure_until: u64,
    /// The session in whose place it is: what was lost of that one may have changed this.
    came_from: Option<Sid>,
    /// Another took its place.
    is_replaced: bool,
}

impl Told {
    fn of(&self, sid: Sid) -> ToldOf {
        self.0.get(&sid).copied().unwrap_or_default()
    }

    /// Whether an answer may name anybody: another session took this one's place, or something lost may
    /// still change whose it is.
    pub(super) fn is_unsure(&self, sid: Sid, now: u64) -> bool {
        let mut line = std::iter::successors(Some(sid), |sid| self.of(*sid).came_from);
        self.of(sid).is_replaced || line.any(|sid| self.of(sid).unsure_until > now)
    }

    /// Whether its viewer was known before `begun`, and is so at `now`.
    pub(super) fn is_known(&self, sid: Sid, begun: u64, now: u64) -> bool {
        self.of(sid).since.is_some_and(|since| since < begun) && !self.is_unsure(sid, now)
    }

    /// A request that may change it got lost.
    pub(super) fn lost(&mut self, sid: Sid, until: u64) {
        let told = self.0.entry(sid).or_default();
        told.unsure_until = told.unsure_until.max(until);
    }

    /// An answer to a request with the session `asked` was shown, and says or sets what it does.
    pub(super) fn take(&mut self, asked: Option<Sid>, answer: &Answer, at: u64) {
        let sid = answer.sets.or(asked);
        match (answer.turn, sid) {
            (Some("start"), Some(new)) => {
                let old = asked.filter(|old| *old != new);
                let told = self.0.entry(new).or_default();
                told.since = Some(at);
                told.came_from = told.came_from.or(old);
                if let Some(old) = old {
                    self.0.entry(old).or_default().is_replaced = true;
                }
            }
            (Some("end"), Some(sid)) => self.0.entry(sid).or_default().since = None,
            (None, Some(sid)) if answer.viewer.is_some() => {
                self.0.entry(sid).or_default().since.get_or_insert(at);
            }
            _ => {}
        }
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    View,
    /// The session gets a new cookie, and stays its member's.
    Rotate,
    /// Under the cookie that there is, if there is one.
    Switch(Member),
    /// Under a new one.
    Login(Member),
    Logout,
}

impl What {
    /// Whether it may change whose a session is; all else is asked with `GET`.
    pub(super) const fn acts(self) -> bool {
        !matches!(self, Self::View | Self::Rotate)
    }
}

/// What the origin says in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) viewer: Option<Member>,
    pub(super) owner: Option<(Member, &'static str)>,
    pub(super) turn: Option<&'static str>,
    pub(super) sets: Option<Sid>,
    /// The session's cookie is taken away.
    pub(super) drops: bool,
}

impl Answer {
    /// Header fields, one after another.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if let Some(viewer) = self.viewer {
            fields.push(("shikiri-viewer", format!("m{viewer}")));
        }
        if let Some((owner, seen_as)) = self.owner {
            fields.push(("shikiri-owner", format!("m{owner}{seen_as}")));
        }
        if let Some(turn) = self.turn {
            fields.push(("shikiri-session", turn.to_owned()));
        }
        if let Some(sid) = self.sets {
            fields.push((
                "set-cookie",
                format!("sid={}; Path=/; HttpOnly", cookie(sid)),
            ));
        }
        if self.drops {
            fields.push(("set-cookie", "sid=; Max-Age=0; Path=/".to_owned()));
        }
        fields
    }
}

/// A session's cookie on the wire.
pub(super) fn cookie(sid: Sid) -> String {
    format!("{sid:016x}")
}

/// The origin's state.
#[derive(Debug, Default)]
pub(super) struct Site {
    sessions: BTreeMap<Sid, Member>,
    made: Sid,
}

impl Site {
    fn new_session(&mut self, member: Member) -> Sid {
        self.made += 1;
        let sid = crate::rng::mix(self.made);
        self.sessions.insert(sid, member);
        sid
    }

    /// Takes up one request of a session, and answers.
    pub(super) fn answer(&mut self, rng: &mut Rng, sid: Option<Sid>, what: What) -> Answer {
        let member = sid.and_then(|sid| self.sessions.get(&sid).copied());
        match (what, sid, member) {
            (What::Switch(to), Some(sid), Some(_)) => {
                self.sessions.insert(sid, to);
                let mut answer = Answer {
                    viewer: Some(to),
                    turn: Some("start"),
                    ..Answer::default()
                };
                // Some say the same cookie again.
                answer.sets = rng.percent(30).then_some(sid);
                answer
            }
            (What::Switch(to) | What::Login(to), ..) => {
                // Some kill the session before, some leave it as it was.
                if let Some(sid) = sid.filter(|_| rng.percent(50)) {
                    self.sessions.remove(&sid);
                }
                Answer {
                    viewer: Some(to),
                    turn: Some("start"),
                    sets: Some(self.new_session(to)),
                    ..Answer::default()
                }
            }
            (What::Logout, sid, _) => {
                if let Some(sid) = sid {
                    self.sessions.remove(&sid);
                }
                Answer {
                    turn: Some("end"),
                    drops: rng.percent(70),
                    ..Answer::default()
                }
            }
            (What::Rotate, Some(sid), Some(member)) => {
                if rng.percent(50) {
                    self.sessions.remove(&sid);
                }
                Answer {
                    viewer: Some(member),
                    turn: Some("start"),
                    sets: Some(self.new_session(member)),
                    ..Answer::default()
                }
            }
            (What::View | What::Rotate, ..) => Answer {
                viewer: member,
                owner: member.and_then(|member| shown(rng, member)),
                ..Answer::default()
            },
        }
    }
}

/// Whose data a page shows: mostly the viewer's own.
fn shown(rng: &mut Rng, member: Member) -> Option<(Member, &'static str)> {
    match rng.below(10) {
        0..4 => Some((member, "")),
        4 => Some((member + 1, "; as=public")),
        5 => Some((member + 1, "; as=shared")),
        6 => Some((member + 1, "; as=staff")),
        _ => None,
    }
}
