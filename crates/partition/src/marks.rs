//! Marks: what was purged, or made stale, and from which place in a node's order on.
//!
//! A purge does not search and delete: it marks a URI, a prefix, a tag or a group at a place in the order,
//! and whatever began before that place is dead wherever it turns up, also a fill that is still running. So
//! a purge is complete however many variants and copies there are, and nothing comes back after it.
//!
//! Bounded: when there are too many marks, the oldest are forgotten by raising a floor to them. That makes
//! more dead, or stale, than was asked for, never less. Invalidations come from anybody who may send an
//! unsafe method, so their overflow only makes stale, and forgets no purge.

use std::collections::BTreeMap;
use std::ops::Bound;

use shikiri_record::{Digest, Order, PurgeTarget};

use crate::invalidate::Invalidation;
use crate::labels::{Labels, Names};

/// Marks kept at most.
const MARKS_MAX: usize = 65_536;

/// Bytes that the names in them may take.
const NAME_BYTES_MAX: usize = 16 << 20;

/// What an object's place in the order means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing came after it was begun.
    Live,
    /// An unsafe method came after it was begun: the origin must be asked.
    Stale,
    /// A purge came after it was begun.
    Dead,
}

/// What of an object the marks are held against.
#[derive(Clone, Copy, Debug)]
pub struct Marked<'a> {
    /// The name of its URI, as [`Key::name`](crate::Key::name) gives it.
    pub uri: &'a str,
    /// The URI's digest under the node's own key: for marks that do not tell their URI, when there are
    /// any ([`Marks::name_nobody`]).
    pub uri_digest: Option<Digest>,
    /// Its labels.
    pub labels: &'a Labels,
    /// Where it began.
    pub order: Order,
}

/// What began before these places is dead, or stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    dead: u64,
    stale: u64,
}

impl Mark {
    const fn dead(at: Order) -> Self {
        Self {
            dead: at.0,
            stale: 0,
        }
    }

    const fn stale(at: Order) -> Self {
        Self {
            dead: 0,
            stale: at.0,
        }
    }

    fn raise(&mut self, other: Self) {
        self.dead = self.dead.max(other.dead);
        self.stale = self.stale.max(other.stale);
    }
}

/// All marks.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// By the URI, or by its digest.
    uris: BTreeMap<Box<[u8]>, Mark>,
    digests: bool,
    prefixes: BTreeMap<Box<[u8]>, Mark>,
    /// By [`label`].
    labels: BTreeMap<Box<[u8]>, Mark>,
    /// The newest marks by a tag, and by a group: what counts for an object of whose labels not all could
    /// be read.
    any_tag: Mark,
    any_group: Mark,
    name_bytes: usize,
    /// Under everything.
    floor: Mark,
    newest: u64,
}

/// A label of a kind in a scope: an authority, an origin (`scheme://authority`), or everywhere (empty).
/// None of the three holds a line's end.
fn label(kind: &str, name: &str, scope: &str) -> Vec<u8> {
    [kind, name, scope].join("\n").into_bytes()
}

const TAG: &str = "tag";
const GROUP: &str = "group";
const EVERYWHERE: &str = "";

impl Marks {
    /// No marks: everything lives.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest mark. What began after it is live, whatever it is.
    #[must_use]
    pub const fn newest(&self) -> Order {
        Order(self.newest)
    }

    /// Whether there are marks that do not tell their URI, so that its digest is needed to find them.
    #[must_use]
    pub const fn name_nobody(&self) -> bool {
        self.digests
    }

    /// What an object is worth.
    #[must_use]
    pub fn standing(&self, object: &Marked<'_>) -> Standing {
        if object.order.0 > self.newest {
            return Standing::Live;
        }
        let mut mark = self.floor;
        if let Some(found) = self.uris.get(object.uri.as_bytes()) {
            mark.raise(*found);
        }
        if let Some(digest) = &object.uri_digest
            && let Some(found) = self.uris.get(digest.as_bytes().as_slice())
        {
            mark.raise(*found);
        }
        mark.raise(self.of_prefixes(object.uri.as_bytes()));
        if !self.labels.is_empty() {
            let (origin, authority) = origin_of(object.uri);
            let (tags, groups) = (&object.labels.tags, &object.labels.groups);
            mark.raise(self.of_labels(TAG, tags, [EVERYWHERE, authority], self.any_tag));
            mark.raise(self.of_labels(GROUP, groups, [origin, authority], self.any_group));
        }
        match object.order.0 {
            order if order < mark.dead => Standing::Dead,
            order if order < mark.stale => Standing::Stale,
            _ => Standing::Live,
        }
    }

    /// What a target means, and what began before `at`, is dead.
    pub fn purge(&mut self, target: &PurgeTarget, at: Order) {
        let mark = Mark::dead(at);
        let (place, name) = match target {
            PurgeTarget::All => {
                self.raise_floor(mark);
                self.forget(|mark| mark.dead > at.0);
                return;
            }
            PurgeTarget::Uri(uri) => (Place::Uri, uri.clone().into_bytes()),
            PurgeTarget::UriDigest(digest) => {
                // Never reset: a look too many costs little.
                self.digests = true;
                (Place::Uri, digest.as_bytes().to_vec())
            }
            PurgeTarget::Prefix(prefix) => (Place::Prefix, prefix.clone().into_bytes()),
            PurgeTarget::Tag { tag, host } => {
                self.any_tag.raise(mark);
                let scope = host.as_deref().unwrap_or(EVERYWHERE);
                (Place::Label, label(TAG, tag, scope))
            }
            PurgeTarget::Group { group, host } => {
                self.any_group.raise(mark);
                (Place::Label, label(GROUP, group, host))
            }
        };
        if self.is_full_for(place, &name) {
            self.forget_invalidations();
        }
        while self.is_full_for(place, &name) {
            self.forget_oldest_purges();
        }
        self.put(place, name, mark);
    }

    /// What an unsafe method has changed, and what began before `at`, must be asked about.
    pub fn invalidate(&mut self, what: &Invalidation, at: Order) {
        let mark = Mark::stale(at);
        let (place, name) = match what {
            Invalidation::Uri(uri) => (Place::Uri, uri.clone().into_bytes()),
            Invalidation::Group { group, origin } => {
                self.any_group.raise(mark);
                (Place::Label, label(GROUP, group, origin))
            }
        };
        if self.is_full_for(place, &name) {
            self.forget_invalidations();
        }
        if self.is_full_for(place, &name) {
            // Full of purges, which stay: everything is asked about.
            self.raise_floor(mark);
            return;
        }
        self.put(place, name, mark);
    }

    /// Whatever began before `at` must be asked about.
    pub fn invalidate_all(&mut self, at: Order) {
        self.raise_floor(Mark::stale(at));
    }

    fn of_labels(&self, kind: &str, names: &Names, scopes: [&str; 2], any: Mark) -> Mark {
        let mut mark = Mark::default();
        #[cfg(feature = "seeded-faults")]
        if crate::fault::is(crate::fault::Fault::LabelsIgnored) {
            return mark;
        }
        for name in names.iter() {
            for scope in scopes {
                if let Some(found) = self.labels.get(label(kind, name, scope).as_slice()) {
                    mark.raise(*found);
                }
            }
        }
        if names.are_more {
            mark.raise(any);
        }
        mark
    }

    /// The marks of all prefixes of a URI, in as many steps as there are.
    fn of_prefixes(&self, uri: &[u8]) -> Mark {
        let mut mark = Mark::default();
        let mut end = uri;
        let up_to = |end| (Bound::Unbounded, Bound::Included(end));
        while let Some((prefix, found)) = self.prefixes.range::<[u8], _>(up_to(end)).next_back() {
            let common = prefix.iter().zip(uri).take_while(|(a, b)| a == b).count();
            if common < prefix.len() {
                // Whatever begins like the URI for longer than this one does sorts after it.
                end = &uri[..common];
                continue;
            }
            mark.raise(*found);
            let Some(shorter) = common.checked_sub(1) else {
                break;
            };
            end = &uri[..shorter];
        }
        mark
    }

    fn of(&self, place: Place) -> &BTreeMap<Box<[u8]>, Mark> {
        match place {
            Place::Uri => &self.uris,
            Place::Prefix => &self.prefixes,
            Place::Label => &self.labels,
        }
    }

    fn put(&mut self, place: Place, name: Vec<u8>, mark: Mark) {
        self.newest = self.newest.max(mark.dead).max(mark.stale);
        if !self.of(place).contains_key(name.as_slice()) {
            self.name_bytes += name.len();
        }
        let marks = match place {
            Place::Uri => &mut self.uris,
            Place::Prefix => &mut self.prefixes,
            Place::Label => &mut self.labels,
        };
        marks.entry(name.into()).or_default().raise(mark);
    }

    fn is_full_for(&self, place: Place, name: &[u8]) -> bool {
        let count = self.uris.len() + self.prefixes.len() + self.labels.len();
        // A name longer than all may be together would never have room.
        let bytes = self.name_bytes + name.len().min(NAME_BYTES_MAX);
        !self.of(place).contains_key(name) && (count >= MARKS_MAX || bytes > NAME_BYTES_MAX)
    }

    fn raise_floor(&mut self, mark: Mark) {
        self.newest = self.newest.max(mark.dead).max(mark.stale);
        self.floor.raise(mark);
    }

    /// Makes stale whatever any invalidation might have.
    fn forget_invalidations(&mut self) {
        let newest = self.all().map(|mark| mark.stale).max().unwrap_or(0);
        self.raise_floor(Mark::stale(Order(newest)));
        self.forget(|mark| mark.dead > 0);
    }

    /// Kills whatever the older half of the purges might have.
    fn forget_oldest_purges(&mut self) {
        let mut places: Vec<u64> = self.all().map(|mark| mark.dead).collect();
        places.sort_unstable();
        let half = places.get(places.len() / 2).copied().unwrap_or(0);
        self.raise_floor(Mark::dead(Order(half)));
        self.forget(|mark| mark.dead > half);
    }

    fn all(&self) -> impl Iterator<Item = &Mark> {
        let marks = self.uris.values().chain(self.prefixes.values());
        marks.chain(self.labels.values())
    }

    fn forget(&mut self, keep: impl Fn(&Mark) -> bool) {
        let bytes = &mut self.name_bytes;
        for marks in [&mut self.uris, &mut self.prefixes, &mut self.labels] {
            marks.retain(|name, mark| {
                let stays = keep(mark);
                if !stays {
                    *bytes -= name.len();
                }
                stays
            });
        }
    }
}

/// Where a mark is kept.
#[derive(Clone, Copy)]
enum Place {
    Uri,
    Prefix,
    Label,
}

/// The origin and the authority of a URI: `http://a.test`, `a.test`.
fn origin_of(uri: &str) -> (&str, &str) {
    let from = uri.find("://").map_or(0, |at| at + 3);
    let rest = uri.get(from..).unwrap_or_default();
    let authority = rest.split('/').next().unwrap_or_default();
    let origin = uri.get(..from + authority.len()).unwrap_or_default();
    (origin, authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::headers;

    fn tag(tag: &str, host: Option<&str>) -> PurgeTarget {
        PurgeTarget::Tag {
            tag: tag.into(),
            host: host.map(str::to_owned),
        }
    }

    fn group(group: &str, host: &str) -> PurgeTarget {
        PurgeTarget::Group {
            group: group.into(),
            host: host.into(),
        }
    }

    fn uri(uri: &str) -> PurgeTarget {
        PurgeTarget::Uri(uri.into())
    }

    fn prefix(prefix: &str) -> PurgeTarget {
        PurgeTarget::Prefix(prefix.into())
    }

    const PAGE: &str = "http://a.test/news/1";

    fn standing(marks: &Marks, uri: &str, fields: &str, order: u64) -> Standing {
        let labels = Labels::of(&headers(fields));
        marks.standing(&Marked {
            uri,
            uri_digest: marks.name_nobody().then(|| Digest::of(uri.as_bytes())),
            labels: &labels,
            order: Order(order),
        })
    }

    #[test]
    fn what_a_purge_is_about() {
        let fields = "cache-tag: red, blue\ncache-groups: \"g\"";
        for (target, dead) in [
            (PurgeTarget::All, true),
            (uri(PAGE), true),
            (uri("http://a.test/news/2"), false),
            (PurgeTarget::UriDigest(Digest::of(PAGE.as_bytes())), true),
            (
                PurgeTarget::UriDigest(Digest::of(b"http://a.test/news/2")),
                false,
            ),
            (uri("https://a.test/news/1"), false),
            (uri("http://a.test/news/"), false),
            (prefix("http://a.test/"), true),
            (prefix("http://a.test/news/1"), true),
            (prefix("http://a.test/news/11"), false),
            (prefix("http://a.test/news/0"), false),
            (prefix("http://a.test/n"), true),
            (prefix("https://a.test/"), false),
            (tag("red", None), true),
            (tag("blue", Some("a.test")), true),
            (tag("red", Some("b.test")), false),
            (tag("Red", None), false),
            (tag("g", None), false),
            (group("g", "a.test"), true),
            (group("g", "b.test"), false),
            (group("red", "a.test"), false),
        ] {
            let mut marks = Marks::new();
            marks.purge(&target, Order(5));
            let expected = if dead { Standing::Dead } else { Standing::Live };
            assert_eq!(standing(&marks, PAGE, fields, 4), expected, "{target}");
            assert_eq!(
                standing(&marks, PAGE, fields, 6),
                Standing::Live,
                "{target}"
            );
        }
    }

    #[test]
    fn all_prefixes_of_a_uri_are_found_whatever_lies_between() {
        let mut marks = Marks::new();
        for (n, path) in [
            "", "/", "/news", "/news/", "/news/0", "/news/1a", "/newt", "/m",
        ]
        .into_iter()
        .enumerate()
        {
            let at = Order(u64::try_from(n).expect("few") + 10);
            marks.purge(&prefix(&format!("http://a.test{path}")), at);
        }
        // The newest that is one is `/news/`, at 13.
        assert_eq!(standing(&marks, PAGE, "", 12), Standing::Dead);
        assert_eq!(standing(&marks, PAGE, "", 13), Standing::Live);
        assert_eq!(standing(&marks, "http://a.test/x", "", 10), Standing::Dead);
        assert_eq!(standing(&marks, "http://a.test/x", "", 11), Standing::Live);
        let mut all = Marks::new();
        all.purge(&prefix(""), Order(5));
        assert_eq!(standing(&all, PAGE, "", 4), Standing::Dead);
    }

    #[test]
    fn an_invalidation_makes_stale_and_does_not_undo_a_purge() {
        let mut marks = Marks::new();
        let page = Invalidation::Uri(PAGE.into());
        marks.invalidate(&page, Order(5));
        assert_eq!(standing(&marks, PAGE, "", 4), Standing::Stale);
        marks.purge(&uri(PAGE), Order(6));
        marks.invalidate(&page, Order(7));
        assert_eq!(standing(&marks, PAGE, "", 5), Standing::Dead);
        assert_eq!(standing(&marks, PAGE, "", 6), Standing::Stale);
        assert_eq!(standing(&marks, PAGE, "", 8), Standing::Live);
        marks.invalidate_all(Order(9));
        assert_eq!(standing(&marks, "http://b.test/", "", 8), Standing::Stale);
    }

    #[test]
    fn a_group_is_invalidated_for_its_own_origin_alone() {
        let mut marks = Marks::new();
        let invalidation = Invalidation::Group {
            group: "g".into(),
            origin: "http://a.test".into(),
        };
        marks.invalidate(&invalidation, Order(5));
        for (uri, fields, expected) in [
            (PAGE, "cache-groups: \"g\"", Standing::Stale),
            (PAGE, "cache-groups: \"x\", \"g\"", Standing::Stale),
            (PAGE, "cache-groups: \"G\"", Standing::Live),
            (PAGE, "cache-tag: g", Standing::Live),
            (
                "https://a.test/news/1",
                "cache-groups: \"g\"",
                Standing::Live,
            ),
            ("http://a.test:81/", "cache-groups: \"g\"", Standing::Live),
            ("http://b.test/", "cache-groups: \"g\"", Standing::Live),
        ] {
            assert_eq!(standing(&marks, uri, fields, 4), expected, "{uri} {fields}");
        }
    }

    #[test]
    fn what_cannot_be_read_bears_every_label_of_its_kind() {
        let mut marks = Marks::new();
        marks.purge(&tag("red", Some("b.test")), Order(5));
        assert_eq!(
            standing(&marks, PAGE, "cache-tag: \u{e9}", 4),
            Standing::Dead
        );
        assert_eq!(standing(&marks, PAGE, "cache-groups: ?", 4), Standing::Live);
        marks.purge(&group("g", "b.test"), Order(6));
        assert_eq!(standing(&marks, PAGE, "cache-groups: ?", 4), Standing::Dead);
    }

    #[test]
    fn too_many_purges_kill_more_never_less() {
        let mut marks = Marks::new();
        let count = u64::try_from(MARKS_MAX).expect("few") + 1;
        for n in 1..=count {
            marks.purge(&uri(&format!("http://a.test/{n}")), Order(n));
        }
        for n in 1..=count {
            let its = format!("http://a.test/{n}");
            assert_eq!(standing(&marks, &its, "", n - 1), Standing::Dead, "{n}");
        }
        assert_eq!(
            standing(&marks, PAGE, "", 1),
            Standing::Dead,
            "below the floor"
        );
        assert_eq!(
            standing(&marks, PAGE, "", count - 1),
            Standing::Live,
            "above it"
        );
    }

    #[test]
    fn too_many_invalidations_make_stale_and_forget_no_purge() {
        let mut marks = Marks::new();
        marks.purge(&uri(PAGE), Order(2));
        let long = "x".repeat(8 << 10);
        for n in 0..5000 {
            marks.invalidate(&Invalidation::Uri(format!("{long}{n}")), Order(n + 3));
        }
        assert_eq!(standing(&marks, PAGE, "", 1), Standing::Dead);
        assert_eq!(standing(&marks, "http://b.test/", "", 1), Standing::Stale);
        assert_eq!(standing(&marks, "http://b.test/", "", 6000), Standing::Live);
        let names = marks.uris.keys().chain(marks.prefixes.keys());
        let bytes: usize = names
            .chain(marks.labels.keys())
            .map(|name| name.len())
            .sum();
        assert!(bytes == marks.name_bytes && bytes <= NAME_BYTES_MAX);
        // Full of purges: one more invalidation makes everything stale.
        let mut full = Marks::new();
        for n in 0..u64::try_from(MARKS_MAX).expect("few") {
            full.purge(&uri(&n.to_string()), Order(1));
        }
        full.invalidate(&Invalidation::Uri(PAGE.into()), Order(5));
        assert_eq!(standing(&full, "http://b.test/", "", 4), Standing::Stale);
        assert_eq!(standing(&full, "7", "", 0), Standing::Dead);
    }

    #[test]
    fn a_purge_of_everything_needs_no_marks() {
        let mut marks = Marks::new();
        marks.purge(&uri(PAGE), Order(2));
        marks.purge(&tag("red", None), Order(3));
        marks.purge(&PurgeTarget::All, Order(4));
        assert!(marks.all().next().is_none() && marks.name_bytes == 0);
        assert_eq!(standing(&marks, "http://b.test/", "", 3), Standing::Dead);
        assert_eq!(standing(&marks, PAGE, "cache-tag: red", 5), Standing::Live);
    }
}
