//! The Merkle tree of RFC 6962 over the marks of a stream, as much of it as its root takes.
//!
//! Pure, and small: a digest for each bit of the number of leaves. Never holds a leaf.
//!
//! Invariant: the root after so many leaves is the `MTH` of RFC 6962, section 2.1, so that anybody's
//! tools for transparency logs compute the same.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The root of a tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root(pub [u8; 32]);

/// As a checkpoint writes it: base64.
impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Root({self})")
    }
}

/// A text is no root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no digest of 32 bytes in base64")]
pub struct NoRoot;

impl FromStr for Root {
    type Err = NoRoot;

    fn from_str(text: &str) -> Result<Self, NoRoot> {
        let bytes = STANDARD.decode(text).map_err(|_| NoRoot)?;
        bytes.try_into().map(Self).map_err(|_| NoRoot)
    }
}

/// A tree that grows.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    size: u64,
    /// The roots of the whole subtrees, the largest first: one for each bit of the size.
    peaks: Vec<[u8; 32]>,
}

impl Tree {
    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut digest: [u8; 32] = Sha256::new()
            .chain_update([0])
            .chain_update(leaf)
            .finalize()
            .into();
        // Two subtrees of the same size become one.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one for each bit of the size");
            digest = node(&left, &digest);
        }
        self.peaks.push(digest);
        self.size += 1;
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Root {
        let all = self.peaks.iter().rev().copied();
        let root = all.reduce(|right, left| node(&left, &right));
        Root(root.unwrap_or_else(|| Sha256::digest([]).into()))
    }
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word for word: RFC 6962, section 2.1.
    fn defined(leaves: &[Vec<u8>]) -> [u8; 32] {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => Sha256::digest([&[0], &leaf[..]].concat()).into(),
            _ => {
                let k = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(k);
                let both = [&[1][..], &defined(left), &defined(right)].concat();
                Sha256::digest(both).into()
            }
        }
    }

    #[test]
    fn the_root_is_the_one_that_is_defined_for_every_size() {
        let leaves: Vec<Vec<u8>> = (0..70_u8).map(|n| vec![n; usize::from(n)]).collect();
        let mut tree = Tree::default();
        for n in 0..leaves.len() {
            assert_eq!(tree.root().0, defined(&leaves[..n]), "{n} leaves");
            assert_eq!(tree.root().to_string().parse(), Ok(tree.root()));
            tree.push(&leaves[n]);
        }
    }

    /// Computed by others: certificate-transparency's own test data for eight leaves.
    #[test]
    fn the_root_of_leaves_that_others_have_published() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(leaf));
        let hex: String = tree.root().0.iter().map(|b| format!("{b:02x}")).collect();
        let published = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
        assert_eq!(hex, published);
    }
}
