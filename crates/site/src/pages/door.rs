//! Registration, login, logout, and the password asked for once more.
//!
//! Whatever makes a session somebody's gives it a new value and says so. What was wrong is said
//! without saying whether a mail address is a member's.

use maud::{Markup, html};

use super::Office;
use crate::answer::{AnyBody, Html, Personal, SeeOther};
use crate::asked::{Asked, Local};
use crate::html::{Field, Frame, field, page, wrong};
use crate::password::{self, Turn};
use crate::refusal::Refusal;
use crate::store::NewMember;
use crate::tries::{From, network};

type Answered = Result<Personal<AnyBody>, Refusal>;

pub(super) fn register_form(_: &Office, asked: &Asked) -> Answered {
    Ok(Personal::to_nobody(
        Html::new(registration(asked, None)).into(),
    ))
}

pub(super) fn register(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let again = |why: &str| {
        Ok(Personal::to_nobody(
            Html::again(registration(asked, Some(why))).into(),
        ))
    };
    let mail = asked.form("mail").trim().to_lowercase();
    let nickname = asked.form("nickname").trim();
    let password = asked.form("password");
    if !is_mail(&mail) {
        return again(lang.of(
            "メールアドレスをお確かめください。",
            "Please check the mail address.",
        ));
    }
    if !is_line(nickname, 40) {
        return again(lang.of(
            "ニックネームは40文字までです。",
            "A nickname has up to 40 letters.",
        ));
    }
    if !(password::BYTES_MIN..=password::BYTES_MAX).contains(&password.len()) {
        return again(lang.of(
            "パスワードは10文字以上にしてください。",
            "A password has at least 10 letters.",
        ));
    }
    office
        .registrations
        .try_once(&network(asked.client), asked.now)?;
    let turn = Turn::take()?;
    let hash = password::hash(password);
    drop(turn);
    let new = NewMember {
        mail: &mail,
        nickname,
        password: &hash,
    };
    let Ok(member) = office.desk.register(&new, asked.now)? else {
        return again(lang.of(
            "このメールアドレスでは登録できません。",
            "This mail address cannot be registered.",
        ));
    };
    let token = office
        .desk
        .begin_session(&member, asked.token.as_ref(), asked.now)?;
    let device = office.tries.remembered(&mail, asked.now);
    Ok(Personal::to(&member, SeeOther::new(account(asked)).into())
        .begins(token)
        .remembers(device))
}

pub(super) fn login_form(_: &Office, asked: &Asked) -> Answered {
    Ok(Personal::to_nobody(Html::new(login(asked, None)).into()))
}

pub(super) fn log_in(office: &Office, asked: &Asked) -> Answered {
    let mail = asked.form("mail").trim().to_lowercase();
    let from = From {
        device: asked.device.as_ref(),
        client: asked.client,
        now: asked.now,
    };
    let counted = office.tries.log_in(&mail, from)?;
    let turn = Turn::take()?;
    let found = office.desk.credentials(&mail)?;
    let hash = found.as_ref().map(|(_, hash)| hash.as_str());
    let is_theirs = password::is_of(asked.form("password"), hash);
    drop(turn);
    let Some((member, _)) = found.filter(|_| is_theirs) else {
        let why = asked.lang().of(
            "メールアドレスかパスワードが違います。",
            "The mail address or the password is wrong.",
        );
        return Ok(Personal::to_nobody(
            Html::again(login(asked, Some(why))).into(),
        ));
    };
    office.tries.succeeded(counted);
    let token = office
        .desk
        .begin_session(&member, asked.token.as_ref(), asked.now)?;
    let to = asked.next().unwrap_or_else(|| account(asked));
    let device = office.tries.remembered(&mail, asked.now);
    Ok(Personal::to(&member, SeeOther::new(to).into())
        .begins(token)
        .remembers(device))
}

pub(super) fn log_out(office: &Office, asked: &Asked) -> Answered {
    let to = SeeOther::new(Local::page(&format!("/{}/", asked.lang().code()))).into();
    let session = office.desk.session(asked.token.as_ref(), asked.now)?;
    office.desk.end_session(asked.token.as_ref())?;
    let answer = match session {
        Some(session) => Personal::to(&session.member, to),
        None => Personal::to_nobody(to),
    };
    Ok(answer.ends())
}

pub(super) fn confirm_form(office: &Office, asked: &Asked) -> Answered {
    let session = office.viewer(asked)?;
    Ok(Personal::to(
        &session.member,
        Html::new(confirmation(asked, None)).into(),
    ))
}

pub(super) fn confirm(office: &Office, asked: &Asked) -> Answered {
    let session = office.viewer(asked)?;
    let digest = session.member.digest();
    let counted = office.tries.confirm(&digest, asked.now)?;
    let turn = Turn::take()?;
    let hash = office.desk.password(&session.member)?;
    let is_theirs = password::is_of(asked.form("password"), hash.as_deref());
    drop(turn);
    if !is_theirs {
        let why = asked
            .lang()
            .of("パスワードが違います。", "The password is wrong.");
        return Ok(Personal::to(
            &session.member,
            Html::again(confirmation(asked, Some(why))).into(),
        ));
    }
    office.tries.succeeded(counted);
    let token = office
        .desk
        .begin_session(&session.member, asked.token.as_ref(), asked.now)?;
    let to = asked.next().unwrap_or_else(|| account(asked));
    Ok(Personal::to(&session.member, SeeOther::new(to).into()).begins(token))
}

fn account(asked: &Asked) -> Local {
    Local::page(&format!("/{}/account", asked.lang().code()))
}

fn registration(asked: &Asked, why: Option<&str>) -> Markup {
    let lang = asked.lang();
    let main = html! {
        (wrong(why))
        form.fields method="post" action={ "/" (lang.code()) "/register" } {
            (mail_field(asked))
            (field(&Field {
                name: "nickname",
                label: lang.of("ニックネーム", "Nickname"),
                more: lang.of("レビューに表示されます。", "Shown with your reviews."),
                kind: "text",
                value: asked.form("nickname"),
                autocomplete: "nickname",
                letters_max: 40,
            }))
            (password_field(asked, "new-password", lang.of("10文字以上", "At least 10 letters")))
            div { button { (lang.of("登録する", "Register")) } }
        }
        p { a href={ "/" (lang.code()) "/login" } { (lang.of("会員の方はログイン", "Log in as a member")) } }
    };
    page(
        &asked.public,
        lang.of("会員登録", "Register"),
        Frame::Anybodys,
        &main,
    )
}

fn login(asked: &Asked, why: Option<&str>) -> Markup {
    let lang = asked.lang();
    let main = html! {
        (wrong(why))
        form.fields method="post" action={ "/" (lang.code()) "/login" } {
            (mail_field(asked))
            (password_field(asked, "current-password", ""))
            (next_field(asked))
            div { button { (lang.of("ログイン", "Log in")) } }
        }
        p { a href={ "/" (lang.code()) "/register" } { (lang.of("はじめての方は会員登録", "Register as a member")) } }
    };
    page(
        &asked.public,
        lang.of("ログイン", "Log in"),
        Frame::Anybodys,
        &main,
    )
}

fn confirmation(asked: &Asked, why: Option<&str>) -> Markup {
    let lang = asked.lang();
    let main = html! {
        (wrong(why))
        p { (lang.of("大切な情報の前に、もう一度パスワードをお願いします。", "This is worth protecting: please give your password once more.")) }
        form.fields method="post" action={ "/" (lang.code()) "/account/confirm" } {
            (password_field(asked, "current-password", ""))
            (next_field(asked))
            div { button { (lang.of("確認する", "Confirm")) } }
        }
    };
    page(
        &asked.public,
        lang.of("パスワードの確認", "Confirm your password"),
        Frame::Members,
        &main,
    )
}

fn mail_field(asked: &Asked) -> Markup {
    field(&Field {
        name: "mail",
        label: asked.lang().of("メールアドレス", "Mail address"),
        more: "",
        kind: "email",
        value: asked.form("mail"),
        autocomplete: "email",
        letters_max: 254,
    })
}

/// Never filled in by us.
fn password_field(asked: &Asked, autocomplete: &str, more: &str) -> Markup {
    field(&Field {
        name: "password",
        label: asked.lang().of("パスワード", "Password"),
        more,
        kind: "password",
        value: "",
        autocomplete,
        letters_max: password::BYTES_MAX,
    })
}

fn next_field(asked: &Asked) -> Markup {
    html! { @if let Some(next) = asked.next() { input type="hidden" name="next" value=(next.text()); } }
}

fn is_mail(mail: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && !b"<>()[],;:\\\"".contains(&byte);
    let parts = mail
        .split_once('@')
        .filter(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    parts.is_some() && mail.len() <= 254 && mail.bytes().all(good)
}

/// One line of text that is not empty.
pub(super) fn is_line(text: &str, letters_max: usize) -> bool {
    !text.is_empty() && text.chars().count() <= letters_max && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_addresses_are_told_from_other_texts() {
        for (text, good) in [
            ("hanako@example.test", true),
            ("a.b+c@mail.example.test", true),
            ("", false),
            ("hanako", false),
            ("@example.test", false),
            ("hanako@example", false),
            ("a@b@example.test", false),
            ("a b@example.test", false),
            ("a@example.test\r\nBcc: b@example.test", false),
            ("花子@example.test", false),
        ] {
            assert_eq!(is_mail(text), good, "{text}");
        }
    }
}
