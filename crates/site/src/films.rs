//! The sample films and covers, embedded. `media/README.md` says how they were made.
//!
//! Invariant: an address holds a digest of what it names, so whatever is served under it is the same for
//! ever.

use std::fmt;
use std::sync::LazyLock;

/// A file that was made beforehand.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'static [u8],
}

/// The types that there are.
pub(crate) const TYPES: &[&str] = &[
    "application/vnd.apple.mpegurl",
    "image/webp",
    "video/mp4",
    "video/webm",
];

/// The widths in which there are covers, in pixels.
pub(crate) const WIDTHS: [u32; 3] = [320, 640, 1280];

/// A film with its files.
struct Film {
    id: &'static str,
    files: &'static [Ready],
}

macro_rules! ready {
    ($folder:literal, $id:literal, $($name:literal)*) => {
        &[$(Ready {
            name: $name,
            bytes: include_bytes!(concat!("../media/", $folder, "/", $id, $name)),
        }),*]
    };
}

/// To stream: a playlist with its parts, and one file for browsers that take no playlist.
macro_rules! films {
    ($($id:literal)*) => {
        &[$(Film {
            id: $id,
            files: ready!("films", $id, "/index.m3u8" "/init.mp4" "/part0.m4s" "/part1.m4s" "/part2.m4s"
                "/part3.m4s" "/part4.m4s" "/film.webm"),
        }),*]
    };
}

macro_rules! courses {
    ($($id:literal)*) => {
        &[$(Film { id: $id, files: ready!("films", $id, "/film.mp4") }),*]
    };
}

macro_rules! covers {
    ($($id:literal)*) => {
        &[$(Film { id: $id, files: ready!("covers", $id, "-320.webp" "-640.webp" "-1280.webp") }),*]
    };
}

const FILMS: &[Film] = films![
    "last-lighthouse" "bread-at-four" "paper-rivers" "night-trains" "winter-orchard" "clockmaker"
    "slow-harbour"
];

const COURSES: &[Film] =
    courses!["course-sashiko" "course-sourdough" "course-joinery" "course-field-sound"];

const COVERS: &[Film] = covers![
    "last-lighthouse" "bread-at-four" "paper-rivers" "night-trains" "winter-orchard" "clockmaker"
    "slow-harbour" "course-sashiko" "course-sourdough" "course-joinery" "course-field-sound"
    "disc-lighthouse" "disc-night-trains"
];

/// Names with digests, by what they name.
struct Names {
    /// Folders of films and courses.
    folders: Vec<String>,
    covers: Vec<(String, Ready)>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let digest = |files: &[Ready]| {
        let mut hasher = blake3::Hasher::new();
        for file in files {
            hasher.update(file.name.as_bytes()).update(&[0]);
            hasher
                .update(&file.bytes.len().to_le_bytes())
                .update(file.bytes);
        }
        let digest = hasher.finalize().to_hex();
        format!("{digest:.12}")
    };
    let films = FILMS.iter().chain(COURSES);
    let folders = films.map(|it| format!("{}-{}", it.id, digest(it.files)));
    let covers = COVERS.iter().flat_map(|it| {
        it.files.iter().map(move |file| {
            let stem = file.name.trim_end_matches(".webp");
            (format!("{}{stem}-{}.webp", it.id, digest(&[*file])), *file)
        })
    });
    Names {
        folders: folders.collect(),
        covers: covers.collect(),
    }
});

impl Ready {
    pub(crate) fn content_type(self) -> &'static str {
        match self.name.rsplit_once('.') {
            Some((_, "m3u8")) => "application/vnd.apple.mpegurl",
            Some((_, "mp4" | "m4s")) => "video/mp4",
            Some((_, "webm")) => "video/webm",
            _ => "image/webp",
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The folder of a product's film, as the delivery server has it; none where there is no such film.
pub(crate) fn stream(product: &str) -> Option<String> {
    let nth = FILMS.iter().position(|it| it.id == product)?;
    Some(format!("/films/{}", NAMES.folders.get(nth)?))
}

/// The folder of a course to keep.
pub(crate) fn download(product: &str) -> Option<String> {
    let nth = COURSES.iter().position(|it| it.id == product)?;
    Some(format!(
        "/downloads/{}",
        NAMES.folders.get(FILMS.len() + nth)?
    ))
}

/// A product's cover: its width in pixels and its path, from the smallest.
pub(crate) fn covers(product: &str) -> Vec<(u32, String)> {
    let Some(nth) = COVERS.iter().position(|it| it.id == product) else {
        return Vec::new();
    };
    let names = NAMES.covers.iter().skip(nth * WIDTHS.len());
    let paths = names.map(|(name, _)| format!("/covers/{name}"));
    WIDTHS.into_iter().zip(paths).collect()
}

/// A file of a film, by the last segments of its address.
pub(crate) fn film_file(folder: &str, file: &str) -> Option<Ready> {
    let nth = NAMES.folders.iter().position(|it| it == folder)?;
    let film = FILMS.iter().chain(COURSES).nth(nth)?;
    let found = film
        .files
        .iter()
        .find(|it| it.name.strip_prefix('/') == Some(file));
    found.copied()
}

/// A cover, by the last segment of its address.
pub(crate) fn cover_file(name: &str) -> Option<Ready> {
    let found = NAMES.covers.iter().find(|(it, _)| it == name);
    found.map(|(_, file)| *file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_shipped_is_found_under_its_name_and_is_small() {
        let mut bytes = 0;
        for film in FILMS {
            let folder = stream(film.id).unwrap();
            let name = folder.strip_prefix("/films/").unwrap();
            for file in film.files {
                let found = film_file(name, file.name.strip_prefix('/').unwrap()).unwrap();
                assert_eq!(found.bytes.len(), file.bytes.len());
                bytes += file.bytes.len();
            }
            let list = std::str::from_utf8(film.files[0].bytes).unwrap();
            for line in list.lines().filter(|it| !it.starts_with('#')) {
                assert!(film_file(name, line).is_some(), "{folder}/{line}");
            }
            assert_eq!(list.matches("part").count(), 5, "{folder} has other parts");
        }
        for course in COURSES {
            let folder = download(course.id).unwrap();
            let name = folder.strip_prefix("/downloads/").unwrap();
            bytes += film_file(name, "film.mp4").unwrap().bytes.len();
        }
        for cover in COVERS {
            for (width, path) in covers(cover.id) {
                let name = path.strip_prefix("/covers/").unwrap();
                assert!(name.contains(&format!("-{width}-")), "{name}");
                let found = cover_file(name).unwrap();
                assert_eq!(found.bytes.get(8..12), Some(&b"WEBP"[..]), "{name}");
                bytes += found.bytes.len();
            }
        }
        assert!((500_000..3_000_000).contains(&bytes), "{bytes} bytes");
        assert!(stream("plan-monthly").is_none() && covers("plan-monthly").is_empty());
    }
}
