//! Content against its declared type.
//!
//! A class that shares images must not share a page that an origin calls an image. The first bytes
//! decide: what has a magic number must show one of its family, what is text must not be a page.
//! Coded bodies are looked into; decoding is bounded by what comes out, so that a compression bomb
//! costs no more than a few KiB (and, for Brotli, the decoder's window).
//!
//! Never here: guessing a type for anybody. Bytes only contradict.

use std::io::Read;

use crate::admit::Coding;
use crate::reason::NotShared;

/// How many bytes of content are looked at.
pub(crate) const BYTES: usize = 512;

/// A document above this many bytes, decoded, is not compared.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;

/// What a type promises of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Html,
    Css,
    Script,
    Json,
    Xml,
    Svg,
    /// Other text that may be made for one visitor.
    Text,
    /// A list of media URLs.
    Playlist,
    /// Captions.
    Captions,
    Image,
    /// Audio and video: the containers are the same.
    Media,
    Font,
    Wasm,
    Pdf,
    Zip,
    Gzip,
    /// No promise but not to be a page.
    Opaque,
}

impl Kind {
    /// The kind of a type (lower case, no parameters).
    pub(crate) fn of(essence: &str) -> Self {
        match essence {
            "text/html" | "application/xhtml+xml" => Self::Html,
            "text/css" => Self::Css,
            "text/javascript"
            | "application/javascript"
            | "application/x-javascript"
            | "application/ecmascript"
            | "text/ecmascript"
            | "text/x-javascript" => Self::Script,
            "image/svg+xml" => Self::Svg,
            "text/xml" | "application/xml" => Self::Xml,
            "application/json" | "text/json" | "application/x-ndjson" | "application/jsonlines" => {
                Self::Json
            }
            "text/vtt" => Self::Captions,
            "application/vnd.apple.mpegurl"
            | "application/x-mpegurl"
            | "audio/mpegurl"
            | "audio/x-mpegurl" => Self::Playlist,
            "application/wasm" => Self::Wasm,
            "application/pdf" => Self::Pdf,
            "application/zip"
            | "application/x-zip-compressed"
            | "application/epub+zip"
            | "application/java-archive" => Self::Zip,
            "application/gzip" | "application/x-gzip" => Self::Gzip,
            "application/ogg" | "application/mp4" => Self::Media,
            "application/vnd.ms-fontobject" => Self::Font,
            _ if essence.ends_with("+json") => Self::Json,
            _ if essence.ends_with("+xml") => Self::Xml,
            _ if essence.ends_with("+zip") => Self::Zip,
            _ if essence.starts_with("text/") => Self::Text,
            _ if essence.starts_with("image/") => Self::Image,
            _ if essence.starts_with("audio/") || essence.starts_with("video/") => Self::Media,
            _ if essence.starts_with("font/")
                || essence.starts_with("application/font")
                || essence.starts_with("application/x-font") =>
            {
                Self::Font
            }
            _ => Self::Opaque,
        }
    }

    const fn is_text(self) -> bool {
        matches!(
            self,
            Self::Html
                | Self::Css
                | Self::Script
                | Self::Json
                | Self::Text
                | Self::Playlist
                | Self::Captions
        )
    }
}

/// Whether the first bytes of a body bear out its type.
///
/// # Errors
/// [`NotShared::Sniffed`], with what they look like.
pub(crate) fn agrees(essence: &str, coding: Coding, prefix: &[u8]) -> Result<(), NotShared> {
    let sniffed = |looks_like| NotShared::Sniffed {
        declared: essence.to_owned(),
        looks_like,
    };
    let decoded =
        decoded_prefix(coding, prefix).ok_or_else(|| sniffed("a broken content coding"))?;
    let content = decoded.get(..BYTES).unwrap_or(&decoded);
    let looks_like = looks_like(content);
    let agrees = match Kind::of(essence) {
        // Nothing is a text of length nothing.
        kind if kind.is_text() && looks_like == Look::Nothing => true,
        Kind::Html => looks_like.is_text(),
        // None of these can begin with a tag, of whatever name.
        Kind::Css | Kind::Script | Kind::Json | Kind::Captions | Kind::Playlist => {
            looks_like == Look::Text && !begins_with_tag(content)
        }
        Kind::Text => looks_like == Look::Text,
        Kind::Svg => is_svg(content),
        Kind::Xml => is_xml(content),
        Kind::Image => matches!(looks_like, Look::Image(_)),
        Kind::Media => matches!(looks_like, Look::Media(_)) || is_isobmff(content),
        Kind::Font => matches!(looks_like, Look::Font(_)),
        Kind::Wasm => looks_like == Look::Wasm,
        Kind::Pdf => looks_like == Look::Pdf,
        Kind::Zip => looks_like == Look::Zip,
        Kind::Gzip => looks_like == Look::Gzip,
        // Its parts may be anything, pages too.
        Kind::Opaque if is_composite(essence) => false,
        // Text of a type that we know nothing of may be made for one visitor like any other, and has
        // not been compared.
        Kind::Opaque => !looks_like.is_text(),
    };
    if agrees {
        Ok(())
    } else {
        Err(sniffed(looks_like.name()))
    }
}

/// Whether a type is of messages within a message (RFC 2046 5).
fn is_composite(essence: &str) -> bool {
    essence.starts_with("multipart/") || essence.starts_with("message/")
}

/// A whole body without its content coding.
///
/// # Errors
/// [`NotShared::Encoding`] when it cannot be decoded, [`NotShared::TooLarge`] when it is too much.
pub(crate) fn decoded(coding: Coding, body: &[u8]) -> Result<Vec<u8>, NotShared> {
    let mut decoded = Vec::new();
    if body.is_empty() {
        return Ok(decoded);
    }
    let limit = u64::try_from(DOCUMENT_BYTES_MAX).expect("16 MiB fits 64 bits") + 1;
    let (name, read) = match coding {
        Coding::Identity => ("identity", body.take(limit).read_to_end(&mut decoded)),
        Coding::Gzip => (
            "gzip",
            flate2::read::MultiGzDecoder::new(body)
                .take(limit)
                .read_to_end(&mut decoded),
        ),
        Coding::Brotli => (
            "br",
            brotli_decompressor::Decompressor::new(body, 4096)
                .take(limit)
                .read_to_end(&mut decoded),
        ),
    };
    if decoded.len() > DOCUMENT_BYTES_MAX {
        return Err(NotShared::TooLarge);
    }
    match read {
        Ok(_) => Ok(decoded),
        Err(_) => Err(NotShared::Encoding(name.to_owned())),
    }
}

/// At least [`BYTES`] of content if the prefix holds them, and not many more; `None` when there is a
/// prefix and nothing can be made of it.
fn decoded_prefix(coding: Coding, prefix: &[u8]) -> Option<Vec<u8>> {
    match coding {
        _ if prefix.is_empty() => Some(Vec::new()),
        Coding::Identity => Some(prefix.get(..BYTES).unwrap_or(prefix).to_vec()),
        Coding::Gzip => read_prefix(flate2::read::MultiGzDecoder::new(prefix)),
        Coding::Brotli => read_prefix(brotli_decompressor::Decompressor::new(prefix, 4096)),
    }
}

/// Reads until there is enough, or the prefix is cut off. A cut after the first byte of content is what a
/// prefix is; a decoder that has shown nothing by then shows nothing to judge by.
fn read_prefix(mut decoder: impl Read) -> Option<Vec<u8>> {
    let mut content = vec![0; BYTES];
    let mut filled = 0;
    while filled < BYTES {
        match decoder.read(content.get_mut(filled..)?) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(_) if filled > 0 => break,
            Err(_) => return None,
        }
    }
    content.truncate(filled);
    Some(content)
}

/// What bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    Html,
    Text,
    Image(&'static str),
    Media(&'static str),
    Font(&'static str),
    Wasm,
    Pdf,
    Zip,
    Gzip,
    Binary,
}

impl Look {
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Html => "HTML",
            Self::Text => "text",
            Self::Image(name) | Self::Media(name) | Self::Font(name) => name,
            Self::Wasm => "WebAssembly",
            Self::Pdf => "PDF",
            Self::Zip => "a ZIP archive",
            Self::Gzip => "gzip",
            Self::Binary => "binary data",
        }
    }

    const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Html)
    }
}

/// Magic numbers at the start (WHATWG MIME Sniffing 6, and the formats' own documents).
const MAGIC: &[(&[u8], Look)] = &[
    (b"\x89PNG\r\n\x1a\n", Look::Image("PNG")),
    (b"\xff\xd8\xff", Look::Image("JPEG")),
    (b"GIF87a", Look::Image("GIF")),
    (b"GIF89a", Look::Image("GIF")),
    (b"BM", Look::Image("BMP")),
    (b"\x00\x00\x01\x00", Look::Image("an icon")),
    (b"\x00\x00\x02\x00", Look::Image("a cursor")),
    (b"II*\x00", Look::Image("TIFF")),
    (b"MM\x00*", Look::Image("TIFF")),
    (b"\xff\x0a", Look::Image("JPEG XL")),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", Look::Image("JPEG XL")),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", Look::Image("JPEG 2000")),
    (b"8BPS", Look::Image("PSD")),
    (b"\x1aE\xdf\xa3", Look::Media("Matroska")),
    (b"OggS\x00", Look::Media("Ogg")),
    (b"ID3", Look::Media("MP3")),
    (b"fLaC", Look::Media("FLAC")),
    (b"MThd\x00\x00\x00\x06", Look::Media("MIDI")),
    (b"FLV\x01", Look::Media("FLV")),
    (b"#!AMR", Look::Media("AMR")),
    (b"0&\xb2u\x8ef\xcf\x11", Look::Media("ASF")),
    (b".snd\x00", Look::Media("Sun audio")),
    (b"\x00\x00\x01\xba", Look::Media("MPEG")),
    (b"\x00\x00\x01\xb3", Look::Media("MPEG")),
    (b"wOFF", Look::Font("WOFF")),
    (b"wOF2", Look::Font("WOFF2")),
    (b"\x00\x01\x00\x00", Look::Font("TrueType")),
    (b"OTTO", Look::Font("OpenType")),
    (b"true", Look::Font("TrueType")),
    (b"ttcf", Look::Font("a font collection")),
    (b"\x00asm", Look::Wasm),
    (b"%PDF-", Look::Pdf),
    (b"PK\x03\x04", Look::Zip),
    (b"PK\x05\x06", Look::Zip),
    (b"\x1f\x8b\x08", Look::Gzip),
];

fn looks_like(content: &[u8]) -> Look {
    if content.is_empty() {
        return Look::Nothing;
    }
    if is_html(content) {
        return Look::Html;
    }
    // Some magic numbers are words; a text that begins with one is still text.
    let text = is_text(content);
    let magic = MAGIC
        .iter()
        .find(|(magic, _)| content.starts_with(magic))
        .map(|(_, look)| *look);
    match magic {
        Some(look) if !text || look == Look::Pdf => return look,
        Some(Look::Media("AMR")) => return Look::Media("AMR"),
        _ => {}
    }
    if text {
        return Look::Text;
    }
    if content.starts_with(b"RIFF") {
        match content.get(8..12) {
            Some(b"WEBP") => return Look::Image("WebP"),
            Some(b"WAVE") => return Look::Media("WAV"),
            Some(b"AVI ") => return Look::Media("AVI"),
            _ => {}
        }
    }
    if content.starts_with(b"FORM") && matches!(content.get(8..12), Some(b"AIFF" | b"AIFC")) {
        return Look::Media("AIFF");
    }
    if is_isobmff(content) {
        let image = content
            .get(8..11)
            .is_some_and(|brand| [&b"avi"[..], b"hei", b"hev", b"mif", b"msf"].contains(&brand));
        return if image {
            Look::Image("AVIF or HEIF")
        } else {
            Look::Media("MP4")
        };
    }
    // Embedded OpenType has its number at byte 34.
    if content.get(34..36) == Some(b"LP") {
        return Look::Font("Embedded OpenType");
    }
    // MPEG audio frames begin with eleven set bits, ADTS with twelve; transport stream packets are of
    // 188 bytes and begin with `G`.
    if content.first() == Some(&0xff) && content.get(1).is_some_and(|b| b & 0xe0 == 0xe0) {
        return Look::Media("MPEG audio");
    }
    if content.first() == Some(&b'G') && content.get(188).is_none_or(|&b| b == b'G') {
        return Look::Media("an MPEG transport stream");
    }
    Look::Binary
}

/// ISO base media (ISO/IEC 14496-12): a box whose type says what file this is, or a fragment of one.
fn is_isobmff(content: &[u8]) -> bool {
    matches!(
        content.get(4..8),
        Some(b"ftyp" | b"styp" | b"moov" | b"moof" | b"sidx" | b"mdat")
    )
}

/// No byte that text never has (WHATWG MIME Sniffing 7.2, step 9), or UTF-16.
fn is_text(content: &[u8]) -> bool {
    let utf16 = content.starts_with(b"\xfe\xff") || content.starts_with(b"\xff\xfe");
    utf16
        || !content
            .iter()
            .any(|b| matches!(b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}

/// Behind byte order mark, white space and comments: where a page would begin. Zero bytes are dropped:
/// in UTF-16 every other byte of a tag is one.
fn beginning(content: &[u8]) -> Vec<u8> {
    let mut rest = content;
    for mark in [&b"\xef\xbb\xbf"[..], b"\xfe\xff", b"\xff\xfe"] {
        rest = rest.strip_prefix(mark).unwrap_or(rest);
    }
    let plain: Vec<u8> = rest.iter().copied().filter(|&b| b != 0).collect();
    let mut rest = plain.as_slice();
    loop {
        rest = rest.trim_ascii_start();
        if !rest.starts_with(b"<!--") {
            return rest.to_vec();
        }
        // A comment that does not end here hides the page that may follow it. `<!-->` is a whole one.
        match rest.windows(3).skip(2).position(|window| window == b"-->") {
            Some(end) => rest = rest.get(end + 5..).unwrap_or_default(),
            None => return rest.to_vec(),
        }
    }
}

/// Names of elements that begin a page or a fragment of one (WHATWG MIME Sniffing 7.1, and more).
const HTML_NAMES: &[&str] = &[
    "a", "article", "aside", "b", "base", "body", "br", "button", "center", "div", "em", "font",
    "footer", "form", "frameset", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr",
    "html", "i", "iframe", "img", "input", "label", "li", "link", "main", "meta", "nav",
    "noscript", "ol", "p", "pre", "script", "section", "select", "span", "strong", "style",
    "table", "tbody", "td", "template", "textarea", "tr", "title", "ul", "video",
];

fn is_html(content: &[u8]) -> bool {
    let beginning = beginning(content);
    let lower = beginning.to_ascii_lowercase();
    if lower.starts_with(b"<!doctype") {
        return lower
            .get(9..)
            .unwrap_or_default()
            .trim_ascii_start()
            .starts_with(b"html");
    }
    if lower.starts_with(b"<!--") {
        return true;
    }
    if lower.starts_with(b"<?xml") {
        // What follows the declaration decides; XHTML is a page.
        return lower.windows(5).any(|window| window == b"<html");
    }
    let Some(tag) = lower.strip_prefix(b"<") else {
        return false;
    };
    let end = tag
        .iter()
        .position(|b| !b.is_ascii_alphanumeric())
        .unwrap_or(tag.len());
    let (name, rest) = tag.split_at(end);
    let ends = rest
        .first()
        .is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'>' | b'/'));
    ends && HTML_NAMES.iter().any(|known| known.as_bytes() == name)
}

/// Whether the first thing is a tag, a declaration or an instruction.
fn begins_with_tag(content: &[u8]) -> bool {
    let beginning = beginning(content);
    beginning.first() == Some(&b'<')
        && beginning
            .get(1)
            .is_none_or(|b| b.is_ascii_alphabetic() || matches!(b, b'!' | b'?' | b'/'))
}

fn is_xml(content: &[u8]) -> bool {
    let lower = beginning(content).to_ascii_lowercase();
    // Elements of a vocabulary of its own may be called `title` or `a`; the root of a page may not.
    let page = [
        &b"<html"[..],
        b"<head",
        b"<body",
        b"<script",
        b"<!doctype html",
    ];
    is_text(content)
        && lower.starts_with(b"<")
        && !page.iter().any(|start| lower.starts_with(start))
        && !(lower.starts_with(b"<?xml") && lower.windows(5).any(|window| window == b"<html"))
}

fn is_svg(content: &[u8]) -> bool {
    let lower = beginning(content).to_ascii_lowercase();
    // A long licence comment may fill all that is looked at: XML's declaration is then all there is.
    is_xml(content)
        && [&b"<svg"[..], b"<?xml", b"<!doctype svg", b"<!--"]
            .iter()
            .any(|start| lower.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSS_BROTLI: &str = "1b9500c01c07762cb6b9e58253d3da6566af4f2b84919529183998c8017bf390023a11bd051a0e09\
                              6627f447d4c1b87fd303";
    const CSS_GZIP: &str = "1f8b08000000000000034bca4fa9acce4d2c4acfccb332b02e484c49c9cc4bb732b04ececfc92fb25236\
                            3636aee5d24bac86708b52536ab992e8a0030073d6ea0a96000000";
    const HTML_BROTLI: &str = "1b5c00008c934cfdfad43e70652f93278ccc291730b78551c089b713de7978e68f92ced82e62e89b\
                               544b95b6f926d8182497718fa525";
    const HTML_GZIP: &str = "1f8b0800000000000003b3514cc94f2ea92c4855c828c9cdb1b38192a98929763625992539a976bea9b9\
                             49a945c50af979399536fa10311b7d888aa4fc944a3b9b023b8fd49c9c7c1bfd023b1b7d88903ed81c00\
                             069838625d000000";
    /// The first bytes of 64 MiB of zeroes.
    const BOMB_BROTLI: &str = "cbffff3f002400e2b14072effff8ffff078004401c1680eefd1fffffff00900088c302d0bdffe3ffff\
                               1f001200715800baf77ffcffff034002200e0b40f7fe8fffff7f004800c46101e8defff1ffff0f0009\
                               80382c00";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().collect();
        let byte = |two: &[char]| u8::from_str_radix(&two.iter().collect::<String>(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[track_caller]
    fn check(essence: &str, content: &[u8], expected: Result<(), &str>) {
        coded(essence, Coding::Identity, content, expected);
    }

    #[track_caller]
    fn coded(essence: &str, coding: Coding, content: &[u8], expected: Result<(), &str>) {
        let got = agrees(essence, coding, content).map_err(|why| match why {
            NotShared::Sniffed {
                declared,
                looks_like,
            } => {
                assert_eq!(declared, essence);
                looks_like
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(
            got,
            expected,
            "{essence}: {}",
            String::from_utf8_lossy(content)
        );
    }

    const PAGES: &[&[u8]] = &[
        b"<!DOCTYPE html><html>",
        b"<!doctype HTML public \"x\">",
        b"\n\t <html lang=en>",
        b"\xef\xbb\xbf<HEAD>",
        b"<!-- built --><!-- by --> <body>",
        b"<!--><body>",
        b"<!-- a comment that does not end",
        b"<script>var a",
        b"<title>Members only</title>",
        b"<meta charset=utf-8>",
        b"<a href=/>",
        b"<div class=x>",
        b"<br />",
        b"<?xml version=\"1.0\"?><html xmlns=\"http://www.w3.org/1999/xhtml\">",
        b"\xff\xfe<\0h\0t\0m\0l\0>\0",
        b"<html",
    ];

    #[test]
    fn a_page_is_no_file() {
        for essence in [
            "text/css",
            "text/javascript",
            "application/json",
            "text/plain",
            "text/csv",
            "image/png",
            "font/woff2",
            "video/mp4",
            "application/pdf",
            "application/octet-stream",
            "application/wasm",
            "application/vnd.apple.mpegurl",
            "text/vtt",
            "application/manifest+json",
            "x/y",
            "application/zip",
        ] {
            for page in PAGES {
                let got = agrees(essence, Coding::Identity, page);
                assert!(got.is_err(), "{essence}: {}", String::from_utf8_lossy(page));
            }
        }
        for page in PAGES {
            assert!(agrees("text/html", Coding::Identity, page).is_ok());
        }
        check(
            "application/xml",
            b"<?xml version=\"1.0\"?>\n<html>",
            Err("HTML"),
        );
        check("application/rss+xml", b"<html>", Err("HTML"));
        check(
            "image/svg+xml",
            b"<?xml version=\"1.0\"?>\n<html>",
            Err("HTML"),
        );
        check("image/svg+xml", b"<!doctype html><svg>", Err("HTML"));
    }

    #[test]
    fn text_is_text() {
        check("text/css", b"body{color:red}", Ok(()));
        check("text/css", b"/* <html> */ a{}", Ok(()));
        check("text/css", b"@charset \"utf-8\";", Ok(()));
        check("text/css", b"", Ok(()));
        check("text/css", b"<anything>", Err("text"));
        check("text/css", b"</style>", Err("text"));
        check("text/css", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", Err("PNG"));
        check("application/javascript", b"'use strict';", Ok(()));
        check("application/javascript", b"<!-- old --> var a=1", Ok(()));
        check("text/javascript", b"true && a()", Ok(()));
        check("application/json", b" {\"a\":1}", Ok(()));
        check("application/json", b"<?php", Err("text"));
        check("text/plain", b"1 < 2, <unknown>", Ok(()));
        check("text/plain", b"<unknown> element", Ok(()));
        check("text/plain", b"BM is a word, and GIF89a", Ok(()));
        check("text/plain", b"\x1f\x8b\x08\x00\x00", Err("gzip"));
        check("text/plain", b"nothing\0here", Err("binary data"));
        check("text/plain", "仕切り".as_bytes(), Ok(()));
        check("text/html", b"Hello", Ok(()));
        check("text/html", b"\x89PNG\r\n\x1a\n\0", Err("PNG"));
        check("application/vnd.apple.mpegurl", b"#EXTM3U\n", Ok(()));
        check("text/vtt", b"WEBVTT\n", Ok(()));
        check("application/octet-stream", b"\0\x01anything", Ok(()));
    }

    #[test]
    fn what_has_a_magic_number_shows_it() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        let webp = b"RIFF\x24\x00\x00\x00WEBPVP8 ";
        for (essence, content) in [
            ("image/png", &png[..]),
            ("image/jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
            // Mislabelled, but of the family.
            ("image/jpeg", webp),
            ("image/webp", webp),
            ("image/gif", b"GIF89a\x01\0\x01\0\x80\0\0"),
            ("image/avif", b"\0\0\0\x20ftypavif\0\0\0\0"),
            ("image/heic", b"\0\0\0\x18ftypheic\0\0\0\0"),
            ("image/x-icon", b"\0\0\x01\0\x01\0\x10\x10"),
            ("image/bmp", b"BM\x36\0\0\0"),
            ("image/tiff", b"II*\0\x08\0\0\0"),
            ("video/mp4", b"\0\0\0\x20ftypisom\0\0\x02\0"),
            ("video/mp4", b"\0\0\0\x18stypmsdh\0\0\0\0"),
            ("video/webm", b"\x1aE\xdf\xa3\x9fB\x86\x81\x01"),
            ("video/mp2t", b"G@\x11\x10\0B\xf0%\0\x01"),
            ("audio/mpeg", b"ID3\x04\0\0\0\0\0#"),
            ("audio/mpeg", b"\xff\xfb\x90d\0\x0f"),
            ("audio/aac", b"\xff\xf1P\x80\x02\x1f\xfc"),
            ("audio/ogg", b"OggS\0\x02\0\0"),
            ("audio/wav", b"RIFF\x24\0\0\0WAVEfmt "),
            ("audio/flac", b"fLaC\0\0\0\x22"),
            ("font/woff2", b"wOF2\0\x01\0\0"),
            ("font/woff", b"wOFF\0\x01\0\0"),
            ("font/ttf", b"\0\x01\0\0\0\x0f\0\x80"),
            ("font/otf", b"OTTO\0\x0b\0\x80"),
            ("application/font-woff", b"wOFF\0\x01\0\0"),
            ("application/wasm", b"\0asm\x01\0\0\0"),
            ("application/pdf", b"%PDF-1.7\n%\xe2\xe3"),
            ("application/zip", b"PK\x03\x04\x14\0"),
            ("application/gzip", b"\x1f\x8b\x08\0\0"),
            (
                "image/svg+xml",
                b"<svg xmlns=\"http://www.w3.org/2000/svg\">",
            ),
            ("image/svg+xml", b"<?xml version=\"1.0\"?>\n<!-- x --><svg>"),
            ("image/svg+xml", b"<!-- a --><!DOCTYPE svg PUBLIC>"),
            ("application/xml", b"<urlset>"),
            (
                "application/rss+xml",
                b"\xef\xbb\xbf<?xml version=\"1.0\"?><rss>",
            ),
        ] {
            check(essence, content, Ok(()));
        }
        for (essence, content, looks_like) in [
            ("image/png", &b""[..], "nothing"),
            ("image/png", b"Not found", "text"),
            ("image/png", b"{\"error\":1}", "text"),
            ("image/png", b"%PDF-1.7\n", "PDF"),
            ("video/mp4", png, "PNG"),
            ("font/woff2", png, "PNG"),
            ("font/woff2", b"wOF2", "text"),
            ("application/wasm", b"PK\x03\x04\0", "a ZIP archive"),
            ("application/pdf", b"hello", "text"),
            ("image/svg+xml", b"hello", "text"),
            ("image/svg+xml", b"<rss>", "text"),
            ("application/xml", b"{\"a\":1}", "text"),
            ("image/x-unknown", b"\0\0\x09\0", "binary data"),
        ] {
            check(essence, content, Err(looks_like));
        }
    }

    #[test]
    fn a_coding_is_looked_into() {
        for (coding, css, html) in [
            (Coding::Gzip, CSS_GZIP, HTML_GZIP),
            (Coding::Brotli, CSS_BROTLI, HTML_BROTLI),
        ] {
            let (css, html) = (bytes(css), bytes(html));
            coded("text/css", coding, &css, Ok(()));
            coded("text/css", coding, &html, Err("HTML"));
            coded("text/html", coding, &html, Ok(()));
            coded(
                "text/css",
                coding,
                b"body{color:red}",
                Err("a broken content coding"),
            );
            coded(
                "text/css",
                coding,
                &css[..3],
                Err("a broken content coding"),
            );
            coded("text/css", coding, b"", Ok(()));
            assert!(decoded(coding, &css).unwrap().starts_with(b"body{margin:0"));
            for broken in [&b"plain"[..], &css[..css.len() - 9]] {
                let got = decoded(coding, broken);
                assert!(
                    matches!(got, Err(NotShared::Encoding(_))),
                    "{coding:?} {got:?}"
                );
            }
        }
    }

    #[test]
    fn a_bomb_costs_what_is_looked_at() {
        let prefix = decoded_prefix(Coding::Brotli, &bytes(BOMB_BROTLI));
        assert_eq!(prefix.unwrap().len(), BYTES);
        let zeroes = std::io::repeat(0).take(32 << 20);
        let mut bomb = Vec::new();
        let mut gzip = flate2::read::GzEncoder::new(zeroes, flate2::Compression::fast());
        gzip.read_to_end(&mut bomb).unwrap();
        assert_eq!(decoded_prefix(Coding::Gzip, &bomb).unwrap().len(), BYTES);
        assert_eq!(decoded(Coding::Gzip, &bomb), Err(NotShared::TooLarge));
    }
}
