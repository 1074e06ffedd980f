//! What an incident means for a member, and what they are asked.
//!
//! Invariant: GET shows, POST acts; all of it is personal. By a link from a mail one question is shown and
//! answered once, and nothing else of its member.

use maud::{Markup, html};

use super::Office;
use super::account::{Answered, form_page, members_page};
use super::door::is_line;
use crate::answer::{Html, Personal, SeeOther};
use crate::asked::{Asked, Lang, Local};
use crate::html::{Field, Frame, day, field, page, wrong, yen};
use crate::member::MemberId;
use crate::refusal::Refusal;
use crate::trade::{BankAccount, Choice, NotAnswered, Question};
use crate::tries::network;

pub(super) fn all(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let notices = office.trade.notices(&viewer)?;
    let choices = office.trade.choices(&viewer)?;
    let main = html! {
        @if notices.is_empty() {
            p { (lang.of("現在の記録では、あなたに関わる事故のお知らせはありません。", "As our records stand, no incident concerned you.")) }
        }
        @for notice in notices.iter() {
            @let [ja, en] = &notice.text;
            article.sheet {
                p.quiet { (day(notice.issued)) " · " (lang.of("お知らせ番号", "Code")) " " strong { (notice.code) } }
                @for line in lang.of(ja, en).lines() { p { (line) } }
                @if !notice.kinds.is_empty() {
                    p { (lang.of("閲覧された可能性のある情報:", "What others may have seen:")) }
                    ul { @for kind in &notice.kinds { li { (kind_words(lang, kind)) } } }
                }
            }
        }
        @if !choices.is_empty() { h2 { (lang.of("ご回答のお願い", "We need to ask you")) } }
        @for choice in choices.iter() {
            article.sheet {
                (about(lang, choice))
                p { a href={ "/" (lang.code()) "/account/choices/" (choice.id) } { (lang.of("回答する・見直す", "Answer, or look again")) } }
            }
        }
        p { a href={ "/" (lang.code()) "/notice-check" } { (lang.of("届いたお知らせが本物か確かめる", "Check whether a notice is ours")) } }
        p { a href={ "/" (lang.code()) "/account/support" } { (lang.of("サポートに問い合わせる", "Ask the support desk")) } }
    };
    let body = members_page(asked, lang.of("お知らせ", "Notices"), &main);
    Ok(Personal::to(&viewer, body)
        .showing(&notices)
        .showing(&choices))
}

pub(super) fn choice(office: &Office, asked: &Asked) -> Answered {
    let session = office.viewer(asked)?;
    let id = asked.public.parameter("choice");
    let choice = office
        .trade
        .choice(&session.member, id)?
        .ok_or(Refusal::NotFound)?;
    // An account is shown to who gave the password lately.
    if choice.question == Question::Payout {
        office.confirmed_viewer(asked)?;
    }
    choice_page(office, asked, &session.member, None)
}

fn choice_page(office: &Office, asked: &Asked, viewer: &MemberId, why: Option<&str>) -> Answered {
    let lang = asked.lang();
    let id = asked.public.parameter("choice");
    let choice = office.trade.choice(viewer, id)?.ok_or(Refusal::NotFound)?;
    let account = office.trade.payout(viewer, id)?;
    let is_open = !choice.is_done && asked.now < choice.answer_by;
    let action = format!("/{}/account/choices/{id}", lang.code());
    let main = html! {
        (wrong(why))
        (about(lang, &choice))
        @if !is_open {
            p { (lang.of("変更の期限を過ぎています。", "It can no longer be changed.")) }
        } @else if choice.question == Question::Payout {
            (account_form(asked, &account, &action))
        } @else {
            (buttons(lang, &choice, &action))
        }
        p { a href={ "/" (lang.code()) "/account/notices" } { (lang.of("お知らせへ戻る", "Back to your notices")) } }
    };
    let body = form_page(asked, title(lang, choice.question), &main, why);
    Ok(Personal::to(viewer, body)
        .showing(&choice)
        .showing(&account))
}

pub(super) fn answer(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let id = asked.public.parameter("choice");
    let choice = office.trade.choice(&viewer, id)?.ok_or(Refusal::NotFound)?;
    let came = if choice.question == Question::Payout {
        office.confirmed_viewer(asked)?;
        let given = |name| asked.form(name).trim().to_owned();
        let account = BankAccount {
            bank: given("bank"),
            branch: given("branch"),
            number: given("number"),
            holder: given("holder"),
        };
        let is_number = (4..=8).contains(&account.number.len())
            && account.number.bytes().all(|it| it.is_ascii_digit());
        if !is_number
            || ![&account.bank, &account.branch, &account.holder]
                .into_iter()
                .all(|it| is_line(it, 60))
        {
            let why = lang.of(
                "すべての欄をご記入ください。口座番号は4桁から8桁の数字です。",
                "Please fill in every field. An account's number has 4 to 8 digits.",
            );
            return choice_page(office, asked, &viewer, Some(why));
        }
        office.trade.set_payout(&viewer, id, &account, asked.now)?
    } else {
        office
            .trade
            .answer(&viewer, id, asked.form("answer"), asked.now)?
    };
    match came {
        Ok(()) => {
            let to = Local::parse(&format!("/{}/account/choices/{id}", lang.code()))
                .ok_or(Refusal::NotFound)?;
            Ok(Personal::to(&viewer, SeeOther::new(to).into()))
        }
        Err(NotAnswered::NoSuchChoice) => Err(Refusal::NotFound),
        Err(why) => choice_page(office, asked, &viewer, Some(not_answered(lang, why))),
    }
}

/// What a link from a mail shows: one question, without a login.
pub(super) fn linked(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let (id, signature) = (
        asked.public.parameter("choice"),
        asked.public.parameter("signature"),
    );
    let Some(choice) = office.trade.linked(id, signature, asked.now)? else {
        return Ok(Personal::to_nobody(Html::new(spent(asked)).into()));
    };
    let action = format!("/{}/answer/{id}/{signature}", lang.code());
    let main = html! {
        (about(lang, &choice))
        (buttons(lang, &choice, &action))
        p.quiet { (lang.of("このリンクは一度だけ使えます。", "This link works once.")) }
    };
    let body = Html::new(page(
        &asked.public,
        title(lang, choice.question),
        Frame::Anybodys,
        &main,
    ));
    Ok(Personal::to_nobody(body.into()))
}

pub(super) fn answer_link(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let (id, signature) = (
        asked.public.parameter("choice"),
        asked.public.parameter("signature"),
    );
    let body = match office
        .trade
        .answer_by_link(id, signature, asked.form("answer"), asked.now)?
    {
        Ok(()) => {
            let main = html! { p { (lang.of("ご回答を承りました。変更はログイン後にできます。", "We have your answer. After a login you can change it.")) } };
            Html::new(page(
                &asked.public,
                lang.of("ありがとうございました", "Thank you"),
                Frame::Anybodys,
                &main,
            ))
        }
        Err(NotAnswered::NoSuchChoice) => return Err(Refusal::NotFound),
        Err(NotAnswered::LinkSpent) => Html::again(spent(asked)),
        Err(why) => {
            let main = html! { (wrong(Some(not_answered(lang, why)))) };
            Html::again(page(
                &asked.public,
                lang.of("ご回答", "Your answer"),
                Frame::Anybodys,
                &main,
            ))
        }
    };
    Ok(Personal::to_nobody(body.into()))
}

fn spent(asked: &Asked) -> Markup {
    let lang = asked.lang();
    let main = html! {
        p { (lang.of("このリンクは使われたか、期限を過ぎています。ログイン後、お知らせのページをご覧ください。",
            "This link was used, or is too old. Please log in and see your notices.")) }
        p { a.button href={ "/" (lang.code()) "/account/notices" } { (lang.of("お知らせへ", "To your notices")) } }
    };
    page(
        &asked.public,
        lang.of("このリンクは使えません", "This link does not work"),
        Frame::Anybodys,
        &main,
    )
}

pub(super) fn check_form(_: &Office, asked: &Asked) -> Answered {
    Ok(Personal::to_nobody(
        Html::new(check_page(asked, &html! {})).into(),
    ))
}

/// Whether a notice is ours, without a login: it says nothing of whose it is.
pub(super) fn check(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    office.codes.try_once(&network(asked.client), asked.now)?;
    let found = office.trade.is_notice(asked.form("code").trim())?;
    let said = match found {
        Some(issued) => html! {
            p role="status" { (lang.of(format!("{}に当店がお送りしたお知らせです。", day(issued)), format!("This notice was sent by us on {}.", day(issued)))) }
        },
        None => wrong(Some(lang.of(
            "当店のお知らせではありません。メールのリンクを開かず、サポートにお知らせください。",
            "This is no notice of ours. Do not open the links of that mail, and please tell the support desk.",
        ))),
    };
    Ok(Personal::to_nobody(
        Html::new(check_page(asked, &said)).into(),
    ))
}

fn check_page(asked: &Asked, said: &Markup) -> Markup {
    let lang = asked.lang();
    let main = html! {
        (said)
        form.fields method="post" action={ "/" (lang.code()) "/notice-check" } {
            (field(&Field {
                name: "code",
                label: lang.of("お知らせ番号", "The notice's code"),
                more: lang.of("メールに書かれている番号です。", "It stands in the mail."),
                kind: "text",
                value: asked.form("code"),
                autocomplete: "off",
                letters_max: 64,
            }))
            div { button { (lang.of("確かめる", "Check")) } }
        }
    };
    page(
        &asked.public,
        lang.of("お知らせの確認", "Is this notice ours?"),
        Frame::Anybodys,
        &main,
    )
}

fn title(lang: Lang, question: Question) -> &'static str {
    match question {
        Question::Disc => lang.of("お届けするか、取り消すか", "Keep it, or cancel it"),
        Question::Payment => lang.of(
            "このお支払いはご本人のものですか",
            "Was this payment yours?",
        ),
        Question::Payout => lang.of("お支払い先の口座", "Where we should pay"),
    }
}

fn about(lang: Lang, choice: &Choice) -> Markup {
    let [ja, en] = &choice.about;
    html! {
        p { strong { (lang.of(ja, en)) } " " (yen(lang, choice.amount_yen)) }
        p.quiet { (lang.of(format!("{}までにご回答ください。", day(choice.answer_by)), format!("Please answer by {}.", day(choice.answer_by)))) }
        @if !choice.answer.is_empty() { p { (lang.of("ご回答: ", "Your answer: ")) (answer_words(lang, &choice.answer)) } }
    }
}

fn buttons(lang: Lang, choice: &Choice, action: &str) -> Markup {
    html! {
        @for answer in choice.question.answers() {
            form method="post" action=(action) {
                input type="hidden" name="answer" value=(answer);
                p { button { (answer_words(lang, answer)) } }
            }
        }
    }
}

fn answer_words(lang: Lang, answer: &str) -> &'static str {
    match answer {
        "keep" => lang.of("このまま届けてほしい", "Please send it"),
        "cancel" => lang.of("取り消して返金してほしい", "Cancel it and refund me"),
        "mine" => lang.of("自分の支払いです", "Yes, it was mine"),
        "not_mine" => lang.of("身に覚えがありません", "No, it was not mine"),
        _ => lang.of("承りました", "We have it"),
    }
}

fn account_form(asked: &Asked, account: &BankAccount, action: &str) -> Markup {
    let lang = asked.lang();
    let one = |name, label, value, letters_max| {
        field(&Field {
            name,
            label,
            more: "",
            kind: "text",
            value,
            autocomplete: "off",
            letters_max,
        })
    };
    html! {
        form.fields method="post" action=(action) {
            (one("bank", lang.of("銀行名", "Bank"), &account.bank, 60))
            (one("branch", lang.of("支店名", "Branch"), &account.branch, 60))
            (one("number", lang.of("口座番号", "Account number"), &account.number, 8))
            (one("holder", lang.of("口座名義（カナ）", "Account holder"), &account.holder, 60))
            div { button { (lang.of("保存する", "Save")) } }
        }
    }
}

fn not_answered(lang: Lang, why: NotAnswered) -> &'static str {
    match why {
        NotAnswered::NoSuchChoice | NotAnswered::NoAnswer => lang.of(
            "どれか一つをお選びください。",
            "Please choose one of the answers.",
        ),
        NotAnswered::TooLate => {
            lang.of("変更の期限を過ぎています。", "It can no longer be changed.")
        }
        NotAnswered::LinkSpent => lang.of("このリンクは使えません。", "This link does not work."),
    }
}

fn kind_words(lang: Lang, kind: &str) -> String {
    let words = match kind {
        "nickname" => ("ニックネーム", "Nickname"),
        "mail" => ("メールアドレス", "Mail address"),
        "purchase-history" => ("購入履歴", "Purchases"),
        "viewing-history" => ("視聴履歴", "What you watched"),
        "reviews" => ("レビュー", "Your reviews"),
        "posted-videos" => ("投稿動画", "Your videos"),
        "member-status" => ("会員の種類", "Your status"),
        "points" => ("ポイント", "Points"),
        "name" => ("お名前", "Name"),
        "address" => ("ご住所", "Address"),
        "phone" => ("電話番号", "Phone"),
        _ => (kind, kind),
    };
    lang.of(words.0, words.1).to_owned()
}
