//! What is a member's own: each page shows the data of the session's member and says so by the data.
//!
//! Invariant: the only member id in use here is the session's. What an address names (an order, a
//! product) is looked for among this member's alone.

use maud::{Markup, html};

use super::Office;
use super::door::is_line;
use crate::answer::{AnyBody, Html, Personal, SeeOther};
use crate::asked::{Asked, Lang, Local};
use crate::html::{Field, Frame, day, field, page, stars, wrong, yen};
use crate::refusal::Refusal;
use crate::store::{Delivery, Line, LineState, Status};
use crate::trade::Shipment;

pub(super) type Answered = Result<Personal<AnyBody>, Refusal>;

pub(super) fn home(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let profile = office.desk.profile(&viewer)?;
    let points = office.desk.points(&viewer, asked.now)?;
    let status = match profile.status {
        Status::Regular => lang.of("一般会員", "Member"),
        Status::Monthly => lang.of("月額会員", "Monthly member"),
        Status::Withdrawn => lang.of("退会済み", "No longer a member"),
    };
    let links = [
        ("../cart", lang.of("カート", "Cart")),
        ("orders", lang.of("購入履歴", "Purchases")),
        ("watched", lang.of("視聴履歴", "Watched")),
        ("reviews", lang.of("投稿したレビュー", "Your reviews")),
        ("points", lang.of("ポイント", "Points")),
        ("videos", lang.of("投稿した動画", "Your videos")),
        ("support", lang.of("サポート", "Support")),
        ("notices", lang.of("事故のお知らせ", "Was I affected?")),
        ("membership", lang.of("月額プラン", "Monthly plan")),
        ("delivery", lang.of("お届け先", "Delivery address")),
    ];
    let main = html! {
        div.sheet {
            dl {
                dt { (lang.of("ニックネーム", "Nickname")) } dd { (profile.nickname) }
                dt { (lang.of("メールアドレス", "Mail address")) } dd { (profile.mail) }
                dt { (lang.of("会員の種類", "Status")) } dd { (status) }
                dt { (lang.of("入会日", "Since")) } dd { (day(profile.joined)) }
                dt { (lang.of("使えるポイント", "Points")) } dd { (*points) }
            }
        }
        nav.cards aria-label=(lang.of("マイページ", "Your account")) {
            @for (to, name) in links { a href={ "/" (lang.code()) "/account/" (to) } { (name) } }
        }
    };
    let body = members_page(asked, lang.of("マイページ", "My account"), &main);
    Ok(Personal::to(&viewer, body)
        .showing(&profile)
        .showing(&points))
}

pub(super) fn orders(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let orders = office.desk.orders(&viewer)?;
    let main = html! {
        (or_nothing(lang, orders.is_empty()))
        @for order in orders.iter() {
            section.sheet {
                p {
                    a href={ "/" (lang.code()) "/account/orders/" (order.id) } { (day(order.placed)) }
                    " " span.quiet { (order.id) }
                }
                (lines(lang, &order.lines))
            }
        }
    };
    let body = members_page(asked, lang.of("購入履歴", "Purchases"), &main);
    Ok(Personal::to(&viewer, body).showing(&orders))
}

pub(super) fn order(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let order = office
        .desk
        .order(&viewer, asked.public.parameter("order"))?
        .ok_or(Refusal::NotFound)?;
    let shipments = office.trade.shipments(&viewer, &order.id)?;
    let mut may_cancel = Vec::new();
    for line in (1_i64..).take(order.lines.len()) {
        may_cancel.push(
            office
                .trade
                .may_cancel(&viewer, &order.id, line, asked.now)?,
        );
    }
    let main = html! {
        p { (day(order.placed)) " " span.quiet { (order.id) } }
        (lines(lang, &order.lines))
        @for (line, shipment) in shipments.iter() {
            p { (lang.of(format!("{line}行目の発送: "), format!("Line {line}: "))) (shipment_words(lang, *shipment)) }
        }
        @for (nth, line) in (1_i64..).zip(&order.lines).zip(&may_cancel).filter_map(|(it, may)| may.then_some(it)) {
            p {
                a href={ "/" (lang.code()) "/account/orders/" (order.id) "/lines/" (nth) "/cancel" } {
                    @let [ja, en] = &line.title;
                    (lang.of(format!("「{ja}」を取り消す"), format!("Cancel {en}")))
                }
            }
        }
        p { a href={ "/" (lang.code()) "/account/orders" } { (lang.of("購入履歴へ", "All purchases")) } }
    };
    let body = members_page(asked, lang.of("ご注文", "Your order"), &main);
    Ok(Personal::to(&viewer, body)
        .showing(&order)
        .showing(&shipments))
}

fn shipment_words(lang: Lang, shipment: Shipment) -> &'static str {
    match shipment {
        Shipment::Preparing => lang.of("準備中", "being prepared"),
        Shipment::Held => lang.of(
            "保留中（ご意向をお尋ねしています）",
            "held until you tell us what you wish",
        ),
        Shipment::Leaving => lang.of("発送手続き中", "about to leave"),
        Shipment::Sent => lang.of("発送済み", "sent"),
        Shipment::Delivered => lang.of("お届け済み", "delivered"),
        Shipment::Stopped => lang.of("中止", "stopped"),
    }
}

pub(super) fn watched(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let seen = office.desk.viewings(&viewer)?;
    let main = html! {
        (or_nothing(lang, seen.is_empty()))
        ul {
            @for one in seen.iter() {
                li { (to_product(lang, &one.product, &one.title)) " " span.quiet { (day(one.last)) } }
            }
        }
    };
    let body = members_page(asked, lang.of("視聴履歴", "Watched"), &main);
    Ok(Personal::to(&viewer, body).showing(&seen))
}

pub(super) fn points(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let usable = office.desk.points(&viewer, asked.now)?;
    let entries = office.desk.points_entries(&viewer)?;
    let main = html! {
        p.price { (lang.of(format!("{}ポイント使えます", *usable), format!("{} points to use", *usable))) }
        (or_nothing(lang, entries.is_empty()))
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { (lang.of("日付", "Date")) }
                        th scope="col" { (lang.of("理由", "Reason")) }
                        th scope="col" { (lang.of("有効期限", "Until")) }
                        th.number scope="col" { (lang.of("ポイント", "Points")) }
                    }
                }
                tbody {
                    @for entry in entries.iter() {
                        tr {
                            td { (day(entry.at)) }
                            td { (reason(lang, &entry.reason)) }
                            td { @if entry.amount > 0 { (day(entry.expires)) } }
                            td.number { (entry.amount) }
                        }
                    }
                }
            }
        }
    };
    let body = members_page(asked, lang.of("ポイント", "Points"), &main);
    Ok(Personal::to(&viewer, body)
        .showing(&usable)
        .showing(&entries))
}

pub(super) fn reviews(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let reviews = office.desk.reviews(&viewer)?;
    let main = html! {
        (or_nothing(lang, reviews.is_empty()))
        @for review in reviews.iter() {
            article.sheet {
                p { (to_product(lang, &review.product, &review.title)) " " (stars(lang, review.stars)) }
                p { (review.text) }
                p { a href={ "/" (lang.code()) "/account/reviews/" (review.product) } { (lang.of("書き直す", "Write it anew")) } }
            }
        }
    };
    let body = members_page(asked, lang.of("投稿したレビュー", "Your reviews"), &main);
    Ok(Personal::to(&viewer, body).showing(&reviews))
}

pub(super) fn review_form(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    let reviews = office.desk.reviews(&viewer)?;
    let product = asked.public.parameter("product");
    let before = reviews.iter().find(|it| it.product == product);
    let text = before.map_or("", |it| it.text.as_str());
    let body = Html::new(review_page(
        asked,
        text,
        before.map_or(5, |it| it.stars),
        None,
    ));
    Ok(Personal::to(&viewer, body.into()).showing(&reviews))
}

pub(super) fn review(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let text = asked.form("text").trim();
    let stars = asked.form("stars").parse().unwrap_or(0);
    if text.is_empty() || text.chars().count() > 2000 || !(1..=5).contains(&stars) {
        let why = lang.of(
            "星と、2000文字までの文をお願いします。",
            "Please give stars, and up to 2000 letters of text.",
        );
        let body = Html::again(review_page(asked, text, stars, Some(why)));
        return Ok(Personal::to(&viewer, body.into()));
    }
    let product = asked.public.parameter("product");
    if !office
        .desk
        .write_review(&viewer, product, stars, text, asked.now)?
    {
        return Err(Refusal::NotFound);
    }
    let to = Local::page(&format!("/{}/account/reviews", lang.code()));
    Ok(Personal::to(&viewer, SeeOther::new(to).into()))
}

pub(super) fn delivery_form(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.confirmed_viewer(asked)?.member;
    let delivery = office.desk.delivery(&viewer)?;
    let body = Html::new(delivery_page(asked, &delivery, None));
    Ok(Personal::to(&viewer, body.into()).showing(&delivery))
}

pub(super) fn delivery(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.confirmed_viewer(asked)?.member;
    let given = |name| asked.form(name).trim().to_owned();
    let to = Delivery {
        name: given("name"),
        postcode: given("postcode"),
        address: given("address"),
        phone: given("phone"),
    };
    let lines = [
        (&to.name, 100),
        (&to.postcode, 20),
        (&to.address, 200),
        (&to.phone, 30),
    ];
    if !lines
        .into_iter()
        .all(|(line, letters_max)| is_line(line, letters_max))
    {
        let why = lang.of(
            "すべての欄をご記入ください。",
            "Please fill in every field.",
        );
        return Ok(Personal::to(
            &viewer,
            Html::again(delivery_page(asked, &to, Some(why))).into(),
        ));
    }
    office.desk.set_delivery(&viewer, &to)?;
    let to = Local::page(&format!("/{}/account/delivery", lang.code()));
    Ok(Personal::to(&viewer, SeeOther::new(to).into()))
}

pub(super) fn members_page(asked: &Asked, title: &str, main: &Markup) -> AnyBody {
    Html::new(page(&asked.public, title, Frame::Members, main)).into()
}

/// A page with a form, which is answered as a mistake when it says what was wrong.
pub(super) fn form_page(asked: &Asked, title: &str, main: &Markup, why: Option<&str>) -> AnyBody {
    let main = page(&asked.public, title, Frame::Members, main);
    if why.is_some() {
        Html::again(main).into()
    } else {
        Html::new(main).into()
    }
}

pub(super) fn or_nothing(lang: Lang, nothing: bool) -> Markup {
    html! { @if nothing { p.quiet { (lang.of("まだありません。", "Nothing yet.")) } } }
}

fn to_product(lang: Lang, product: &str, title: &[String; 2]) -> Markup {
    let [ja, en] = title;
    html! { a href={ "/" (lang.code()) "/products/" (product) } { (lang.of(ja, en)) } }
}

fn reason(lang: Lang, stored: &str) -> String {
    match stored {
        "welcome" => lang.of("ご入会", "Welcome").to_owned(),
        "order" => lang.of("ご注文", "An order").to_owned(),
        "returned" => lang
            .of("取消しによる返還", "Given back for a cancellation")
            .to_owned(),
        "incident" => lang.of("お詫び", "With our apologies").to_owned(),
        other => other.to_owned(),
    }
}

fn lines(lang: Lang, lines: &[Line]) -> Markup {
    let state = |state| match state {
        LineState::Bought => lang.of("購入済み", "Bought"),
        LineState::Shipping => lang.of("発送準備中", "Being shipped"),
        LineState::Delivered => lang.of("お届け済み", "Delivered"),
        LineState::Cancelled => lang.of("取消し", "Cancelled"),
    };
    html! {
        div.scroll {
            table {
                thead {
                    tr {
                        th scope="col" { (lang.of("品名", "What")) }
                        th scope="col" { (lang.of("状態", "State")) }
                        th.number scope="col" { (lang.of("金額", "Price")) }
                    }
                }
                tbody {
                    @for line in lines {
                        tr {
                            td { (to_product(lang, &line.product, &line.title)) }
                            td { (state(line.state)) }
                            td.number { (yen(lang, line.price_yen)) }
                        }
                    }
                }
            }
        }
    }
}

fn review_page(asked: &Asked, text: &str, given: i64, why: Option<&str>) -> Markup {
    let lang = asked.lang();
    let main = html! {
        (wrong(why))
        form.fields method="post" {
            label {
                (lang.of("評価", "Stars"))
                select name="stars" required {
                    @for stars in (1..=5).rev() {
                        option value=(stars) selected[stars == given] { (lang.of(format!("星{stars}つ"), format!("{stars} of 5"))) }
                    }
                }
            }
            label {
                (lang.of("レビュー", "Review"))
                small { (lang.of("ニックネームとともに公開されます。", "Published with your nickname.")) }
                textarea name="text" rows="6" maxlength="2000" required { (text) }
            }
            div { button { (lang.of("投稿する", "Publish")) } }
        }
    };
    page(
        &asked.public,
        lang.of("レビューを書く", "Write a review"),
        Frame::Members,
        &main,
    )
}

fn delivery_page(asked: &Asked, now: &Delivery, why: Option<&str>) -> Markup {
    let lang = asked.lang();
    let one = |name, label, value, autocomplete, letters_max| {
        field(&Field {
            name,
            label,
            more: "",
            kind: "text",
            value,
            autocomplete,
            letters_max,
        })
    };
    let main = html! {
        (wrong(why))
        form.fields method="post" action={ "/" (lang.code()) "/account/delivery" } {
            (one("name", lang.of("お名前", "Name"), &now.name, "name", 100))
            (one("postcode", lang.of("郵便番号", "Postcode"), &now.postcode, "postal-code", 20))
            (one("address", lang.of("ご住所", "Address"), &now.address, "street-address", 200))
            (one("phone", lang.of("電話番号", "Phone"), &now.phone, "tel", 30))
            div { button { (lang.of("保存する", "Save")) } }
        }
    };
    page(
        &asked.public,
        lang.of("お届け先", "Delivery address"),
        Frame::Members,
        &main,
    )
}
