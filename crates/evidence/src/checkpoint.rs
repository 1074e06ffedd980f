//! Marks and checkpoints: what a signature says of a stream.
//!
//! A *mark* is a line that says how far a stream was, and its chain there. The marks of a stream are the
//! leaves of a tree, and a *checkpoint* (C2SP's `tlog-checkpoint`) is its root, signed. So one signature
//! says of every row before the last mark that it is as it was written, and each mark says between which
//! instants.
//!
//! Pure: text in, values out. Never says who signed: that is [`crate::note`]'s.

use std::fmt::{self, Write};
use std::str::FromStr;

use shikiri_record::UnixMillis;

use crate::segment::Chain;
use crate::tree::Root;

/// A line of the marks' file is no longer.
pub const MARK_BYTES_MAX: usize = 256;

/// What a mark is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// A segment is being written: so far it is.
    Running,
    /// A segment was sealed.
    Sealed,
    /// A segment, and all before it, are removed since they were kept for long enough.
    Removed,
}

impl MarkKind {
    const ALL: [Self; 3] = [Self::Running, Self::Sealed, Self::Removed];

    const fn name(self) -> &'static str {
        match self {
            Self::Running => "mark",
            Self::Sealed => "seal",
            Self::Removed => "gone",
        }
    }
}

/// How far a stream was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is made for.
    pub kind: MarkKind,
    /// The segment.
    pub segment: u64,
    /// The sequence number of the first row that is not before it.
    pub next: u64,
    /// When it was made, by the node's clock.
    pub at: UnixMillis,
    /// The chain there: after the last row, or after the seal.
    pub chain: Chain,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, at) = (self.kind.name(), self.at.0);
        write!(f, "{kind} {} {} {at} ", self.segment, self.next)?;
        self.chain
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A line is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no mark: kind, segment, row, instant, chain")]
pub struct NoMark;

impl FromStr for Mark {
    type Err = NoMark;

    fn from_str(line: &str) -> Result<Self, NoMark> {
        let parts: Vec<&str> = line.split(' ').collect();
        let [kind, segment, next, at, chain] = parts[..] else {
            return Err(NoMark);
        };
        let kind = MarkKind::ALL.into_iter().find(|is| is.name() == kind);
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoMark);
        let mark = Self {
            kind: kind.ok_or(NoMark)?,
            segment: number(segment)?,
            next: number(next)?,
            at: UnixMillis(number(at)?),
            chain: Chain::from_hex(chain).ok_or(NoMark)?,
        };
        // One mark has one spelling: the tree is over spellings.
        if mark.to_string() == line {
            Ok(mark)
        } else {
            Err(NoMark)
        }
    }
}

/// The root of a stream's marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the stream: who signs it, which it is, and the run of the node that began its marks.
    pub origin: String,
    /// How many marks.
    pub size: u64,
    /// The root over them.
    pub root: Root,
}

/// The text that is signed.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)
    }
}

/// A text is no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no checkpoint: an origin, a size and a root in lines of their own")]
pub struct NoCheckpoint;

impl FromStr for Checkpoint {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Self, NoCheckpoint> {
        let mut lines = text.strip_suffix('\n').ok_or(NoCheckpoint)?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(NoCheckpoint);
        };
        // Whatever else a log may add is signed, and says nothing to us.
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(NoCheckpoint);
        }
        let number: u64 = size.parse().map_err(|_| NoCheckpoint)?;
        let mut spelled = String::new();
        write!(spelled, "{number}").expect("a string can be written to");
        if spelled != size {
            return Err(NoCheckpoint);
        }
        Ok(Self {
            origin: origin.to_owned(),
            size: number,
            root: root.parse().map_err(|_| NoCheckpoint)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_one_spelling() {
        let mark = Mark {
            kind: MarkKind::Sealed,
            segment: 12,
            next: 40_211,
            at: UnixMillis(1_800_000_000_000),
            chain: Chain::BEGINNING,
        };
        let line = mark.to_string();
        assert_eq!(
            line,
            format!("seal 12 40211 1800000000000 {}", "0".repeat(64))
        );
        assert_eq!(line.parse(), Ok(mark));
        assert!(line.len() < MARK_BYTES_MAX);
        for wrong in [
            String::new(),
            line.replace("seal", "Seal"),
            line.replace(" 12 ", " 012 "),
            line.replace(" 12 ", " +12 "),
            line.replace(" 12 ", "  12 "),
            format!("{line} "),
            format!("{line}0"),
            line.replace("000000", "00000A"),
        ] {
            assert_eq!(wrong.parse::<Mark>(), Err(NoMark), "{wrong}");
        }
    }

    #[test]
    fn a_checkpoint_is_three_lines_and_may_be_followed_by_others() {
        let checkpoint = Checkpoint {
            origin: "shikiri/edge-1/lane-0".into(),
            size: 7,
            root: Root([3; 32]),
        };
        let text = checkpoint.to_string();
        assert_eq!(text.parse(), Ok(checkpoint.clone()));
        assert_eq!(format!("{text}more\n").parse(), Ok(checkpoint));
        for wrong in [
            "",
            "a\n7\n",
            &text.replace('7', "07"),
            &text.replace('7', "-7"),
            &text.replace('7', ""),
            &text.replace("AwMD", "AwM"),
            &text.replace("shikiri/edge-1/lane-0", ""),
            &format!("{text}\nmore\n"),
            text.trim_end(),
        ] {
            assert_eq!(wrong.parse::<Checkpoint>(), Err(NoCheckpoint), "{wrong}");
        }
    }
}
