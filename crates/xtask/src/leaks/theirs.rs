//! The caches that people run today, under one of their configurations, as caches for scripts.
//!
//! Never changes what a script says, nor a configuration: a peer gets what it earns.
//!
//! Invariant: the cache that answers is the one that was started. Its warm-up must have reached the
//! origin of this very cell, or the cell is void.

use std::net::SocketAddr;

use super::cache::{Cache, Running};
use super::script::Script;
use crate::peers::{self, Peer};

/// A peer under one of its configurations.
#[derive(Clone, Copy)]
pub(crate) struct Theirs {
    pub(crate) peer: &'static Peer,
    pub(crate) configuration: &'static str,
}

impl Theirs {
    /// What a policy of a script means for it. `default` and `careless` are words for our edge: here
    /// both are the configuration under which the cell runs. A policy of the script's own is the
    /// script's text for this peer or, where it has none, what an expert would have written.
    fn text(&self, script: &Script, policy: &str) -> String {
        let named = |name| {
            let text = self.peer.configuration(name);
            text.expect("every peer has all configurations")
        };
        if matches!(policy, "default" | "careless") {
            return named(self.configuration).to_owned();
        }
        match own(script, policy, self.peer.name) {
            // HAProxy takes a text without its last line feed for one that was cut off.
            Some(text) => format!("{text}\n"),
            None => named("expert").to_owned(),
        }
    }
}

/// The text that a script's own policy has for a cache.
pub(crate) fn own<'a>(script: &'a Script, policy: &str, cache: &str) -> Option<&'a str> {
    let policy = script.policies.iter().find(|p| p.name == policy)?;
    let (_, text) = policy.texts.iter().find(|(name, _)| name == cache)?;
    Some(text)
}

impl Cache for Theirs {
    fn name(&self) -> &'static str {
        self.peer.name
    }

    fn is_ours(&self) -> bool {
        false
    }

    fn start(
        &self,
        origin: SocketAddr,
        script: &Script,
        policy: &str,
    ) -> Result<Box<dyn Running>, String> {
        let text = self.text(script, policy);
        let running = self.peer.start(origin, &text);
        Ok(Box::new(Process {
            theirs: *self,
            running: running.map_err(|failure| failure.to_string())?,
        }))
    }
}

struct Process {
    theirs: Theirs,
    running: peers::Running,
}

impl Running for Process {
    fn address(&self) -> SocketAddr {
        self.running.address()
    }

    fn tls_address(&self) -> Option<SocketAddr> {
        self.running.tls_address()
    }

    fn reload(&mut self, script: &Script, policy: &str) -> Result<(), String> {
        let text = self.theirs.text(script, policy);
        let reloaded = self.running.reload(&text);
        reloaded.map_err(|failure| failure.to_string())
    }
}
