//! What holds without a policy, and what the built-in kinds of class start from.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::rules::{Lifetimes, Limits, Match, NamePattern, To, TypePattern};

/// Cookies that say nothing about the page: analytics, advertising, consent banners.
pub(super) const IGNORABLE_COOKIES: &[&str] = &[
    "_ga",
    "_ga_*",
    "_gid",
    "_gat*",
    "_gcl_*",
    "_gac_*",
    "__gads",
    "__gpi",
    "__eoi",
    "__utm*",
    "_fbp",
    "_fbc",
    "_hj*",
    "_pk_*",
    "_clck",
    "_clsk",
    "_uetsid",
    "_uetvid",
    "_ttp",
    "_scid",
    "_pin_unauth",
    "_yjsu_yjad",
    "_ly_su",
    "ajs_anonymous_id",
    "OptanonConsent",
    "OptanonAlertBoxClosed",
    "CookieConsent",
    "cookieconsent_status",
];

/// Extensions of what sites build and put beside their pages.
const ASSET_EXTENSIONS: &[&str] = &[
    "css",
    "js",
    "mjs",
    "wasm",
    "png",
    "apng",
    "jpg",
    "jpeg",
    "gif",
    "webp",
    "avif",
    "jxl",
    "svg",
    "ico",
    "bmp",
    "woff",
    "woff2",
    "ttf",
    "otf",
    "eot",
    "webmanifest",
];

const ASSET_TYPES: &[&str] = &[
    "text/css",
    "text/javascript",
    "application/javascript",
    "application/x-javascript",
    "application/ecmascript",
    "application/wasm",
    "application/manifest+json",
    "image/*",
    "font/*",
    "application/font-woff",
    "application/font-woff2",
    "application/x-font-woff",
    "application/x-font-ttf",
    "application/x-font-otf",
    "application/vnd.ms-fontobject",
];

/// Extensions of pictures, sound, films and their playlists.
const MEDIA_EXTENSIONS: &[&str] = &[
    "png", "apng", "jpg", "jpeg", "gif", "webp", "avif", "jxl", "svg", "bmp", "mp4", "m4v", "m4s",
    "webm", "mov", "ogv", "ts", "mp3", "m4a", "aac", "ogg", "oga", "opus", "wav", "flac", "m3u8",
    "mpd", "vtt",
];

const MEDIA_TYPES: &[&str] = &[
    "image/*",
    "video/*",
    "audio/*",
    "application/vnd.apple.mpegurl",
    "application/x-mpegurl",
    "application/dash+xml",
    "text/vtt",
];

const PAGE_TYPES: &[&str] = &["text/html", "application/xhtml+xml"];

/// What a class starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A class named `assets`.
    Assets,
    /// A class named `pages`.
    Pages,
    /// A class named `media`.
    Media,
    /// Any other.
    Own,
}

/// The name of the class that is there without a policy.
pub(super) const ASSETS: &str = "assets";

impl Kind {
    pub(super) fn of(name: &str) -> Self {
        match name {
            ASSETS => Self::Assets,
            "pages" => Self::Pages,
            "media" => Self::Media,
            _ => Self::Own,
        }
    }

    /// Which requests, when the class does not say.
    pub(super) fn matches(self) -> Option<Match> {
        let extensions = match self {
            Self::Assets => ASSET_EXTENSIONS,
            Self::Media => MEDIA_EXTENSIONS,
            Self::Pages | Self::Own => return None,
        };
        let mut extensions: Vec<String> = extensions.iter().map(|&e| e.to_owned()).collect();
        extensions.sort();
        Some(Match {
            extensions,
            ..Match::default()
        })
    }

    /// To whom, when the class does not say. HTML is never given away unasked.
    pub(super) const fn to(self) -> Option<To> {
        match self {
            Self::Assets | Self::Media => Some(To::Everyone),
            Self::Pages | Self::Own => None,
        }
    }

    pub(super) fn types(self) -> Option<Vec<TypePattern>> {
        let types = match self {
            Self::Assets => ASSET_TYPES,
            Self::Media => MEDIA_TYPES,
            Self::Pages => PAGE_TYPES,
            Self::Own => return None,
        };
        let mut types: Vec<TypePattern> =
            types.iter().map(|&t| TypePattern(t.to_owned())).collect();
        types.sort_by(|a, b| a.0.cmp(&b.0));
        Some(types)
    }

    pub(super) fn statuses() -> BTreeSet<u16> {
        BTreeSet::from([200])
    }

    /// Whether it is meant for static files, when the class does not say.
    pub(super) const fn is_static(self) -> bool {
        matches!(self, Self::Assets | Self::Media)
    }

    /// Pictures and films are compressed already: one copy does for every content coding.
    pub(super) const fn key_encoding(self) -> bool {
        !matches!(self, Self::Media)
    }

    pub(super) const fn lifetimes(self) -> Lifetimes {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let (default, max, stale_while_revalidate, stale_if_error) = match self {
            Self::Assets => (Some(MINUTE), DAY, MINUTE, 10 * MINUTE),
            Self::Media => (Some(MINUTE), 7 * DAY, MINUTE, 10 * MINUTE),
            Self::Pages => (Some(10), HOUR, 10, 10 * MINUTE),
            Self::Own => (None, HOUR, 0, 0),
        };
        Lifetimes {
            default: match default {
                Some(seconds) => Some(Duration::from_secs(seconds)),
                None => None,
            },
            max: Duration::from_secs(max),
            stale_while_revalidate: Duration::from_secs(stale_while_revalidate),
            stale_if_error: Duration::from_secs(stale_if_error),
        }
    }

    /// The largest body, but never more than the store or the comparison of documents takes.
    pub(super) fn object_bytes_max(self, limits: &Limits) -> u64 {
        match self {
            Self::Assets | Self::Own => (32 << 20).min(limits.store_bytes_max),
            Self::Media => (64 << 20).min(limits.store_bytes_max),
            Self::Pages => limits.document_bytes_max.min(limits.store_bytes_max),
        }
    }
}

/// Whether a type is one of style sheets, scripts, pictures, fonts, sound or films, and so never a
/// page or somebody's data.
pub(super) fn is_of_static_files(pattern: &TypePattern) -> bool {
    ASSET_TYPES.iter().chain(MEDIA_TYPES).any(|&known| {
        let family = known.strip_suffix('*');
        known == pattern.0 || family.is_some_and(|family| pattern.0.starts_with(family))
    })
}

pub(super) fn ignorable_cookies() -> impl Iterator<Item = NamePattern> {
    IGNORABLE_COOKIES
        .iter()
        .map(|&name| NamePattern(name.to_owned()))
}
