//! Who may do what over the admin interface.
//!
//! [`check`] is the one place where it is decided. What is done takes a [`By`] that only `check`
//! makes, so that nothing can be done around it. Invariant: what a scope allows is never more than
//! what the socket's owner may do, and no scope opens: a canary may close, never open.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::token::Bearer;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read status and metrics.
    Read,
    /// Purge.
    Purge,
    /// Make and end preview grants.
    Preview,
    /// Close the site. Not: open it.
    Close,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Read, Self::Purge, Self::Preview, Self::Close];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Purge => "purge",
            Self::Preview => "preview",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("`{text}` is no scope: write read, purge, preview or close"))
    }
}

/// What a request over the admin interface needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: whether the node is up is no secret.
    Nothing,
    /// Somebody with this scope, or the owner.
    Scope(Scope),
    /// The owner of the control socket, and no token.
    Owner,
}

impl Needs {
    /// Whether what is asked for changes anything.
    pub(super) const fn changes(self) -> bool {
        !matches!(self, Self::Nothing | Self::Scope(Scope::Read))
    }
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket, whose file and peer check let the owner through alone.
    Unix {
        /// The user at the other end.
        uid: u32,
    },
    /// The TCP listener.
    Tcp {
        /// Whether tokens may change something here.
        changes: bool,
        /// Whether everybody who reaches it may read: it listens on a loopback address alone.
        readable: bool,
    },
}

/// Somebody who was found to be allowed what they ask for.
#[derive(Debug)]
#[must_use]
pub struct By(Actor);

/// Who it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A user of this host, over the control socket.
    Owner {
        /// The user's id.
        uid: u32,
    },
    /// Somebody with a token of this name.
    Token(String),
    /// Whoever sent this process a signal: its owner, or the service manager.
    Signal,
    /// Whoever changed a file that is watched.
    Watch,
    /// Somebody who asked for what needs nothing.
    Anyone,
}

impl By {
    /// Who it was.
    #[must_use]
    pub const fn actor(&self) -> &Actor {
        &self.0
    }
}

impl Actor {
    /// As the timeline names them. A user has a name as far as this host knows one.
    #[must_use]
    pub fn on_record(&self) -> shikiri_record::Actor {
        use shikiri_record::Actor as OnRecord;
        match self {
            Self::Owner { uid } => OnRecord::User {
                uid: *uid,
                name: user_name(*uid).unwrap_or_default(),
            },
            Self::Token(name) => OnRecord::Token { name: name.clone() },
            // Nobody says whose signal or file it was.
            Self::Signal | Self::Watch | Self::Anyone => OnRecord::Node,
        }
    }
}

/// The name of a user, from where every host of this kind keeps those that are its own.
fn user_name(uid: u32) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_meant = fields.nth(1)?.parse() == Ok(uid);
        is_meant.then(|| name.to_owned())
    })
}

/// As it is written in logs.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner { uid } => write!(f, "user {uid}"),
            Self::Token(name) => write!(f, "token {name}"),
            Self::Signal => f.write_str("signal"),
            Self::Watch => f.write_str("file"),
            Self::Anyone => f.write_str("anyone"),
        }
    }
}

/// Why somebody is not allowed what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("this needs a token: send `Authorization: Bearer …`")]
    NeedsToken,
    #[error("this needs a token of scope `{0}`; `shikiri token list` shows what each may")]
    NeedsScope(Scope),
    #[error("this is for the control socket's owner alone, not for a token")]
    OwnersAlone,
    #[error(
        "this listener changes nothing: use the control socket, or say `changes = true` in [admin]"
    )]
    ReadOnly,
}

/// Decides whether a request is allowed. Who shows a token acts with its scopes alone, also on the
/// control socket.
pub(super) fn check(door: Door, bearer: Option<Bearer>, needs: Needs) -> Result<By, Denied> {
    if let Door::Tcp { changes: false, .. } = door
        && needs.changes()
    {
        return Err(Denied::ReadOnly);
    }
    match (needs, bearer, door) {
        (Needs::Nothing, _, _) => Ok(By(Actor::Anyone)),
        (Needs::Owner, Some(_), _) | (Needs::Owner, None, Door::Tcp { .. }) => {
            Err(Denied::OwnersAlone)
        }
        (Needs::Scope(scope), Some(bearer), _) => {
            if bearer.has(scope) {
                Ok(By(Actor::Token(bearer.into_name())))
            } else {
                Err(Denied::NeedsScope(scope))
            }
        }
        (Needs::Owner | Needs::Scope(_), None, Door::Unix { uid }) => Ok(By(Actor::Owner { uid })),
        (Needs::Scope(Scope::Read), None, Door::Tcp { readable: true, .. }) => {
            Ok(By(Actor::Anyone))
        }
        (Needs::Scope(_), None, Door::Tcp { .. }) => Err(Denied::NeedsToken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: Door = Door::Unix { uid: 7 };
    const LOCAL: Door = Door::Tcp {
        changes: false,
        readable: true,
    };
    const PUBLIC: Door = Door::Tcp {
        changes: false,
        readable: false,
    };
    const CHANGING: Door = Door::Tcp {
        changes: true,
        readable: false,
    };

    #[test]
    fn everything_is_decided_in_one_table() {
        use Needs::{Nothing, Owner, Scope as S};
        use Scope::{Close, Preview, Purge, Read};
        for (door, scopes, needs, allowed) in [
            // The owner of the socket may everything.
            (UNIX, None, Nothing, true),
            (UNIX, None, S(Read), true),
            (UNIX, None, S(Purge), true),
            (UNIX, None, S(Close), true),
            (UNIX, None, Owner, true),
            // A token may what its scopes say, wherever it is shown, and is never the owner.
            (UNIX, Some(&[Close][..]), S(Close), true),
            (UNIX, Some(&[Close]), S(Read), false),
            (UNIX, Some(&[Close, Purge, Preview, Read]), Owner, false),
            (UNIX, Some(&[]), Nothing, true),
            // A listener on loopback is read by whoever is on the host, and changes nothing.
            (LOCAL, None, Nothing, true),
            (LOCAL, None, S(Read), true),
            (LOCAL, None, S(Purge), false),
            (LOCAL, None, Owner, false),
            (LOCAL, Some(&[Close]), S(Close), false),
            (LOCAL, Some(&[Close]), S(Read), false),
            // A public one is read with a token.
            (PUBLIC, None, Nothing, true),
            (PUBLIC, None, S(Read), false),
            (PUBLIC, Some(&[Read]), S(Read), true),
            (PUBLIC, Some(&[Purge]), S(Purge), false),
            // Where it may change, a token is needed, of the right scope.
            (CHANGING, None, S(Close), false),
            (CHANGING, Some(&[Close]), S(Close), true),
            (CHANGING, Some(&[Close]), S(Purge), false),
            (CHANGING, Some(&[Close]), S(Preview), false),
            (CHANGING, Some(&[Preview]), S(Preview), true),
            (CHANGING, Some(&[Close, Purge, Preview, Read]), Owner, false),
            (CHANGING, None, Owner, false),
        ] {
            let bearer = scopes.map(|scopes| Bearer::test("canary", scopes));
            let by = check(door, bearer, needs);
            assert_eq!(by.is_ok(), allowed, "{door:?} {scopes:?} {needs:?}");
        }
    }

    #[test]
    fn who_it_was_is_known_by_name() {
        let by = check(
            UNIX,
            Some(Bearer::test("canary", &[Scope::Close])),
            Needs::Scope(Scope::Close),
        );
        assert_eq!(by.unwrap().actor().to_string(), "token canary");
        let by = check(UNIX, None, Needs::Owner);
        assert_eq!(by.unwrap().actor().to_string(), "user 7");
    }
}
