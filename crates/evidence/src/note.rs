//! Signed notes: a text of lines and, below it, who signs it. The form is C2SP's `signed-note`, with
//! Ed25519, so that tools of others read what is signed here.
//!
//! Pure: text in, text out. Never holds a secret: a [`Signer`] does, and it and the [`Check`] of a
//! signature come from outside, since this crate has no cryptography of its own but digests.
//!
//! Invariant: no text is given out as signed unless a key that the caller named has signed exactly it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A note is no longer.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// A note has no more signatures.
const SIGNATURES_MAX: usize = 64;

/// The type of Ed25519 signatures in keys and key ids.
const ED25519: u8 = 1;

/// How a signature line begins.
const SIGNED_BY: &str = "\u{2014} ";

/// A signature of Ed25519.
pub type Signature = [u8; 64];

/// Whether a signature is one by a public key over some bytes (Ed25519, RFC 8032).
pub type Check = fn(public: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool;

/// Who can sign.
pub trait Signer: Send + Sync + fmt::Debug {
    /// What its signatures are checked with.
    fn key(&self) -> &NoteKey;

    /// Signs these bytes, and no others.
    fn sign(&self, bytes: &[u8]) -> Signature;
}

/// A public key with its name.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteKey {
    /// Without spaces and `+`; checked when it is made.
    name: String,
    public: [u8; 32],
}

/// Why a text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// It has another form.
    #[error("it is no key of the form `name+8 digits+base64`")]
    Form,
    /// Its name is none.
    #[error("a key's name is neither empty nor holds spaces or `+`")]
    Name,
    /// It is of another kind.
    #[error("it is no Ed25519 key")]
    Kind,
    /// Its digits are those of another key.
    #[error("its digits do not fit its name and key: a part of it was changed")]
    Id,
}

impl NoteKey {
    /// A public key under a name.
    ///
    /// # Errors
    /// The name is none.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, KeyFault> {
        let spaced = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(spaced) {
            return Err(KeyFault::Name);
        }
        Ok(Self {
            name: name.to_owned(),
            public,
        })
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    #[must_use]
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// What its signatures begin with.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, &self.public)
    }
}

/// `SHA-256(name || newline || kind || key)`, its first four bytes.
fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(public)
        .finalize();
    *digest.first_chunk().expect("a digest has 32 bytes")
}

/// As C2SP's tools write it: `name+id+base64(kind || key)`.
impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(&self.public);
        let id = u32::from_be_bytes(self.id());
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode(key))
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteKey({self})")
    }
}

impl FromStr for NoteKey {
    type Err = KeyFault;

    fn from_str(text: &str) -> Result<Self, KeyFault> {
        // Base64 has a `+` of its own: what is behind the second one is the key.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyFault::Form);
        };
        let is_hex = id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let id = u32::from_str_radix(id, 16).ok().filter(|_| is_hex);
        let id = id.ok_or(KeyFault::Form)?;
        let key = STANDARD.decode(key).map_err(|_| KeyFault::Form)?;
        let Some((&kind, public)) = key.split_first() else {
            return Err(KeyFault::Form);
        };
        if kind != ED25519 {
            return Err(KeyFault::Kind);
        }
        let public = public.try_into().map_err(|_| KeyFault::Form)?;
        let key = Self::new(name, public)?;
        if u32::from_be_bytes(key.id()) != id {
            return Err(KeyFault::Id);
        }
        Ok(key)
    }
}

/// Why a note is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteFault {
    /// It is none.
    #[error("it is no signed note: a text, an empty line, and lines of signatures")]
    Form,
    /// It is too long.
    #[error("it is longer than {NOTE_BYTES_MAX} bytes")]
    TooLong,
    /// None of its signatures is by a key that is known here.
    #[error("no key that is known here has signed it")]
    Unknown,
    /// A signature by a key that is known does not fit: it, or the text, was changed.
    #[error("its signature does not fit: the text or the signature was changed")]
    Changed,
}

/// The note that a signer makes of a text. The text ends with a newline.
///
/// # Panics
/// The text does not end with a newline, or holds control characters, so that it would be no note.
#[must_use]
pub fn signed(text: &str, signer: &dyn Signer) -> String {
    assert!(is_text(text), "the caller wrote lines of text");
    let key = signer.key();
    let mut signature = key.id().to_vec();
    signature.extend_from_slice(&signer.sign(text.as_bytes()));
    let encoded = STANDARD.encode(signature);
    format!("{text}\n{SIGNED_BY}{} {encoded}\n", key.name())
}

/// Whether a text can be signed: lines, each ended, and no control characters.
#[must_use]
pub fn is_text(text: &str) -> bool {
    let is_plain = |c: char| c == '\n' || !c.is_ascii_control();
    text.ends_with('\n') && text.chars().all(is_plain)
}

/// The text of a note that one of these keys has signed.
///
/// # Errors
/// Nobody known has signed it, or not so.
pub fn opened<'a>(note: &'a str, keys: &[NoteKey], check: Check) -> Result<&'a str, NoteFault> {
    let (text, signatures) = parted(note)?;
    let mut is_signed = false;
    for (name, id, signature) in signatures {
        let known = keys.iter().find(|key| key.name() == name && key.id() == id);
        let Some(key) = known else { continue };
        let signature = signature.try_into().map_err(|_| NoteFault::Changed)?;
        if !check(key.public(), text.as_bytes(), &signature) {
            return Err(NoteFault::Changed);
        }
        is_signed = true;
    }
    is_signed.then_some(text).ok_or(NoteFault::Unknown)
}

/// The text of a note, whoever has signed it: to look at, never to believe.
///
/// # Errors
/// It is no note.
pub fn unverified(note: &str) -> Result<&str, NoteFault> {
    parted(note).map(|(text, _)| text)
}

/// A signature line: the key's name, its id, the signature.
type Line<'a> = (&'a str, [u8; 4], Vec<u8>);

fn parted(note: &str) -> Result<(&str, Vec<Line<'_>>), NoteFault> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteFault::TooLong);
    }
    if !is_text(note) {
        return Err(NoteFault::Form);
    }
    let at = note.rfind("\n\n").ok_or(NoteFault::Form)?;
    let (text, below) = note.split_at_checked(at + 1).ok_or(NoteFault::Form)?;
    let lines = below.strip_prefix('\n').ok_or(NoteFault::Form)?.lines();
    let mut signatures = Vec::new();
    for line in lines {
        if signatures.len() == SIGNATURES_MAX {
            return Err(NoteFault::TooLong);
        }
        let line = line.strip_prefix(SIGNED_BY);
        let (name, encoded) = line
            .and_then(|line| line.split_once(' '))
            .ok_or(NoteFault::Form)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteFault::Form)?;
        let (id, signature) = bytes.split_first_chunk().ok_or(NoteFault::Form)?;
        signatures.push((name, *id, signature.to_vec()));
    }
    if signatures.is_empty() {
        return Err(NoteFault::Form);
    }
    Ok((text, signatures))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signer whose signatures anybody could make: what is tested here is the form.
    #[derive(Debug)]
    struct Toy(NoteKey);

    fn toy_signature(public: &[u8; 32], bytes: &[u8]) -> Signature {
        let digest = Sha256::new()
            .chain_update(public)
            .chain_update(bytes)
            .finalize();
        let mut signature = [7; 64];
        signature[..32].copy_from_slice(&digest);
        signature
    }

    fn toy_check(public: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
        toy_signature(public, bytes) == *signature
    }

    impl Signer for Toy {
        fn key(&self) -> &NoteKey {
            &self.0
        }

        fn sign(&self, bytes: &[u8]) -> Signature {
            toy_signature(self.0.public(), bytes)
        }
    }

    fn toy(name: &str, n: u8) -> Toy {
        Toy(NoteKey::new(name, [n; 32]).unwrap())
    }

    #[test]
    fn a_note_is_believed_when_a_known_key_has_signed_exactly_it() {
        let (ours, other) = (toy("a/b", 1), toy("a/b", 2));
        let (keys, text) = ([ours.0.clone()], "one\n\ntwo \u{4ed5}\n");
        let note = signed(text, &ours);
        assert_eq!(opened(&note, &keys, toy_check), Ok(text));
        assert_eq!(unverified(&note), Ok(text));
        // A second signature by somebody else is none of our business.
        let (_, line) = signed(text, &other)
            .rsplit_once("\n\n")
            .map(|(_, l)| ((), l.to_owned()))
            .unwrap();
        let both = format!("{note}{line}");
        assert_eq!(opened(&both, &keys, toy_check), Ok(text));
        for (note, fault) in [
            (note.replace("one", "0ne"), NoteFault::Changed),
            (signed(text, &other), NoteFault::Unknown),
            (signed(text, &toy("a/c", 1)), NoteFault::Unknown),
            (text.to_owned(), NoteFault::Form),
            (note.replace(" a/b ", " "), NoteFault::Form),
            (note.trim_end().to_owned(), NoteFault::Form),
            (note.replace("one", "o\te"), NoteFault::Form),
            (String::new(), NoteFault::Form),
            ("x\n".repeat(NOTE_BYTES_MAX), NoteFault::TooLong),
        ] {
            assert_eq!(opened(&note, &keys, toy_check), Err(fault), "{note:.60}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_no_character_of_it_may_change() {
        let key = NoteKey::new("shikiri/edge-1", [0xfb; 32]).unwrap();
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'B' { b'C' } else { b'B' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(changed.parse::<NoteKey>().is_err(), "{changed}");
        }
        for name in ["", "a b", "a+b", "a\u{3000}b", "a\nb"] {
            assert_eq!(NoteKey::new(name, [0; 32]), Err(KeyFault::Name), "{name:?}");
        }
    }

    /// From golang.org/x/mod/sumdb/note: the key of the Go checksum database, which others publish.
    #[test]
    fn a_key_of_others_is_read() {
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        let key: NoteKey = text.parse().unwrap();
        assert_eq!(key.name(), "sum.golang.org");
        assert_eq!(key.to_string(), text);
    }
}
