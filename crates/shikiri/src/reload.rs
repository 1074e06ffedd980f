//! What a running node reads again: on `shikiri reload`, on a signal, and when a file has changed.
//!
//! Each part stands alone: one with a fault keeps what was in force, and the others are read all the
//! same. Invariants: what is in force was read whole and had no fault; a fault is told once, until the
//! file changes again or the fault is another; what depends on a file that was read again is read
//! again, too, so that what is told to be in force is.

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
    /// Whether those after it do as it says: they are read again after it.
    pub(crate) leads: bool,
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
    /// What was wrong with it when it was last read.
    fault: Option<String>,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Print {
    Gone,
    There {
        place: (u64, u64),
        size: u64,
        changed: (i64, i64),
        /// Who may read it decides of some files whether they are taken.
        mode: u32,
        content: Digest,
    },
}

impl Parts {
    /// These parts, as they are on disk now: what was read already is not read again.
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let watched = parts.into_iter().map(|part| Watched {
            read: prints(&part),
            coming: None,
            fault: None,
            part,
        });
        Self(Mutex::new(watched.collect()))
    }

    /// Reads every part again, whether it has changed or not.
    pub(crate) fn all(&self, by: &Actor) -> Vec<Reloaded> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter_mut().map(|watched| watched.apply(by)).collect()
    }

    /// Reads the parts whose files have changed and have been still since the look before, and those that
    /// do as they say.
    pub(crate) fn look(&self, by: &Actor) -> Vec<Reloaded> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done: Vec<Reloaded> = Vec::new();
        let mut is_led = false;
        for watched in parts.iter_mut() {
            let now = prints(&watched.part);
            let has_changed = watched.coming.as_ref() == Some(&now);
            if has_changed || is_led {
                let told = watched.fault.take();
                let reloaded = watched.apply(by);
                is_led |= watched.part.leads && reloaded.done.is_ok();
                if has_changed || told.is_none() || reloaded.done.as_ref().err() != told.as_ref() {
                    done.push(reloaded);
                }
            } else if now == watched.read {
                watched.coming = None;
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
        let done = (self.part.apply)(by);
        self.fault = done.as_ref().err().cloned();
        Reloaded {
            part: self.part.name,
            done,
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
            mode: found.mode(),
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
                leads: true,
                apply: Box::new(move |_| {
                    let text = fs::read_to_string(&from).map_err(|error| error.to_string())?;
                    let number: u32 = text.parse().map_err(|_| format!("no number: {text}"))?;
                    to.lock().unwrap().push(text);
                    Ok(number.to_string())
                }),
            };
            let (last, told) = (Arc::clone(&in_force), Arc::clone(&in_force));
            let led = Part {
                name: "led",
                files: Box::new(Vec::new),
                leads: false,
                apply: Box::new(move |_| {
                    let number = last.lock().unwrap().last().cloned();
                    let text = format!("led by {}", number.expect("one was read"));
                    told.lock().unwrap().push(text.clone());
                    Ok(text)
                }),
            };
            let parts = Parts::new(vec![part, led]);
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

    /// A number that was read, and what is led by it.
    fn done(number: &str) -> [Result<String, String>; 2] {
        [Ok(number.to_owned()), Ok(format!("led by {number}"))]
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
        assert_eq!(world.looks(), done("23"));
        assert!(world.looks().is_empty());
        // Of the same size, and perhaps within one tick of the file system's clock.
        fs::write(&world.file, "24").unwrap();
        assert_eq!(world.looks(), done("24"));
        // Replaced as editors do.
        let other = world.file.with_extension("new");
        fs::write(&other, "25").unwrap();
        fs::rename(&other, &world.file).unwrap();
        assert_eq!(world.looks(), done("25"));
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
        assert_eq!(world.looks(), done("3"));
    }

    #[test]
    fn what_was_asked_for_is_read_at_once_and_not_again() {
        let world = World::new("asked");
        fs::write(&world.file, "2").unwrap();
        let all = world.parts.all(&Actor::Signal);
        assert!(matches!(
            &all[..],
            [
                Reloaded {
                    part: "number",
                    done: Ok(_)
                },
                Reloaded { part: "led", .. }
            ]
        ));
        assert!(world.looks().is_empty());
        assert!(
            world.parts.all(&Actor::Signal)[0].done.is_ok(),
            "also unchanged"
        );
    }
}
