//! Which patterns take all that others take: how contradictions in a policy are found.
//!
//! "Covers" is said only where it is certain; a pattern that covers another in a way not seen here
//! is no fault that can be told.

use crate::rules::{HostPattern, Match, NamePattern, PathPattern};

/// Whether every request that `inner` means is meant by `outer` too.
pub(super) fn covers(outer: &Match, inner: &Match) -> bool {
    fn each<T>(outer: &[T], inner: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
        outer.is_empty()
            || !inner.is_empty() && inner.iter().all(|i| outer.iter().any(|o| covers(o, i)))
    }
    each(&outer.hosts, &inner.hosts, host_covers)
        && each(&outer.paths, &inner.paths, path_covers)
        && each(&outer.extensions, &inner.extensions, String::eq)
        // What must be there for `outer` must be there for `inner` too, by a pattern as narrow.
        && outer.query_has.iter().all(|o| inner.query_has.iter().any(|i| name_covers(o, i)))
        && outer.query_lacks.iter().all(|o| inner.query_lacks.iter().any(|i| name_covers(i, o)))
}

pub(super) fn host_covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Any, _) => true,
        (_, HostPattern::Any) | (HostPattern::Exact(_), HostPattern::Below(_)) => false,
        (HostPattern::Exact(outer), HostPattern::Exact(inner)) => outer == inner,
        (HostPattern::Below(_), HostPattern::Exact(inner)) => outer.matches(inner),
        (HostPattern::Below(outer), HostPattern::Below(inner)) => inner.ends_with(outer.as_str()),
    }
}

/// Whether some host is meant by both.
pub(super) fn hosts_meet(a: &HostPattern, b: &HostPattern) -> bool {
    host_covers(a, b) || host_covers(b, a)
}

pub(super) fn name_covers(outer: &NamePattern, inner: &NamePattern) -> bool {
    match outer.0.strip_suffix('*') {
        Some(start) => inner
            .0
            .strip_suffix('*')
            .unwrap_or(&inner.0)
            .starts_with(start),
        None => outer == inner,
    }
}

/// Whether some name is meant by both.
pub(super) fn names_meet(a: &NamePattern, b: &NamePattern) -> bool {
    name_covers(a, b) || name_covers(b, a)
}

fn path_covers(outer: &PathPattern, inner: &PathPattern) -> bool {
    let start = outer
        .0
        .strip_suffix("**")
        .filter(|start| !start.contains('*'));
    outer == inner
        || !inner.0.contains('*') && outer.matches(&inner.0)
        || start.is_some_and(|start| inner.0.starts_with(start))
        // Every path starts with a slash.
        || outer.0 == "/**"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths() {
        for (outer, inner, expected) in [
            ("/**", "/news/**", true),
            ("**", "/news/*", true),
            ("/**", "**.css", true),
            ("/news/**", "/news/*", true),
            ("/news/**", "/news/1", true),
            ("/news/*", "/news/1", true),
            ("/news/*", "/news/**", false),
            ("/news/**", "/**", false),
            ("/news/**", "/newsroom", false),
            ("/a/*/c", "/a/*/c", true),
        ] {
            let (o, i) = (PathPattern(outer.into()), PathPattern(inner.into()));
            assert_eq!(path_covers(&o, &i), expected, "{outer} {inner}");
        }
    }

    #[test]
    fn hosts() {
        let parse = |text: &str| match text.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(suffix) => HostPattern::Below(suffix.to_owned()),
            None => HostPattern::Exact(text.to_owned()),
        };
        for (outer, inner, expected) in [
            ("*", "*", true),
            ("*", "a.test", true),
            ("*.test", "a.test", true),
            ("*.test", "*.a.test", true),
            ("*.a.test", "*.test", false),
            ("*.a.test", "a.test", false),
            ("a.test", "*.a.test", false),
            ("a.test", "a.test", true),
            ("*.test", "*", false),
        ] {
            assert_eq!(
                host_covers(&parse(outer), &parse(inner)),
                expected,
                "{outer} {inner}"
            );
        }
    }

    proptest! {
        /// What is said to be covered is: no pattern lets through what its cover does not.
        #[test]
        fn a_covered_path_is_matched_by_its_cover(
            outer in "(/[ab*]{0,3}){1,3}(\\*\\*)?",
            inner in "(/[ab*]{0,3}){1,3}(\\*\\*)?",
            path in "(/[ab]{0,3}){1,4}",
        ) {
            let (outer, inner) = (PathPattern(outer), PathPattern(inner));
            if path_covers(&outer, &inner) && inner.matches(&path) {
                prop_assert!(outer.matches(&path), "{outer:?} {inner:?} {path}");
            }
        }

        #[test]
        fn a_covered_name_is_matched_by_its_cover(
            outer in "[ab]{0,3}\\*?", inner in "[ab]{0,3}\\*?", name in "[ab]{0,4}",
        ) {
            let (outer, inner) = (NamePattern(outer), NamePattern(inner));
            if name_covers(&outer, &inner) && inner.matches(&name) {
                prop_assert!(outer.matches(&name));
            }
            if outer.matches(&name) && inner.matches(&name) {
                prop_assert!(names_meet(&outer, &inner));
            }
        }
    }
}
