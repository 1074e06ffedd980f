//! What everybody sees: the front page, the catalogue, products, the style sheet.
//!
//! Invariant: each is a function of its address and of the shelf. A form that acts holds nothing of
//! anybody's: no token, no hidden field.

use maud::{Markup, html};

use super::drawing;
use crate::answer::{Css, Html, Shared};
use crate::asked::{Lang, Local, Public};
use crate::films;
use crate::html::{Frame, STYLE, day, lasting, page, stars, yen};
use crate::refusal::Refusal;
use crate::store::{Product, ProductKind, Shelf};

pub(super) fn home(shelf: &Shelf, asked: &Public) -> Result<Shared<Html>, Refusal> {
    let lang = asked.lang();
    let found = shelf.search("", 0)?;
    let title = lang.of("小さな映画と講座の店", "Small films and courses");
    let main = html! {
        p.quiet { (lang.of("配信、ダウンロード、ディスク、月額プラン。", "Streamed, downloaded, on disc, or by the month.")) }
        (grid(asked, &found.products))
    };
    Ok(Shared::new(Html::new(page(
        asked,
        title,
        Frame::Anybodys,
        &main,
    ))))
}

pub(super) fn films(shelf: &Shelf, asked: &Public) -> Result<Shared<Html>, Refusal> {
    let lang = asked.lang();
    let words = asked.query("q");
    // People count pages from 1; what is no number is the first.
    let nth = asked
        .query("page")
        .parse::<usize>()
        .unwrap_or(1)
        .clamp(1, crate::store::PAGES_MAX);
    let found = shelf.search(words, nth - 1)?;
    let title = match words.trim() {
        "" => lang.of("すべての作品", "All there is").to_owned(),
        words => lang.of(
            format!("「{words}」の検索結果"),
            format!("Results for “{words}”"),
        ),
    };
    let to = |nth: usize| {
        let path = format!("/{}/films", lang.code());
        let to = Local::with(&path, &[("q", words), ("page", &nth.to_string())]);
        to.text().to_owned()
    };
    let main = html! {
        @if found.products.is_empty() { p { (lang.of("見つかりませんでした。", "Nothing was found.")) } }
        (grid(asked, &found.products))
        nav aria-label=(lang.of("ページ", "Pages")) {
            @if nth > 1 { a rel="prev" href=(to(nth - 1)) { (lang.of("前へ", "Before")) } }
            @if found.more { a rel="next" href=(to(nth + 1)) { (lang.of("次へ", "More")) } }
        }
    };
    Ok(Shared::new(Html::new(page(
        asked,
        &title,
        Frame::Anybodys,
        &main,
    ))))
}

pub(super) fn product(shelf: &Shelf, asked: &Public) -> Result<Shared<Html>, Refusal> {
    let lang = asked.lang();
    let product = shelf
        .product(asked.parameter("product"))?
        .ok_or(Refusal::NotFound)?;
    let reviews = shelf.reviews(&product.id)?;
    let watch = match product.kind {
        ProductKind::Stream => Some(lang.of("視聴する", "Watch")),
        ProductKind::Download => Some(lang.of("ダウンロードする", "Download")),
        ProductKind::Monthly | ProductKind::Disc => None,
    };
    let main = html! {
        div.product {
            (cover(asked, &product.id, false))
            div {
                p { (product.about(lang)) }
                p.quiet { (facts(lang, &product)) }
                p.price { (yen(lang, product.price_yen)) }
                p { a.button href={ "/" (lang.code()) "/buy/" (product.id) } { (lang.of("購入する", "Buy")) } }
                @if let Some(watch) = watch {
                    // It acts, and holds no token: it is taken from this site's own pages alone.
                    form method="post" action={ "/" (lang.code()) "/watch/" (product.id) } { button { (watch) } }
                }
                a href={ "/" (lang.code()) "/account/reviews/" (product.id) } {
                    (lang.of("レビューを書く", "Write a review"))
                }
            }
        }
        h2 { (lang.of("レビュー", "Reviews")) }
        @if reviews.is_empty() { p.quiet { (lang.of("まだありません。", "None yet.")) } }
        @for review in &reviews {
            article.sheet {
                p { (stars(lang, review.stars)) " " strong { (review.by) } " " span.quiet { (day(review.written)) } }
                p { (review.text) }
            }
        }
    };
    Ok(Shared::new(Html::new(page(
        asked,
        product.title(lang),
        Frame::Anybodys,
        &main,
    ))))
}

pub(super) fn style(_: &Shelf, asked: &Public) -> Result<Shared<Css>, Refusal> {
    if asked.parameter("sheet") == lasting("style", STYLE, "css") {
        Ok(Shared::new(Css(STYLE)))
    } else {
        Err(Refusal::NotFound)
    }
}

/// A product's cover, in the sizes that there are.
fn cover(asked: &Public, product: &str, is_lazy: bool) -> Markup {
    let media = asked.media();
    let sizes = films::covers(product);
    let address = |path: &str| media.address(path);
    let set: Vec<_> = sizes
        .iter()
        .map(|(width, path)| format!("{} {width}w", address(path)))
        .collect();
    let middle = sizes.get(1).map(|(_, path)| address(path));
    let loading = is_lazy.then_some("lazy");
    html! {
        @match middle {
            Some(middle) => {
                img src=(middle) srcset=(set.join(", ")) sizes="(min-width: 46rem) 40rem, 100vw" alt="" width="640" height="360" loading=[loading];
            }
            None => { img src=(address(&drawing::path(product))) alt="" width="640" height="480" loading=[loading]; }
        }
    }
}

fn grid(asked: &Public, products: &[Product]) -> Markup {
    let lang = asked.lang();
    html! {
        ul.grid {
            @for product in products {
                li {
                    a href={ "/" (lang.code()) "/products/" (product.id) } {
                        (cover(asked, &product.id, true))
                        span.title { (product.title(lang)) }
                        span.quiet { (facts(lang, product)) " · " (yen(lang, product.price_yen)) }
                    }
                }
            }
        }
    }
}

fn facts(lang: Lang, product: &Product) -> String {
    let kind = match product.kind {
        ProductKind::Stream => lang.of("配信", "Streaming"),
        ProductKind::Download => lang.of("ダウンロード", "Download"),
        ProductKind::Monthly => return lang.of("月額", "Monthly").to_owned(),
        ProductKind::Disc => lang.of("ディスク", "Disc"),
    };
    let minutes = lang.of(
        format!("{}分", product.minutes),
        format!("{} min", product.minutes),
    );
    format!("{kind} · {} · {minutes}", product.year)
}
