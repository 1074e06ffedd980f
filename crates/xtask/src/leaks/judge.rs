//! The judge: knows tokens and who was given which bytes, and nothing of any cache.

use std::collections::BTreeMap;

use super::client::Delivered;
use super::token::{self, MEMBERS, MINTED, NOBODY, TENANT};

/// A token where it must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leak {
    /// Which exchange, by its place.
    pub(crate) exchange: usize,
    /// The number of the origin's answer that the token comes from; 0: a viewer sent it.
    pub(crate) number: u64,
    pub(crate) what: String,
    /// It is from before a change, and may be the viewer's own or nobody's all the same.
    pub(crate) is_old: bool,
}

/// Every leak in what was delivered.
pub(crate) fn judge(nonce: &str, delivered: &[Delivered]) -> Vec<Leak> {
    let mut leaks = Vec::new();
    // Who was first given what was made for one answer only.
    let mut minted: BTreeMap<u64, String> = BTreeMap::new();
    for (exchange, d) in delivered.iter().enumerate() {
        let viewer = &d.viewer;
        let own = token::find(nonce, &d.sent);
        for token in token::find(nonce, &d.content) {
            let number = token.number;
            let mut leak = |what: String, is_old: bool| {
                leaks.push(Leak {
                    exchange,
                    number,
                    what,
                    is_old,
                });
            };
            if d.too_old.is_some_and(|floor| number > 0 && number <= floor) {
                leak(
                    format!("{viewer} was given an answer from before the change"),
                    true,
                );
            }
            // What a viewer sends may come back to it.
            if own.contains(&token) || token.owner == NOBODY {
                continue;
            }
            if token.owner == MINTED {
                let first = minted.entry(number).or_insert_with(|| viewer.clone());
                if first != viewer {
                    leak(
                        format!("{viewer} was given what was minted for {first}"),
                        false,
                    );
                }
            } else if token.owner.starts_with(TENANT) {
                if !d.tenants.contains(&token.owner) {
                    leak(
                        format!(
                            "{viewer} asked {} and was given a page of {}",
                            d.tenants.join(", "),
                            token.owner
                        ),
                        false,
                    );
                }
            } else if let Some(names) = token.owner.strip_prefix(MEMBERS) {
                if !names.split('-').any(|name| name == viewer) {
                    leak(
                        format!("{viewer} was given what is for {names} alone"),
                        false,
                    );
                }
            } else if token.owner != *viewer {
                leak(
                    format!("{viewer} was given what belongs to {}", token.owner),
                    false,
                );
            }
        }
    }
    leaks
}
