//! What everybody sees: the front page, the catalogue, products, the style sheet, pictures.
//!
//! Invariant: each is a function of its address and of the shelf. No form here is sent with POST.

use maud::{Markup, html};

use crate::answer::{Css, Drawing, Html, Media, Shared};
use crate::asked::{Lang, Local, Public};
use crate::html::{Frame, STYLE, day, lasting, page, stars, yen};
use crate::refusal::Refusal;
use crate::store::{Product, ProductKind, Shelf};

pub(super) fn home(shelf: &Shelf, asked: &Public) -> Result<Shared<Html>, Refusal> {
    let lang = asked.lang();
    let found = shelf.search("", 0)?;
    let title = lang.of("小さな映画と講座の店", "Small films and courses");
    let main = html! {
        p.quiet { (lang.of("配信、ダウンロード、ディスク、月額プラン。", "Streamed, downloaded, on disc, or by the month.")) }
        (grid(lang, &found.products))
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
        (grid(lang, &found.products))
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
    let main = html! {
        div.product {
            img src=(picture_path(&product.id)) alt="" width="640" height="480";
            div {
                p { (product.about(lang)) }
                p.quiet { (facts(lang, &product)) }
                p.price { (yen(lang, product.price_yen)) }
                p { a.button href={ "/" (lang.code()) "/buy/" (product.id) } { (lang.of("購入する", "Buy")) } }
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

pub(super) fn picture(shelf: &Shelf, asked: &Public) -> Result<Media<Drawing>, Refusal> {
    let name = asked.parameter("picture");
    let (id, _) = name.rsplit_once('-').ok_or(Refusal::NotFound)?;
    let product = shelf.product(id)?.ok_or(Refusal::NotFound)?;
    let drawing = drawing(&product.id);
    // Only under the name that is of this content: whatever is served under it lasts for ever.
    if name == lasting(&product.id, &drawing, "svg") {
        Ok(Media::new(Drawing(drawing)))
    } else {
        Err(Refusal::NotFound)
    }
}

pub(super) fn picture_path(product: &str) -> String {
    format!("/media/{}", lasting(product, &drawing(product), "svg"))
}

fn grid(lang: Lang, products: &[Product]) -> Markup {
    html! {
        ul.grid {
            @for product in products {
                li {
                    a href={ "/" (lang.code()) "/products/" (product.id) } {
                        img src=(picture_path(&product.id)) alt="" width="640" height="480" loading="lazy";
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

/// A cover: hills under a sky, drawn from the product's id alone.
fn drawing(product: &str) -> String {
    let digest = *blake3::hash(product.as_bytes()).as_bytes();
    let at = |nth: usize, most: u32| u32::from(digest[nth]) * most / 255;
    let sky = at(0, 360);
    let (sun_x, sun_y, sun) = (80 + at(1, 480), 60 + at(2, 140), 24 + at(3, 40));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 480\">\
         <rect width=\"640\" height=\"480\" fill=\"hsl({sky} 45% 82%)\"/>\
         <circle cx=\"{sun_x}\" cy=\"{sun_y}\" r=\"{sun}\" fill=\"hsl({} 80% 92%)\"/>",
        (sky + 40) % 360
    );
    for hill in 0..4_u32 {
        let nth = 4 + 3 * hill as usize;
        let level = 220 + hill * 62;
        let (left, middle, right) = (at(nth, 110), at(nth + 1, 140), at(nth + 2, 110));
        let light = 66 - hill * 13;
        svg.push_str(&format!(
            "<path d=\"M0 {} C160 {} 260 {} 380 {} S560 {} 640 {} V480 H0Z\" fill=\"hsl({} 32% {light}%)\"/>",
            level + left / 2,
            level - left / 2,
            level + middle / 2,
            level - middle / 3,
            level + right / 2,
            level - right / 3,
            (sky + 150 + hill * 9) % 360,
        ));
    }
    svg.push_str("</svg>");
    svg
}
