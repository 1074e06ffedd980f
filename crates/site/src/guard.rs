//! Forms are taken from our own pages alone.
//!
//! No token is in any form, so shared pages can hold forms too. A browser says where a form was sent
//! from (`Sec-Fetch-Site`, or else `Origin`); who says neither is no browser of these ten years and is
//! refused. The session's cookie is `SameSite=Lax` besides.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// Whether a form was sent from a page of this site.
pub(crate) fn is_from_our_page(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let (Some(origin), Some(host)) = (text(ORIGIN.as_str()), text(HOST.as_str())) else {
        return false;
    };
    // The scheme is the viewer's, who may speak TLS with a hop before us.
    let authority = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    authority.is_some_and(|it| it.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_told_from_ours() {
        for (headers, ours) in [
            (
                &[("host", "shop.test"), ("sec-fetch-site", "same-origin")][..],
                true,
            ),
            (
                &[("host", "shop.test"), ("sec-fetch-site", "same-site")],
                false,
            ),
            (
                &[
                    ("host", "shop.test"),
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "http://shop.test"),
                ],
                false,
            ),
            (&[("host", "shop.test"), ("sec-fetch-site", "none")], false),
            (
                &[("host", "shop.test"), ("origin", "https://shop.test")],
                true,
            ),
            (
                &[
                    ("host", "shop.test:8080"),
                    ("origin", "http://shop.test:8080"),
                ],
                true,
            ),
            (
                &[("host", "shop.test:8080"), ("origin", "http://shop.test")],
                false,
            ),
            (
                &[
                    ("host", "shop.test"),
                    ("origin", "https://shop.test.evil.test"),
                ],
                false,
            ),
            (&[("host", "shop.test"), ("origin", "null")], false),
            (&[("host", "shop.test")], false),
            (&[("origin", "https://shop.test")], false),
        ] {
            let held = headers
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let held = held.collect::<HeaderMap>();
            assert_eq!(is_from_our_page(&held), ours, "{headers:?}");
        }
    }
}
