//! Watching: a member who may is given a ticket for the film, and the history has it.
//!
//! Invariant: a film plays only once it stands in the member's viewing history. POST writes it there, and
//! GET shows the player to who did that lately; so the history is complete, and GET changes nothing.

use maud::{Markup, html};

use super::Office;
use crate::answer::{AnyBody, Html, Personal, SeeOther};
use crate::asked::{Asked, Lang, Local};
use crate::films;
use crate::html::{Frame, page};
use crate::refusal::Refusal;

type Answered = Result<Personal<AnyBody>, Refusal>;

/// How long one viewing may take, with pauses: as long as a ticket is good, and the player is shown.
const VIEWING_MS: i64 = 6 * 3600 * 1000;

pub(super) fn watch(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    let id = asked.public.parameter("product");
    let may = office.desk.may_watch(&viewer, id)?;
    if *may {
        office.desk.note_viewing(&viewer, id, asked.now)?;
    }
    // Who may not is told so by the page.
    let to = Local::parse(asked.public.path()).ok_or(Refusal::NotFound)?;
    Ok(Personal::to(&viewer, SeeOther::new(to).into()).showing(&may))
}

pub(super) fn player(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let id = asked.public.parameter("product");
    let titles = office.desk.titles(id)?.ok_or(Refusal::NotFound)?;
    let [ja, en] = &titles;
    let title: &str = lang.of(ja, en);
    let may = office.desk.may_watch(&viewer, id)?;
    if !*may {
        let main = html! {
            p { (lang.of("この作品はまだお求めいただいていません。", "You have not bought this yet.")) }
            (back(lang, id))
        };
        let body = Html::not_yours(page(&asked.public, title, Frame::Members, &main));
        return Ok(Personal::to(&viewer, body.into()).showing(&may));
    }
    let began = office.desk.last_viewing(&viewer, id)?;
    let until = began
        .map(|at| at.plus(VIEWING_MS))
        .filter(|at| asked.now < *at);
    let ticketed = |folder: String, until| {
        asked
            .public
            .media()
            .address(&office.tickets.path(&folder, &viewer, until))
    };
    let main = match (until, films::stream(id), films::download(id)) {
        (Some(until), Some(folder), _) => {
            let at = ticketed(folder, until);
            let poster = films::covers(id).pop();
            let poster = poster.map(|(_, path)| asked.public.media().address(&path));
            html! {
                video controls preload="metadata" playsinline width="640" height="360" poster=[poster] aria-label=(title) {
                    source src={ (at) "/index.m3u8" } type="application/vnd.apple.mpegurl";
                    source src={ (at) "/film.webm" } type="video/webm";
                }
                p.quiet { (lang.of("視聴履歴に記録されました。", "It is in your viewing history.")) }
                (back(lang, id))
            }
        }
        (Some(until), None, Some(folder)) => html! {
            p { a.button href={ (ticketed(folder, until)) "/film.mp4" } { (lang.of("ファイルを保存する", "Save the file")) } }
            (back(lang, id))
        },
        (None, _, _) => html! {
            form method="post" { button { (lang.of("再生する", "Play")) } }
            (back(lang, id))
        },
        (Some(_), None, None) => html! {
            p { (lang.of("この見本には映像がありません。", "This sample has no film to show.")) }
            (back(lang, id))
        },
    };
    let body = Html::new(page(&asked.public, title, Frame::Members, &main));
    Ok(Personal::to(&viewer, body.into())
        .showing(&may)
        .showing(&began))
}

fn back(lang: Lang, product: &str) -> Markup {
    html! { p { a href={ "/" (lang.code()) "/products/" (product) } { (lang.of("作品のページへ", "About it")) } } }
}
