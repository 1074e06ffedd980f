//! Whose data a response held, seen from whoever was served it.
//!
//! Pure. Never guesses: where the origin did not say who the viewer was, nobody is told that it was their own.

use shikiri_record::MemberTag;

/// Whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// The viewer's own.
    Own,
    /// Another member's.
    Another,
    /// A member's, and the origin did not say who the viewer was.
    Somebodys,
    /// The origin named nobody.
    Nobodys,
}

impl Whose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Own, Self::Another, Self::Somebodys, Self::Nobodys];

    /// By what the origin said of one response: both tags are made under the same key.
    #[must_use]
    pub fn of(owner: Option<MemberTag>, viewer: Option<MemberTag>) -> Self {
        match (owner, viewer) {
            (None, _) => Self::Nobodys,
            (Some(_), None) => Self::Somebodys,
            (Some(owner), Some(viewer)) if owner == viewer => Self::Own,
            (Some(_), Some(_)) => Self::Another,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Another => "another's",
            Self::Somebodys => "somebody's",
            Self::Nobodys => "nobody's",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_a_viewers_own_unless_the_origin_said_who_the_viewer_was() {
        let (a, b) = (Some(MemberTag([1; 16])), Some(MemberTag([2; 16])));
        for (owner, viewer, whose) in [
            (a, a, Whose::Own),
            (a, b, Whose::Another),
            (a, None, Whose::Somebodys),
            (None, a, Whose::Nobodys),
            (None, None, Whose::Nobodys),
        ] {
            assert_eq!(Whose::of(owner, viewer), whose);
        }
        let names: std::collections::BTreeSet<_> = Whose::ALL.iter().map(|it| it.name()).collect();
        assert_eq!(names.len(), Whose::ALL.len());
    }
}
