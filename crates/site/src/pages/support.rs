//! The support desk, as a member sees it: their enquiries, what was said, and a form.

use maud::{Markup, html};

use super::Office;
use super::account::{Answered, form_page, members_page, or_nothing};
use super::door::is_line;
use crate::answer::{Personal, SeeOther};
use crate::asked::{Asked, Lang, Local};
use crate::html::{day, wrong};
use crate::member::{MemberId, fresh_id};
use crate::refusal::Refusal;
use crate::support::Topic;

const LETTERS_MAX: usize = 4000;

pub(super) fn all(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    all_page(office, asked, &viewer, None)
}

fn all_page(office: &Office, asked: &Asked, viewer: &MemberId, why: Option<&str>) -> Answered {
    let lang = asked.lang();
    let enquiries = office.desk.enquiries(viewer)?;
    let to = format!("/{}/account/support", lang.code());
    let main = html! {
        (wrong(why))
        (or_nothing(lang, enquiries.is_empty()))
        @for it in enquiries.iter() {
            article.sheet {
                p { a href={ (to) "/" (it.id) } { (it.subject) } " " span.quiet { (topic(lang, it.topic)) " · " (day(it.opened)) } }
                p.quiet { (if it.is_open { lang.of("受付中", "Open") } else { lang.of("回答済み", "Answered") }) }
            }
        }
        h2 { (lang.of("お問い合わせ", "Ask us")) }
        form.fields method="post" action=(to) {
            input type="hidden" name="form" value=(fresh_id());
            label {
                (lang.of("ご用件", "About"))
                select name="topic" required {
                    @for it in Topic::ALL {
                        option value=(it.text()) selected[it.text() == asked.form("topic")] { (topic(lang, it)) }
                    }
                }
            }
            label { (lang.of("件名", "Subject")) input name="subject" maxlength="100" value=(asked.form("subject")) required; }
            (words(lang, asked.form("text")))
            div { button { (lang.of("送信する", "Send")) } }
        }
    };
    let body = form_page(asked, lang.of("サポート", "Support"), &main, why);
    Ok(Personal::to(viewer, body).showing(&enquiries))
}

pub(super) fn ask(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let (subject, text) = (asked.form("subject").trim(), asked.form("text").trim());
    let topic = Topic::of(asked.form("topic")).filter(|_| is_line(subject, 100) && is_text(text));
    let Some(topic) = topic else {
        return all_page(office, asked, &viewer, Some(incomplete(lang)));
    };
    match office.desk.enquire(
        &viewer,
        asked.form("form"),
        (topic, subject, text),
        asked.now,
    )? {
        Ok(id) => Ok(Personal::to(&viewer, SeeOther::new(at(lang, &id)).into())),
        Err(_) => {
            let why = lang.of(
                "受付中のお問い合わせが多すぎます。",
                "There are too many open enquiries.",
            );
            all_page(office, asked, &viewer, Some(why))
        }
    }
}

pub(super) fn one(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let found = office
        .desk
        .enquiry(&viewer, asked.public.parameter("enquiry"))?
        .ok_or(Refusal::NotFound)?;
    let (enquiry, said) = &*found;
    let main = html! {
        p.quiet { (topic(lang, enquiry.topic)) " · " (day(enquiry.opened)) }
        @for it in said {
            article.sheet {
                p.quiet { (if it.by_member { lang.of("あなた", "You") } else { lang.of("サポート", "Support") }) " · " (day(it.at)) }
                @for line in it.text.lines() { p { (line) } }
            }
        }
        form.fields method="post" {
            (words(lang, ""))
            div { button { (lang.of("返信する", "Reply")) } }
        }
        p { a href={ "/" (lang.code()) "/account/support" } { (lang.of("お問い合わせの一覧へ", "All your enquiries")) } }
    };
    let body = members_page(asked, &enquiry.subject, &main);
    Ok(Personal::to(&viewer, body).showing(&found))
}

pub(super) fn reply(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    let (id, text) = (asked.public.parameter("enquiry"), asked.form("text").trim());
    // Nothing was said: the page again, with the field that browsers hold to be required.
    if is_text(text) && !office.desk.say(&viewer, id, text, asked.now)? {
        return Err(Refusal::NotFound);
    }
    Ok(Personal::to(
        &viewer,
        SeeOther::new(at(asked.lang(), id)).into(),
    ))
}

fn at(lang: Lang, id: &str) -> Local {
    Local::parse(&format!("/{}/account/support/{id}", lang.code()))
        .unwrap_or_else(|| Local::page(&format!("/{}/account/support", lang.code())))
}

fn is_text(text: &str) -> bool {
    let is_good = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t');
    !text.is_empty() && text.chars().count() <= LETTERS_MAX && text.chars().all(is_good)
}

fn incomplete(lang: Lang) -> &'static str {
    lang.of(
        "件名と、4000文字までの本文をお願いします。",
        "Please give a subject, and up to 4000 letters of text.",
    )
}

fn words(lang: Lang, text: &str) -> Markup {
    html! {
        label {
            (lang.of("本文", "Text"))
            small { (lang.of("カード番号は書かないでください。", "Never write the number of a card.")) }
            textarea name="text" rows="6" maxlength=(LETTERS_MAX) required { (text) }
        }
    }
}

fn topic(lang: Lang, topic: Topic) -> &'static str {
    match topic {
        Topic::Order => lang.of("ご注文・配送", "An order"),
        Topic::Account => lang.of("会員登録・ログイン", "Your account"),
        Topic::Incident => lang.of("事故のお知らせ", "An incident"),
        Topic::Payment => lang.of("身に覚えのないお支払い", "A payment that was not yours"),
        Topic::Other => lang.of("その他", "Something else"),
    }
}
