//! What all pages have in common: the frame around them, fields, prices, dates.
//!
//! Text is escaped by the templates; nothing here puts text on a page as it is. The frame is the
//! same for everybody but for the button that logs out, which only a member's page has.

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use maud::{DOCTYPE, Markup, html};

use crate::asked::{Lang, Millis, Public};

/// The style sheet. Its name changes with it, so that a copy is never out of date.
pub(crate) const STYLE: &str = include_str!("style.css");

/// The name under which a content is served for ever: its own, with a digest of the content.
pub(crate) fn lasting(name: &str, content: &str, extension: &str) -> String {
    let digest = blake3::hash(content.as_bytes()).to_hex();
    format!("{name}-{digest:.12}.{extension}")
}

pub(crate) fn style_path() -> String {
    format!("/static/{}", lasting("style", STYLE, "css"))
}

/// Whose page the frame is around.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Anybody's, or a form of who is not logged in.
    Anybodys,
    Members,
}

/// A whole page.
pub(crate) fn page(asked: &Public, title: &str, frame: Frame, main: &Markup) -> Markup {
    let lang = asked.lang();
    let code = lang.code();
    let t = |ja, en| lang.of::<&str>(ja, en);
    html! {
        (DOCTYPE)
        html lang=(code) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · " (t("仕切り座", "Shikiri-za")) }
                link rel="stylesheet" href=(style_path());
            }
            body {
                a.skip href="#main" { (t("本文へ", "To the content")) }
                header {
                    div.wide {
                        a.name href={ "/" (code) "/" } { (t("仕切り座", "Shikiri-za")) }
                        form role="search" action={ "/" (code) "/films" } method="get" {
                            input type="search" name="q" aria-label=(t("作品を探す", "Search")) maxlength="80";
                            button { (t("検索", "Search")) }
                        }
                        nav aria-label=(t("メニュー", "Menu")) {
                            a href={ "/" (code) "/films" } { (t("作品", "Films")) }
                            a href={ "/" (code) "/account" } { (t("マイページ", "My account")) }
                            @if frame == Frame::Members {
                                form action={ "/" (code) "/logout" } method="post" {
                                    button { (t("ログアウト", "Log out")) }
                                }
                            }
                            a href=(in_other(asked)) lang=(lang.other().code()) hreflang=(lang.other().code()) {
                                (t("English", "日本語"))
                            }
                        }
                    }
                }
                @if let Some(notice) = asked.notice() {
                    p.notice role="status" { (t("ただいまメンテナンス中です。", "The site is closed for maintenance.")) " "
                        @match notice.reopening {
                            Some(at) => { (lang.of(format!("再開予定：{}（日本時間）", minute(at)), format!("Planned to open again: {} (Japan time).", minute(at)))) }
                            None => { (t("再開の時刻は決まり次第お知らせします。", "We will say when it opens again.")) }
                        }
                    }
                }
                main #main.wide { h1 { (title) } (main) }
                footer {
                    div.wide { (t("見本の店です。作品も会員も実在しません。", "A sample store: neither its films nor its members exist.")) }
                }
            }
        }
    }
}

/// The same page in the other language.
fn in_other(asked: &Public) -> String {
    let other = asked.lang().other().code();
    let rest = asked
        .path()
        .strip_prefix(&format!("/{}/", asked.lang().code()));
    format!("/{other}/{}", rest.unwrap_or_default())
}

/// A labelled field. `more` is said beneath the label.
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    pub(crate) more: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) value: &'a str,
    /// What browsers fill in: the tokens of HTML's `autocomplete`.
    pub(crate) autocomplete: &'a str,
    pub(crate) letters_max: usize,
}

pub(crate) fn field(field: &Field<'_>) -> Markup {
    html! {
        label {
            (field.label)
            @if !field.more.is_empty() { small { (field.more) } }
            input type=(field.kind) name=(field.name) value=(field.value) autocomplete=(field.autocomplete)
                maxlength=(field.letters_max) required;
        }
    }
}

/// What is wrong with a form. Read out at once by screen readers.
pub(crate) fn wrong(why: Option<&str>) -> Markup {
    html! { @if let Some(why) = why { p.wrong role="alert" { (why) } } }
}

pub(crate) fn yen(lang: Lang, price: i64) -> String {
    let digits = price.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        let left = digits.len() - nth;
        if nth > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    lang.of(format!("{text}円"), format!("¥{text}"))
}

/// A day in Japan.
pub(crate) fn day(at: Millis) -> String {
    in_japan(at).date().to_string()
}

/// A minute in Japan.
pub(crate) fn minute(at: Millis) -> String {
    in_japan(at).strftime("%Y-%m-%d %H:%M").to_string()
}

fn in_japan(at: Millis) -> Zoned {
    Timestamp::from_millisecond(at.0)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::fixed(Offset::constant(9)))
}

pub(crate) fn stars(lang: Lang, stars: i64) -> Markup {
    let full = usize::try_from(stars.clamp(0, 5)).unwrap_or_default();
    let said = lang.of(format!("星{full}つ"), format!("{full} of 5 stars"));
    html! { span.stars role="img" aria-label=(said) { (format!("{}{}", "★".repeat(full), "☆".repeat(5 - full))) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_and_days_are_written_as_people_do() {
        for (price, ja, en) in [
            (0, "0円", "¥0"),
            (980, "980円", "¥980"),
            (1_234_567, "1,234,567円", "¥1,234,567"),
        ] {
            assert_eq!(
                (yen(Lang::Ja, price).as_str(), yen(Lang::En, price).as_str()),
                (ja, en)
            );
        }
        // 15:00 UTC is the next day in Japan.
        assert_eq!(day(Millis(1_793_502_000_000)), "2026-11-01");
        assert_eq!(day(Millis(1_793_545_200_000)), "2026-11-02");
        assert_eq!(minute(Millis(1_793_545_200_000)), "2026-11-02 00:00");
    }

    #[test]
    fn the_other_language_is_the_same_page() {
        for (path, other) in [
            ("/", "/en/"),
            ("/ja/", "/en/"),
            ("/en/", "/ja/"),
            ("/ja/account/orders", "/en/account/orders"),
            (
                "/en/products/last-lighthouse",
                "/ja/products/last-lighthouse",
            ),
            ("/nothing/here", "/en/"),
        ] {
            assert_eq!(
                in_other(&Public::new(path, "", Vec::new())),
                other,
                "{path}"
            );
        }
    }
}
