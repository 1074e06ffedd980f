//! What a running node reads again: on `shikiri reload`, on a signal, and when a file has changed.
//!
//! Each part stands alone: one with a fault keeps what was in force, and the others are read all the
//! same. Invariant: what is in force was read whole and had no fault; a fault is told once, until the
//! file changes again.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use shikiri_edge::admin::{Actor, Reloaded};
use shikiri_record::Digest;

/// What of a file's content is looked at; none that is read here may be longer.
const LOOKED_AT_MAX: u64 = 4 << 20;

/// Something that can be read again by itself.
pub(crate) struct Part {
    /// What it is, in logs and in `shikiri status`.
    pub(crate) name: &'static str,
    /// The files that it is read from; asked anew each time.
    pub(crate) files: Box<dyn Fn() -> Vec<PathBuf> + Send + Sync>,
    /// Reads it and puts it in force, or says why not; then the old one stays.
    pub(crate) apply: Apply,
}

/// Reads a part and puts it in force; returns what is in force now.
pub(crate) type Apply = Box<dyn Fn(&Actor) -> Result<String, String> + Send + Sync>;

/// All that a node reads again.
pub(crate) struct Parts(Mutex<Vec<Watched>>);

struct Watched {
    part: Part,
    /// As it was when it was last read, in force or with a fault.
    read: Vec<Print>,
    /// As it was a moment ago, when that is something else: it may still be being written.
    coming: Option<Vec<Print>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Print {
    Gone,
    There {
        place: (u64, u64),
        size: u64,
        changed: (i64, i64),
        content: Digest,
    },
}

impl Parts {
    /// These parts, as they are on disk now: what was read already is not read again.
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let watched = parts.into_iter().map(|part| Watched {
            read: prints(&part),
            coming: None,
            part,
        });
        Self(Mutex::new(watched.collect()))
    }

    /// Reads every part again, whether it has changed or not.
    pub(crate) fn all(&self, by: &Actor) -> Vec<Reloaded> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter_mut().map(|watched| watched.apply(by)).collect()
    }

    /// Reads the parts whose files have changed and have been still since the look before.
    pub(crate) fn look(&self, by: &Actor) -> Vec<Reloaded> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Vec::new();
        for watched in parts.iter_mut() {
            let now = prints(&watched.part);
            if now == watched.read {
                watched.coming = None;
            } else if watched.coming.as_ref() == Some(&now) {
                done.push(watched.apply(by));
            } else {
                watched.coming = Some(now);
            }
        }
        done
    }
}

impl Watched {
    fn apply(&mut self, by: &Actor) -> Reloaded {
        // Before it is read: what changes meanwhile is read again.
        self.read = prints(&self.part);
        self.coming = None;
        Reloaded {
            part: self.part.name,
            done: (self.part.apply)(by),
        }
    }
}

fn prints(part: &Part) -> Vec<Print> {
    (part.files)().iter().map(|path| print(path)).collect()
}

fn print(path: &Path) -> Print {
    let looked = || {
        let found = fs::metadata(path)?;
        let mut content = Vec::new();
        File::open(path)?
            .take(LOOKED_AT_MAX)
            .read_to_end(&mut content)?;
        std::io::Result::Ok(Print::There {
            place: (found.dev(), found.ino()),
            size: found.size(),
            changed: (found.mtime(), found.mtime_nsec()),
            content: Digest::of(&content),
        })
    };
    looked().unwrap_or(Print::Gone)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A file that is read as a number.
    struct World {
        file: PathBuf,
        parts: Parts,
        in_force: Arc<Mutex<Vec<String>>>,
    }

    impl World {
        fn new(test: &str) -> Self {
            let name = format!("shikiri-reload-{test}-{}", std::process::id());
            let file = std::env::temp_dir().join(name);
            fs::write(&file, "1").unwrap();
            let in_force = Arc::new(Mutex::new(Vec::new()));
            let (from, to, watched) = (file.clone(), Arc::clone(&in_force), file.clone());
            let part = Part {
                name: "number",
                files: Box::new(move || vec![watched.clone()]),
                apply: Box::new(move |_| {
                    let text = fs::read_to_string(&from).map_err(|error| error.to_string())?;
                    let number: u32 = text.parse().map_err(|_| format!("no number: {text}"))?;
                    to.lock().unwrap().push(text);
                    Ok(number.to_string())
                }),
            };
            let parts = Parts::new(vec![part]);
            Self {
                file,
                parts,
                in_force,
            }
        }

        /// What three looks in a row find.
        fn looks(&self) -> Vec<Result<String, String>> {
            let looks = (0..3).flat_map(|_| self.parts.look(&Actor::Watch));
            looks.map(|reloaded| reloaded.done).collect()
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            drop(fs::remove_file(&self.file));
        }
    }

    #[test]
    fn what_has_changed_is_read_once_it_is_still() {
        let world = World::new("still");
        assert!(world.looks().is_empty(), "it has not changed");
        fs::write(&world.file, "2").unwrap();
        assert!(
            world.parts.look(&Actor::Watch).is_empty(),
            "it may be being written"
        );
        fs::write(&world.file, "23").unwrap();
        assert!(world.parts.look(&Actor::Watch).is_empty());
        assert_eq!(world.looks(), [Ok("23".to_owned())]);
        assert!(world.looks().is_empty());
        // Of the same size, and perhaps within one tick of the file system's clock.
        fs::write(&world.file, "24").unwrap();
        assert_eq!(world.looks(), [Ok("24".to_owned())]);
        // Replaced as editors do.
        let other = world.file.with_extension("new");
        fs::write(&other, "25").unwrap();
        fs::rename(&other, &world.file).unwrap();
        assert_eq!(world.looks(), [Ok("25".to_owned())]);
    }

    #[test]
    fn a_fault_is_told_once_and_the_old_one_stays() {
        let world = World::new("fault");
        fs::write(&world.file, "two").unwrap();
        assert_eq!(world.looks(), [Err("no number: two".to_owned())]);
        assert!(world.looks().is_empty());
        fs::remove_file(&world.file).unwrap();
        assert!(matches!(&world.looks()[..], [Err(_)]));
        assert!(world.looks().is_empty());
        assert!(world.in_force.lock().unwrap().is_empty());
        fs::write(&world.file, "3").unwrap();
        assert_eq!(world.looks(), [Ok("3".to_owned())]);
    }

    #[test]
    fn what_was_asked_for_is_read_at_once_and_not_again() {
        let world = World::new("asked");
        fs::write(&world.file, "2").unwrap();
        let all = world.parts.all(&Actor::Signal);
        assert!(matches!(
            &all[..],
            [Reloaded {
                part: "number",
                done: Ok(_)
            }]
        ));
        assert!(world.looks().is_empty());
        assert!(
            world.parts.all(&Actor::Signal)[0].done.is_ok(),
            "also unchanged"
        );
    }
}
