//! The monthly membership, as its member sees it: until when, and how to leave.

use maud::html;

use super::Office;
use super::account::{Answered, members_page};
use crate::answer::{Personal, SeeOther};
use crate::asked::{Asked, Local};
use crate::html::{day, yen};
use crate::trade::MembershipState;

pub(super) fn show(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let profile = office.desk.profile(&viewer)?;
    let membership = office.trade.membership(&viewer)?;
    let button = |to: &'static str, words: &'static str| {
        html! {
            form method="post" action={ "/" (lang.code()) "/account/membership" } {
                input type="hidden" name="to" value=(to);
                button { (words) }
            }
        }
    };
    let to_join = html! {
        p { a.button href={ "/" (lang.code()) "/products/plan-monthly" } { (lang.of("月額プランを見る", "See the monthly plan")) } }
    };
    let main = html! {
        @match membership.as_deref() {
            None => { p { (lang.of("月額会員ではありません。", "You are not a monthly member.")) } (to_join) },
            Some(it) => {
                dl.sheet {
                    dt { (lang.of("ご加入", "Since")) } dd { (day(it.since)) }
                    dt { (lang.of("お支払い済み", "Paid until")) } dd { (day(it.paid_until)) }
                    dt { (lang.of("月額", "Each month")) } dd { (yen(lang, it.price_yen)) }
                }
                @match it.state {
                    MembershipState::Active => {
                        p { (lang.of("次の月の分は、自動的にお支払いいただきます。", "The next month is charged by itself.")) }
                        (button("leave", lang.of("退会する", "Leave")))
                    },
                    MembershipState::Due => {
                        p { (lang.of("前回のお支払いができませんでした。もう一度お試しします。", "The last charge was refused. We will try again.")) }
                        (button("leave", lang.of("退会する", "Leave")))
                    },
                    MembershipState::Leaving => {
                        p { (lang.of("お支払い済みの期間の終わりに退会となります。", "Your membership ends with the month that is paid.")) }
                        (button("stay", lang.of("退会を取りやめる", "Stay after all")))
                    },
                    MembershipState::Ended => { p { (lang.of("月額プランは終了しました。", "Your membership has ended.")) } (to_join) },
                }
            },
        }
    };
    let body = members_page(asked, lang.of("月額プラン", "Monthly plan"), &main);
    let answer = Personal::to(&viewer, body).showing(&profile);
    Ok(match &membership {
        Some(it) => answer.showing(it),
        None => answer,
    })
}

pub(super) fn change(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    // Twice is once; what is asked for and cannot be, changes nothing.
    match asked.form("to") {
        "leave" => office.trade.leave(&viewer)?,
        "stay" => office.trade.stay(&viewer)?,
        _ => false,
    };
    let to = Local::page(&format!("/{}/account/membership", lang.code()));
    Ok(Personal::to(&viewer, SeeOther::new(to).into()))
}
