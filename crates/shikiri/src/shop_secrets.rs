//! Secrets of the store and the delivery server: files of their own, made at random when they are not there.
//!
//! Invariant: what anybody but its owner can read is no secret and is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const BYTES_MIN: usize = 16;
const BYTES_MAX: u64 = 1024;

/// The secret in a file, made when there is none. Blanks around it do not count.
///
/// # Errors
/// It cannot be made; and those of [`read`].
pub(crate) fn read_or_make(file: &Path) -> Result<Vec<u8>, String> {
    if matches!(fs::symlink_metadata(file), Err(error) if error.kind() == ErrorKind::NotFound) {
        return make(file).map_err(|error| format!("the secret in {}: {error}", file.display()));
    }
    read(file)
}

/// The secret in a file. Blanks around it do not count.
///
/// # Errors
/// It cannot be read, others can read it, or it is too short or too long.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error| format!("the secret in {}: {error}", file.display());
    let about = File::open(file)
        .and_then(|opened| opened.metadata())
        .map_err(cannot)?;
    if about.mode() & 0o077 != 0 {
        return Err(format!(
            "others can read the secret in {0}: `chmod 600 {0}`, and make a new one if they may have",
            file.display()
        ));
    }
    if about.len() > BYTES_MAX {
        return Err(format!("{} is too long for a secret", file.display()));
    }
    let secret = fs::read(file).map_err(cannot)?.trim_ascii().to_owned();
    if secret.len() < BYTES_MIN {
        return Err(format!(
            "the secret in {} is too short: remove the file, and where it is one of ours a new one is made",
            file.display()
        ));
    }
    Ok(secret)
}

fn make(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    made.write_all(text.as_bytes())?;
    made.sync_all()?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept_from_others() {
        let folder = std::env::temp_dir().join(format!("shikiri-secrets-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("s");
        let made = read_or_make(&file).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(read_or_make(&file).unwrap(), made);
        for (mode, text, said) in [
            (0o640, "0123456789abcdef", "chmod 600"),
            (0o604, "0123456789abcdef", "chmod 600"),
            (0o600, "0123456789abcde\n", "too short"),
            (0o600, "", "too short"),
        ] {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let why = read_or_make(&file).unwrap_err();
            assert!(why.contains(said), "{mode:o} {text:?} {why}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
