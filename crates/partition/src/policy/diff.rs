//! What changes from one set of rules to another, and whose stored objects die of it.

use std::collections::BTreeSet;
use std::fmt;

use super::describe;
use crate::rules::{Class, Rules};

/// One field's change, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field, as the language names it.
    pub field: String,
    /// What it was.
    pub old: String,
    /// What it becomes.
    pub new: String,
}

/// One change between two sets of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What hosts go where.
    Origin(Difference),
    /// Who counts as a member.
    Session(Difference),
    /// Requests become personal whatever a class says.
    PersonalAdded(String),
    /// Requests are no longer personal whatever a class says.
    PersonalRemoved(String),
    /// A class that was not there.
    ClassAdded {
        /// Its name.
        name: String,
    },
    /// A class that is gone, and its objects with it.
    ClassRemoved {
        /// Its name.
        name: String,
    },
    /// A class has another name. Its objects live on if its meaning is the same.
    ClassRenamed {
        /// What it was called.
        from: String,
        /// What it is called.
        to: String,
        /// Whether its meaning changed by what it shares with others: who counts as a member.
        objects_die: bool,
    },
    /// A class means something else, and its objects die. No differences of its own: who counts as a
    /// member, or what is personal, changed.
    ClassChanged {
        /// Its name.
        name: String,
        /// What changed in it.
        differences: Vec<Difference>,
    },
    /// A class is one of static files now, or no longer. Objects live on.
    ClassStatic {
        /// Its name.
        name: String,
        /// Whether mode `static` shares it now.
        is_static: bool,
    },
    /// A class means the same, and its objects live on.
    ClassKept {
        /// Its name.
        name: String,
    },
    /// The classes that are in both are tried in another order. Objects live on, but another class
    /// may claim a request.
    ClassesReordered {
        /// The names, in the new order.
        order: Vec<String>,
    },
    /// What is held against an origin's word about viewers.
    Pins(Difference),
    /// A limit.
    Limit(Difference),
}

impl Change {
    /// Whether stored objects can no longer be named after it.
    #[must_use]
    pub const fn objects_die(&self) -> bool {
        match self {
            Self::Origin(_) | Self::ClassRemoved { .. } | Self::ClassChanged { .. } => true,
            Self::ClassRenamed { objects_die, .. } => *objects_die,
            Self::Session(_)
            | Self::PersonalAdded(_)
            | Self::PersonalRemoved(_)
            | Self::ClassAdded { .. }
            | Self::ClassStatic { .. }
            | Self::ClassKept { .. }
            | Self::ClassesReordered { .. }
            | Self::Pins(_)
            | Self::Limit(_) => false,
        }
    }
}

/// What changes from one set of rules to another. Classes that stay are listed too, so that every
/// class of either is named once.
#[must_use]
pub fn diff(old: &Rules, new: &Rules) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(
        differences(&origins(old), &origins(new))
            .into_iter()
            .map(Change::Origin),
    );
    let (was, is) = (
        named(describe::session(&old.session)),
        named(describe::session(&new.session)),
    );
    changes.extend(differences(&was, &is).into_iter().map(Change::Session));
    let personal = |rules: &Rules| {
        rules
            .personal
            .iter()
            .map(describe::matching)
            .collect::<BTreeSet<_>>()
    };
    let (was, is) = (personal(old), personal(new));
    changes.extend(is.difference(&was).cloned().map(Change::PersonalAdded));
    changes.extend(was.difference(&is).cloned().map(Change::PersonalRemoved));
    classes(old, new, &mut changes);
    let (was, is) = (
        named(describe::pins(&old.pins)),
        named(describe::pins(&new.pins)),
    );
    changes.extend(differences(&was, &is).into_iter().map(Change::Pins));
    let (was, is) = (
        named(describe::limits(&old.limits)),
        named(describe::limits(&new.limits)),
    );
    changes.extend(differences(&was, &is).into_iter().map(Change::Limit));
    changes
}

fn classes(old: &Rules, new: &Rules, changes: &mut Vec<Change>) {
    let renamed = |class: &Class| {
        let same = |other: &&std::sync::Arc<Class>| {
            new.class(&other.name).is_none() && describe::class(other) == describe::class(class)
        };
        if old.class(&class.name).is_some() {
            None
        } else {
            old.classes.iter().find(same)
        }
    };
    for class in &new.classes {
        let name = class.name.clone();
        changes.push(match (old.class(&name), renamed(class)) {
            (Some(before), _) if before.digest == class.digest => Change::ClassKept { name },
            (Some(before), _) => Change::ClassChanged {
                name,
                differences: differences(
                    &named(describe::class(before)),
                    &named(describe::class(class)),
                ),
            },
            (None, Some(before)) => Change::ClassRenamed {
                from: before.name.clone(),
                to: name,
                objects_die: before.digest != class.digest,
            },
            (None, None) => Change::ClassAdded { name },
        });
        let before = old.class(&class.name).or_else(|| renamed(class));
        if before.is_some_and(|before| before.is_static != class.is_static) {
            changes.push(Change::ClassStatic {
                name: class.name.clone(),
                is_static: class.is_static,
            });
        }
    }
    let gone = |class: &&std::sync::Arc<Class>| {
        new.class(&class.name).is_none()
            && !new
                .classes
                .iter()
                .any(|n| renamed(n).is_some_and(|o| o.name == class.name))
    };
    for class in old.classes.iter().filter(gone) {
        changes.push(Change::ClassRemoved {
            name: class.name.clone(),
        });
    }
    let in_both = |one: &Rules, other: &Rules| {
        let names = one.classes.iter().map(|class| class.name.clone());
        names
            .filter(|name| other.class(name).is_some())
            .collect::<Vec<_>>()
    };
    let order = in_both(new, old);
    if order != in_both(old, new) {
        changes.push(Change::ClassesReordered { order });
    }
}

/// Each host pattern and where it goes.
fn origins(rules: &Rules) -> Vec<(String, String)> {
    let mut origins: Vec<(String, String)> = rules
        .origins
        .iter()
        .flat_map(|o| {
            o.hosts
                .iter()
                .map(|host| (host.to_string(), describe::origin_shown(o)))
        })
        .collect();
    origins.sort();
    origins
}

fn named(fields: Vec<(&'static str, String)>) -> Vec<(String, String)> {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What differs between two lists of fields. A field that one of them has not is empty there.
fn differences(old: &[(String, String)], new: &[(String, String)]) -> Vec<Difference> {
    let find = |list: &[(String, String)], field: &str| {
        list.iter()
            .find(|(name, _)| name == field)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    let only_new = new
        .iter()
        .filter(|(name, _)| !old.iter().any(|(o, _)| o == name));
    old.iter()
        .chain(only_new)
        .map(|(field, _)| Difference {
            field: field.clone(),
            old: find(old, field),
            new: find(new, field),
        })
        .filter(|difference| difference.old != difference.new)
        .collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &str| {
            if value.is_empty() {
                "(nothing)".to_owned()
            } else {
                value.to_owned()
            }
        };
        write!(
            f,
            "{}: {} -> {}",
            self.field,
            shown(&self.old),
            shown(&self.new)
        )
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(difference) => {
                write!(
                    f,
                    "origin: {difference} (what is stored for these hosts dies)"
                )
            }
            Self::Session(difference) => write!(f, "session: {difference}"),
            Self::PersonalAdded(what) => write!(f, "personal: now also {what}"),
            Self::PersonalRemoved(what) => write!(f, "personal: no longer {what}"),
            Self::ClassAdded { name } => write!(f, "class `{name}`: added"),
            Self::ClassRemoved { name } => write!(f, "class `{name}`: removed; its objects die"),
            Self::ClassRenamed {
                from,
                to,
                objects_die: false,
            } => {
                write!(f, "class `{from}`: renamed to `{to}`; its objects live on")
            }
            Self::ClassRenamed {
                from,
                to,
                objects_die: true,
            } => {
                write!(
                    f,
                    "class `{from}`: renamed to `{to}`; its objects die, since members or personal requests are told by other signs"
                )
            }
            Self::ClassChanged { name, differences } if differences.is_empty() => {
                write!(
                    f,
                    "class `{name}`: its objects die, since members or personal requests are told by other signs"
                )
            }
            Self::ClassChanged { name, differences } => {
                write!(f, "class `{name}`: changed; its objects die")?;
                for difference in differences {
                    write!(f, "\n  {difference}")?;
                }
                Ok(())
            }
            Self::ClassStatic { name, is_static } => {
                let shared = if *is_static { "now" } else { "no longer" };
                write!(f, "class `{name}`: {shared} shared in mode `static`")
            }
            Self::ClassKept { name } => write!(f, "class `{name}`: unchanged; its objects live on"),
            Self::ClassesReordered { order } => {
                write!(
                    f,
                    "classes are tried in another order: {}",
                    order.join(", ")
                )
            }
            Self::Pins(difference) => write!(f, "pins: {difference}"),
            Self::Limit(difference) => write!(f, "limit: {difference}"),
        }
    }
}
