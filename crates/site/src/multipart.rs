//! Forms with a file: `multipart/form-data` as browsers send it, and nothing beyond.
//!
//! The body is in memory and within bounds already. Whatever is not plainly a form of ours is refused as a
//! whole: nothing is guessed.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Fields of one form, the file included.
const PARTS_MAX: usize = 16;
/// The heading of one part, in bytes.
const HEADING_MAX: usize = 1024;

/// A file that was sent. Its name was not looked at.
#[derive(Clone)]
pub struct Upload {
    pub bytes: Bytes,
}

/// The fields of a form, and the file of one of them.
pub(crate) type Parts = (BTreeMap<String, String>, Option<Upload>);

/// The boundary that a content type names. `None`: it is no form with a file.
pub(crate) fn boundary(content_type: &str) -> Option<&str> {
    let rest = content_type.strip_prefix("multipart/form-data;")?.trim();
    let boundary = rest.strip_prefix("boundary=")?.trim_matches('"');
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=?".contains(&byte);
    ((1..=70).contains(&boundary.len()) && boundary.bytes().all(good)).then_some(boundary)
}

pub(crate) fn parts(body: &Bytes, boundary: &str) -> Option<Parts> {
    let open = format!("--{boundary}\r\n");
    let next = format!("\r\n--{boundary}");
    let mut at = body.starts_with(open.as_bytes()).then_some(open.len())?;
    let (mut fields, mut file) = (BTreeMap::new(), None);
    for _ in 0..PARTS_MAX {
        let heading_ends = find(body.get(at..)?, b"\r\n\r\n")?;
        if heading_ends > HEADING_MAX {
            return None;
        }
        let heading = std::str::from_utf8(body.get(at..at + heading_ends)?).ok()?;
        let begins = at + heading_ends + 4;
        let ends = begins + find(body.get(begins..)?, next.as_bytes())?;
        let (name, is_file) = named(heading)?;
        match (is_file, &file) {
            (false, _) => {
                let text = std::str::from_utf8(body.get(begins..ends)?).ok()?;
                fields.entry(name).or_insert_with(|| text.to_owned());
            }
            (true, None) => {
                file = Some(Upload {
                    bytes: body.slice(begins..ends),
                });
            }
            (true, Some(_)) => return None,
        }
        at = ends + next.len();
        match body.get(at..at + 2)? {
            b"\r\n" => at += 2,
            b"--" => return Some((fields, file)),
            _ => return None,
        }
    }
    None
}

/// The name of a part's field, and whether it is a file.
fn named(heading: &str) -> Option<(String, bool)> {
    let lines = heading.split("\r\n");
    let mut dispositions = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-disposition")
            .then(|| value.trim())
    });
    let value = dispositions
        .next()
        .filter(|_| dispositions.next().is_none())?;
    let rest = value.strip_prefix("form-data;")?.trim_start();
    let (name, rest) = rest.strip_prefix("name=\"")?.split_once('"')?;
    Some((
        name.to_owned(),
        rest.trim_start_matches([';', ' ']).starts_with("filename="),
    ))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|it| it == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_with_a_file_is_read_or_refused_as_a_whole() {
        let field = "--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nMine\r\n";
        let file = "--b\r\nContent-Disposition: form-data; name=\"film\"; filename=\"a.webm\"\r\n\
                    Content-Type: video/webm\r\n\r\n\x1aE\r\n--not\r\n";
        for (body, good) in [
            (format!("{field}{file}--b--\r\n"), true),
            (format!("{file}{field}--b--"), true),
            (format!("{field}{file}"), false),
            (format!("{file}{file}--b--"), false),
            (format!("x{field}{file}--b--"), false),
            (format!("{}{file}--b--", field.repeat(PARTS_MAX)), false),
            (
                format!("--b\r\nContent-Type: text/plain\r\n\r\nx\r\n{file}--b--"),
                false,
            ),
            (
                format!("--b\r\n{}\r\n\r\nx\r\n--b--", "a".repeat(HEADING_MAX + 1)),
                false,
            ),
            (String::new(), false),
        ] {
            let read = parts(&body.clone().into(), "b");
            assert_eq!(read.is_some(), good, "{body}");
            if let Some((fields, file)) = read {
                assert_eq!(fields.get("title").map(String::as_str), Some("Mine"));
                assert_eq!(&file.unwrap().bytes[..], b"\x1aE\r\n--not");
            }
        }
    }

    #[test]
    fn a_boundary_is_one_of_a_browsers() {
        for (text, found) in [
            (
                "multipart/form-data; boundary=----WebKitFormBoundaryx",
                Some("----WebKitFormBoundaryx"),
            ),
            ("multipart/form-data; boundary=\"a b\"", None),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=a", None),
            ("multipart/form-data; boundary=", None),
        ] {
            assert_eq!(boundary(text), found, "{text}");
        }
    }
}
