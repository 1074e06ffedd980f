//! What the site does now.

use std::fmt;
use std::str::FromStr;

/// What the site does now, ordered by how much is shown and shared: the lower of two modes is the
/// safer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Maintenance: no origin's and no stored byte leaves.
    Closed,
    /// Every request goes to the origin as itself; nothing is shared.
    Pass,
    /// Only the `assets` and `media` classes are shared.
    Static,
    /// What the rules say may be shared is shared.
    Open,
}

impl Mode {
    /// Every mode, the lowest first.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Pass, Self::Static, Self::Open];

    /// The word for it, on command lines and in evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Pass => "pass",
            Self::Static => "static",
            Self::Open => "open",
        }
    }
}

crate::text_form::serde_as_text!(Mode);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("`{text}` is no mode: write open, static, pass or closed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_read_by_its_name_and_the_lower_shares_less() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert!("Open".parse::<Mode>().is_err());
        assert_eq!(Mode::Open.min(Mode::Pass), Mode::Pass);
        assert_eq!(Mode::Closed.min(Mode::Pass), Mode::Closed);
    }
}
