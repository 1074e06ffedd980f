//! The node's signing key, and what is signed with it: checkpoints of evidence and of the timeline, and
//! statements.
//!
//! The key is a file in the data folder, in the form of other tools for signed notes; what it signs is
//! C2SP's `signed-note`, so that anybody can check it with the public key alone.
//!
//! Never prints the secret half. Invariant: a statement is never a checkpoint: what begins as one is not
//! signed here.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shikiri_evidence::Signing;
use shikiri_evidence::checkpoint::Checkpoint;
use shikiri_evidence::note::{self, NOTE_BYTES_MAX, NoteKey, Signature, Signer};

use crate::secret_file;

/// The key's file in the data folder.
pub(crate) const SIGNING_KEY: &str = "signing.key";

/// What it is to the operator.
const WHAT: &str = "signing key";

/// A key's file is no longer.
const FILE_BYTES_MAX: usize = 512;

/// How it begins, as in other tools for signed notes.
const BEGINS: &str = "PRIVATE+KEY+";

/// The kind of Ed25519 keys there.
const KIND: u8 = 1;

/// A key that signs.
pub(crate) struct SigningKey {
    key: NoteKey,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key)
    }
}

impl Signer for SigningKey {
    fn key(&self) -> &NoteKey {
        &self.key
    }

    fn sign(&self, bytes: &[u8]) -> Signature {
        let signature = self.pair.sign(bytes);
        let bytes = signature.as_ref().try_into();
        bytes.expect("a signature of Ed25519 has 64 bytes")
    }
}

/// Whether a signature is one by a public key over some bytes.
pub(crate) fn check(public: &[u8; 32], bytes: &[u8], signature: &Signature) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, public);
    key.verify(bytes, signature).is_ok()
}

impl SigningKey {
    fn new(name: &str, seed: &[u8; 32]) -> Result<Self, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        let pair = pair.map_err(|_| "it is no Ed25519 key".to_owned())?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.expect("a public key of Ed25519 has 32 bytes");
        let key = NoteKey::new(name, public).map_err(|why| why.to_string())?;
        Ok(Self { key, pair })
    }

    /// The key in a file; made on the first start, under the node's name, and kept.
    ///
    /// # Errors
    /// In words for the operator: it cannot be read or written, others may read it, or it is none.
    pub(crate) fn open(path: &Path, node: &str) -> Result<Self, String> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| format!("cannot get random bytes: {error}"))?;
        let key = Self::new(&format!("shikiri/{node}"), &seed)?;
        let id = u32::from_be_bytes(key.key.id());
        let mut secret = vec![KIND];
        secret.extend_from_slice(&seed);
        let secret = STANDARD.encode(secret);
        let text = format!("{BEGINS}{}+{id:08x}+{secret}\n", key.key.name());
        secret_file::make(path, text.as_bytes())
            .map_err(|error| format!("cannot make the {WHAT} {}: {error}", path.display()))?;
        Ok(key)
    }

    /// The key in a file, if there is one.
    ///
    /// # Errors
    /// As [`SigningKey::open`].
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, String> {
        let since = "with it they can sign evidence of their own";
        let Some(bytes) = secret_file::read(path, WHAT, since, FILE_BYTES_MAX)? else {
            return Ok(None);
        };
        let fault = |why: &str| {
            format!(
                "the {WHAT} {} is none ({why}): put the right one back; a new one is made when there is none, \
                 and what the old one has signed is checked with the old public key then",
                path.display()
            )
        };
        let text = String::from_utf8(bytes).map_err(|_| fault("it is no text"))?;
        let parts = text.trim_end().strip_prefix(BEGINS);
        let parts = parts.map(|rest| rest.splitn(3, '+').collect::<Vec<_>>());
        let Some([name, id, secret]) = parts.as_deref() else {
            return Err(fault("it has another form"));
        };
        let secret = STANDARD.decode(secret).ok();
        let seed = secret
            .as_deref()
            .and_then(|secret| secret.strip_prefix(&[KIND]))
            .and_then(|seed| seed.try_into().ok())
            .ok_or_else(|| fault("it is no Ed25519 key"))?;
        let key = Self::new(name, seed).map_err(|why| fault(&why))?;
        if format!("{:08x}", u32::from_be_bytes(key.key.id())) != **id {
            return Err(fault("its digits do not fit"));
        }
        Ok(Some(key))
    }

    /// With it, checkpoints are signed so often.
    pub(crate) fn signing(self: Arc<Self>, every: Duration) -> Signing {
        Signing {
            signer: self,
            every,
        }
    }

    /// Signs a statement: lines of text, each ended. What is signed is the statement and nothing else.
    ///
    /// # Errors
    /// It is no text that can be signed, or could be taken for a checkpoint.
    pub(crate) fn statement(&self, text: &str) -> Result<String, String> {
        if !note::is_text(text) {
            return Err("a statement is lines of text, without control characters".to_owned());
        }
        if text.parse::<Checkpoint>().is_ok() {
            return Err("this reads as a checkpoint, and is not signed as a statement".to_owned());
        }
        let note = note::signed(text, self);
        if note.len() > NOTE_BYTES_MAX {
            return Err(format!("a statement has {NOTE_BYTES_MAX} bytes at most"));
        }
        Ok(note)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_signing_key_is_made_once_and_is_its_owners_alone() {
        let folder = std::env::temp_dir().join(format!("shikiri-seal-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(SIGNING_KEY);
        assert!(SigningKey::read(&path).unwrap().is_none());
        let first = SigningKey::open(&path, "edge-1").unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = SigningKey::open(&path, "another name").unwrap();
        assert_eq!(again.key(), first.key(), "a key keeps its name");
        let text = fs::read_to_string(&path).unwrap();
        let shown = format!("{first:?}");
        assert!(!shown.contains(text.trim_end().rsplit('+').next().unwrap()));
        for wrong in [
            "",
            "x",
            &text.replace("KEY", "KEX"),
            &text.replace("edge", "hedge"),
        ] {
            fs::write(&path, wrong).unwrap();
            let why = SigningKey::open(&path, "edge-1").unwrap_err();
            assert!(why.contains("put the right one back"), "{why}");
        }
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let why = SigningKey::open(&path, "edge-1").unwrap_err();
        assert!(why.contains("chmod 600"), "{why}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_statement_is_checked_with_the_public_key_alone_and_is_no_checkpoint() {
        let key = SigningKey::new("shikiri/edge-1", &[7; 32]).unwrap();
        let public: NoteKey = key.key().to_string().parse().unwrap();
        let text = "shikiri statement\n\nnobody was shown another's page\n";
        let note = key.statement(text).unwrap();
        assert_eq!(
            note::opened(&note, std::slice::from_ref(&public), check),
            Ok(text)
        );
        let changed = note.replace("nobody", "somebody");
        assert!(note::opened(&changed, &[public], check).is_err());
        let root = STANDARD.encode([1; 32]);
        for refused in ["", "no newline", "a\tb\n", &format!("origin\n7\n{root}\n")] {
            assert!(key.statement(refused).is_err(), "{refused}");
        }
    }

    /// A signature of a key that others have published: RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.map(byte).collect()
        };
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::new("a", &seed.try_into().unwrap()).unwrap();
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(&key.key().public()[..], public);
        let signature = hex(concat!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ));
        assert_eq!(&key.sign(&[0x72])[..], signature);
        assert!(check(
            key.key().public(),
            &[0x72],
            &signature.clone().try_into().unwrap()
        ));
        assert!(!check(
            key.key().public(),
            &[0x73],
            &signature.try_into().unwrap()
        ));
    }
}
