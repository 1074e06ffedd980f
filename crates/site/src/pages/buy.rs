//! Buying: into the cart, to the checkout, to the processor and back; and what is cancelled afterwards.
//!
//! Invariant: GET shows, POST acts. The one GET that does more is the return from the payment page: it
//! asks the processor how far the payment is, which anybody may have asked at any time.

use maud::{Markup, html};

use super::Office;
use super::account::{Answered, form_page, members_page, or_nothing};
use crate::answer::{Html, Personal, SeeOther};
use crate::asked::{Asked, Lang, Local};
use crate::html::{Frame, page, wrong, yen};
use crate::member::fresh_id;
use crate::refusal::Refusal;
use crate::trade::{Cart, NotCancelled, NotPlaced, PaymentState, Placing};

pub(super) fn offer(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let product = office.product(asked.public.parameter("product"))?;
    let main = html! {
        p { (product.about(lang)) }
        p.price { (yen(lang, product.price_yen)) }
        form method="post" action={ "/" (lang.code()) "/cart" } {
            input type="hidden" name="product" value=(product.id);
            button { (lang.of("カートに入れる", "Put into the cart")) }
        }
        p { a href={ "/" (lang.code()) "/products/" (product.id) } { (lang.of("作品のページへ", "Back to the product")) } }
    };
    let body = members_page(asked, product.title(lang), &main);
    Ok(Personal::to(&viewer, body))
}

pub(super) fn cart(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    let cart = office.trade.cart(&viewer)?;
    Ok(Personal::to(&viewer, Html::new(cart_page(asked, &cart, None)).into()).showing(&cart))
}

/// Puts in or takes out, as the button says.
pub(super) fn change_cart(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let product = asked.form("product");
    if asked.form("out") == "1" {
        office.trade.take_out(&viewer, product)?;
    } else if !office.trade.put(&viewer, product, asked.now)? {
        office.product(product)?;
        let cart = office.trade.cart(&viewer)?;
        let why = lang.of("カートがいっぱいです。", "The cart is full.");
        return Ok(Personal::to(
            &viewer,
            Html::again(cart_page(asked, &cart, Some(why))).into(),
        )
        .showing(&cart));
    }
    let to = Local::page(&format!("/{}/cart", lang.code()));
    Ok(Personal::to(&viewer, SeeOther::new(to).into()))
}

fn cart_page(asked: &Asked, cart: &Cart, why: Option<&str>) -> Markup {
    let lang = asked.lang();
    let main = html! {
        (wrong(why))
        (or_nothing(lang, cart.lines.is_empty()))
        (lines(lang, cart, true))
        @if !cart.lines.is_empty() {
            a.button href={ "/" (lang.code()) "/checkout" } { (lang.of("ご購入手続きへ", "To the checkout")) }
        }
    };
    page(
        &asked.public,
        lang.of("カート", "Cart"),
        Frame::Members,
        &main,
    )
}

fn lines(lang: Lang, cart: &Cart, to_change: bool) -> Markup {
    html! {
        @if !cart.lines.is_empty() {
            div.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { (lang.of("品名", "What")) }
                            th.number scope="col" { (lang.of("金額", "Price")) }
                            @if to_change { th scope="col" { (lang.of("変更", "Change")) } }
                        }
                    }
                    tbody {
                        @for line in &cart.lines {
                            tr {
                                td { a href={ "/" (lang.code()) "/products/" (line.product) } { (line.title(lang)) } }
                                td.number { (yen(lang, line.price_yen)) }
                                @if to_change {
                                    td {
                                        form method="post" action={ "/" (lang.code()) "/cart" } {
                                            input type="hidden" name="product" value=(line.product);
                                            input type="hidden" name="out" value="1";
                                            button.less aria-label=(lang.of(format!("{}を取り出す", line.title(lang)), format!("Take out {}", line.title(lang)))) {
                                                (lang.of("取り出す", "Take out"))
                                            }
                                        }
                                    }
                                }
                            }
                        }
                        tr {
                            th scope="row" { (lang.of("合計", "Total")) }
                            td.number { strong { (yen(lang, cart.total_yen())) } }
                            @if to_change { td {} }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn checkout_form(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.confirmed_viewer(asked)?.member;
    checkout_page(office, asked, &viewer, None)
}

/// The form's key is minted here: whatever is sent with it is one purchase.
fn checkout_page(
    office: &Office,
    asked: &Asked,
    viewer: &crate::member::MemberId,
    why: Option<&str>,
) -> Answered {
    let lang = asked.lang();
    let cart = office.trade.cart(viewer)?;
    let points = office.desk.points(viewer, asked.now)?;
    let delivery = office.desk.delivery(viewer)?;
    let most = (*points).min(cart.by_points_max());
    let main = html! {
        (wrong(why))
        (or_nothing(lang, cart.lines.is_empty()))
        (lines(lang, &cart, false))
        @if cart.has_discs() {
            section.sheet {
                h2 { (lang.of("お届け先", "Sent to")) }
                @if delivery.name.is_empty() {
                    p { (lang.of("ディスクにはお届け先が必要です。", "A disc needs an address.")) }
                } @else {
                    p { (delivery.name) br; (delivery.postcode) " " (delivery.address) br; (delivery.phone) }
                }
                p { a href={ "/" (lang.code()) "/account/delivery" } { (lang.of("お届け先を変更する", "Change the address")) } }
            }
        }
        @if !cart.lines.is_empty() {
            form.fields method="post" action={ "/" (lang.code()) "/checkout" } {
                input type="hidden" name="form" value=(fresh_id());
                input type="hidden" name="seen" value=(cart.digest());
                label {
                    (lang.of("使うポイント", "Points to use"))
                    small { (lang.of(format!("1ポイント1円、{most}まで"), format!("One yen each, up to {most}"))) }
                    input type="number" name="points" min="0" max=(most) value="0" required;
                }
                p.quiet {
                    (lang.of(
                        "カードでのお支払いは、決済代行会社のページで行います。カード番号が当店に届くことはありません。",
                        "You pay by card on the processor's own page. The number of your card never reaches this store."
                    ))
                }
                div { button { (lang.of("注文を確定する", "Place the order")) } }
            }
        }
    };
    let body = form_page(asked, lang.of("ご購入手続き", "Checkout"), &main, why);
    Ok(Personal::to(viewer, body)
        .showing(&cart)
        .showing(&points)
        .showing(&delivery))
}

pub(super) fn checkout(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.confirmed_viewer(asked)?.member;
    let placing = Placing {
        form: asked.form("form"),
        seen: asked.form("seen"),
        points: asked.form("points").parse().unwrap_or(-1),
        lang,
    };
    let placed = match office.trade.place(&viewer, &placing, asked.now)? {
        Ok(placed) => placed,
        Err(why) => return checkout_page(office, asked, &viewer, Some(not_placed(lang, why))),
    };
    let to = if placed.by_card {
        office.trade.settle(&placed.id, asked.now)?;
        format!("/{}/account/payments/{}", lang.code(), placed.id)
    } else {
        format!("/{}/account/orders/{}", lang.code(), placed.id)
    };
    Ok(Personal::to(
        &viewer,
        SeeOther::new(Local::page(&to)).into(),
    ))
}

fn not_placed(lang: Lang, why: NotPlaced) -> &'static str {
    match why {
        NotPlaced::Empty => lang.of("カートは空です。", "The cart is empty."),
        NotPlaced::Changed => lang.of(
            "カートか価格が変わりました。もう一度ご確認ください。",
            "The cart or a price has changed. Please look again.",
        ),
        NotPlaced::Points => lang.of(
            "使えるポイントをご確認ください。",
            "Please check how many points can be used.",
        ),
        NotPlaced::NoAddress => lang.of(
            "先にお届け先をご登録ください。",
            "Please give an address first.",
        ),
        NotPlaced::AlreadyMonthly => {
            lang.of("すでに月額会員です。", "You are a monthly member already.")
        }
        NotPlaced::Joining => lang.of(
            "月額プランのお支払いがまだ済んでいません。お支払いいただくか、お支払いページで取りやめてください。1時間で自動的に取り消されます。",
            "Another checkout with the monthly plan waits for its payment. Please pay it, or give it up on the payment page; after an hour it is given up by itself.",
        ),
        NotPlaced::BadForm => lang.of("もう一度お試しください。", "Please try once more."),
    }
}

pub(super) fn payment(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let id = asked.public.parameter("payment");
    // Only this member's, and only an address that the processor was given.
    let back = asked.public.query("back");
    if !back.is_empty() {
        if office.trade.payment(&viewer, id)?.is_none() || !office.trade.is_return(id, back) {
            return Err(Refusal::NotFound);
        }
        office.trade.settle(id, asked.now)?;
    }
    let payment = office
        .trade
        .payment(&viewer, id)?
        .ok_or(Refusal::NotFound)?;
    let order = html! {
        p { a.button href={ "/" (lang.code()) "/account/orders/" (payment.id) } { (lang.of("ご注文を見る", "See the order")) } }
    };
    let main = html! {
        p.price { (yen(lang, payment.amount_yen)) }
        @match payment.state {
            PaymentState::Planned => p {
                (lang.of("決済代行会社に問い合わせています。少し待ってから、このページを開き直してください。",
                    "The processor is being asked. Please open this page again in a moment."))
            },
            PaymentState::Opened => {
                p { (lang.of("決済代行会社のページでお支払いください。", "Please pay on the processor's page.")) }
                p { a.button href=(payment.page) rel="noreferrer" { (lang.of("お支払いページへ", "To the payment page")) } }
            },
            PaymentState::Authorised | PaymentState::Captured => {
                p { (lang.of("お支払いを確認しました。", "Your payment is confirmed.")) }
                (order)
            },
            PaymentState::Refused | PaymentState::Voided => {
                p { (lang.of("お支払いはありませんでした。品物はカートに戻しました。",
                    "Nothing was paid. What you chose is in your cart again.")) }
                p { a.button href={ "/" (lang.code()) "/cart" } { (lang.of("カートへ", "To the cart")) } }
            },
        }
    };
    let body = members_page(asked, lang.of("お支払い", "Payment"), &main);
    Ok(Personal::to(&viewer, body).showing(&payment))
}

pub(super) fn cancel_form(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    cancel_page(office, asked, &viewer, None)
}

fn cancel_page(
    office: &Office,
    asked: &Asked,
    viewer: &crate::member::MemberId,
    why: Option<&str>,
) -> Answered {
    let lang = asked.lang();
    let (id, nth) = place(asked)?;
    let order = office.desk.order(viewer, id)?.ok_or(Refusal::NotFound)?;
    let line = usize::try_from(nth - 1)
        .ok()
        .and_then(|at| order.lines.get(at))
        .ok_or(Refusal::NotFound)?;
    let may = office.trade.may_cancel(viewer, id, nth, asked.now)?;
    let [ja, en] = &line.title;
    let main = html! {
        (wrong(why))
        p { strong { (lang.of(ja, en)) } " " (yen(lang, line.price_yen)) }
        @if may {
            p { (lang.of("カードの分はカードへ、ポイントの分はポイントで戻ります。",
                "What you paid by card goes back to the card, points come back as points.")) }
            form method="post" {
                button { (lang.of("この品を取り消す", "Cancel this")) }
            }
        } @else if why.is_none() {
            p { (lang.of("この品は、ここでは取り消せません。お問い合わせください。", "This cannot be cancelled here. Please ask the support desk.")) }
        }
        p { a href={ "/" (lang.code()) "/account/orders/" (id) } { (lang.of("ご注文へ戻る", "Back to the order")) } }
    };
    let body = form_page(asked, lang.of("ご注文の取消し", "Cancel"), &main, why);
    Ok(Personal::to(viewer, body).showing(&order))
}

pub(super) fn cancel(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let (id, nth) = place(asked)?;
    match office.trade.cancel(&viewer, id, nth, asked.now)? {
        Ok(_) => {
            let to = Local::page(&format!("/{}/account/orders/{id}", lang.code()));
            Ok(Personal::to(&viewer, SeeOther::new(to).into()))
        }
        Err(NotCancelled::NoSuchLine) => Err(Refusal::NotFound),
        Err(why) => cancel_page(office, asked, &viewer, Some(not_cancelled(lang, why))),
    }
}

fn not_cancelled(lang: Lang, why: NotCancelled) -> &'static str {
    match why {
        NotCancelled::NoSuchLine | NotCancelled::NotOurs => lang.of(
            "ここでは取り消せません。お問い合わせください。",
            "This cannot be cancelled here. Please ask the support desk.",
        ),
        NotCancelled::Sent => lang.of(
            "すでに発送の手続きに入っています。",
            "It is being sent, or was sent.",
        ),
        NotCancelled::Watched => lang.of("すでに視聴されています。", "It was watched already."),
        NotCancelled::TooLate => lang.of(
            "取消しの期限を過ぎています。",
            "It is too late to cancel it.",
        ),
        NotCancelled::Monthly => lang.of(
            "月額プランは退会の手続きをご利用ください。",
            "A membership is left on its own page.",
        ),
    }
}

fn place(asked: &Asked) -> Result<(&str, i64), Refusal> {
    let line = asked
        .public
        .parameter("line")
        .parse()
        .map_err(|_| Refusal::NotFound)?;
    Ok((asked.public.parameter("order"), line))
}
