//! Passwords, as Argon2id hashes, never as themselves.
//!
//! A hash costs 19 MiB and some tens of milliseconds, which is what protects it and what an attacker
//! would spend for us: so there are limits on who may have one computed, and how many at once.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

use crate::refusal::Refusal;

/// The shortest and the longest password, in bytes.
pub const BYTES_MIN: usize = 10;
pub const BYTES_MAX: usize = 256;

/// Hashes in the making at once.
const HASHES_MAX: usize = 4;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// The right to have a hash computed now.
#[must_use]
pub struct Turn(());

impl Turn {
    /// # Errors
    /// [`Refusal::Busy`]: so many are computed at once that one more would only wait.
    pub fn take() -> Result<Self, Refusal> {
        let one_more = |running| (running < HASHES_MAX).then_some(running + 1);
        match RUNNING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Self(())),
            Err(_) => Err(Refusal::Busy),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The hash of a password, with a salt of its own.
///
/// # Panics
/// There is no memory or randomness for it.
#[must_use]
pub fn hash(password: &str) -> String {
    let hashed: Result<PasswordHash, _> = Argon2::default().hash_password(password.as_bytes());
    hashed
        .expect("a hash of the default cost can be computed")
        .to_string()
}

/// Whether it is the password of this hash; of no member's hash it takes as long, so that mail
/// addresses of members cannot be told from others by the time.
#[must_use]
pub fn is_of(password: &str, hash_of_member: Option<&str>) -> bool {
    static NOBODYS: OnceLock<String> = OnceLock::new();
    let known = hash_of_member.and_then(|it| PasswordHash::new(it).ok());
    let is_known = known.is_some();
    let hash = match known {
        Some(hash) => hash,
        None => {
            let nobodys = NOBODYS.get_or_init(|| hash("nobody's"));
            PasswordHash::new(nobodys).expect("a hash of ours can be read")
        }
    };
    let matches = Argon2::default()
        .verify_password(password.as_bytes(), &hash)
        .is_ok();
    matches && is_known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash() {
        let (first, again) = (hash("correct horse"), hash("correct horse"));
        assert_ne!(first, again, "each has its own salt");
        assert!(
            first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{first}"
        );
        assert!(is_of("correct horse", Some(&first)));
        assert!(!is_of("correct horsf", Some(&first)));
        assert!(!is_of("nobody's", None));
        assert!(!is_of("x", Some("no hash")));
    }

    #[test]
    fn only_so_many_hashes_are_computed_at_once() {
        let turns: Vec<_> = (0..HASHES_MAX).map_while(|_| Turn::take().ok()).collect();
        assert!(Turn::take().is_err());
        drop(turns);
        assert!(Turn::take().is_ok());
    }
}
