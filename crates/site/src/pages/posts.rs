//! Videos that members post: their own list, the form, and what everybody sees once somebody has looked.

use bytes::Bytes;
use maud::{Markup, html};

use super::Office;
use super::account::{Answered, form_page, or_nothing};
use super::door::is_line;
use crate::answer::{Html, Media, Mp4, Personal, SeeOther, Shared, Webm};
use crate::asked::{Asked, Local, Public};
use crate::html::{Frame, day, page, wrong};
use crate::member::MemberId;
use crate::posts::{NotTaken, PostState, PublicPost, VIDEO_BYTES_MAX, VideoType};
use crate::refusal::Refusal;
use crate::store::Shelf;

pub(super) fn own(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    own_page(office, asked, &viewer, None)
}

fn own_page(office: &Office, asked: &Asked, viewer: &MemberId, why: Option<&str>) -> Answered {
    let lang = asked.lang();
    let posts = office.desk.posts(viewer)?;
    let state = |state| match state {
        PostState::Waiting => lang.of("確認中", "Waiting to be looked at"),
        PostState::Published => lang.of("公開中", "Published"),
        PostState::Refused => lang.of("公開できません", "Not published"),
        PostState::TakenBack => lang.of("取り下げ", "Taken back"),
    };
    let to = format!("/{}/account/videos", lang.code());
    let most = VIDEO_BYTES_MAX >> 20;
    let main = html! {
        (wrong(why))
        (or_nothing(lang, posts.is_empty()))
        @for post in posts.iter() {
            article.sheet {
                p {
                    @if post.state == PostState::Published {
                        a href={ "/" (lang.code()) "/videos/" (post.id) } { (post.title) }
                    } @else { (post.title) }
                    " " span.quiet { (day(post.posted)) " · " (state(post.state)) }
                }
                @if !post.why.is_empty() { p { (post.why) } }
                form method="post" action={ (to) "/" (post.id) "/take-back" } {
                    button.less aria-label=(lang.of(format!("「{}」を取り下げる", post.title), format!("Take back {}", post.title))) {
                        (lang.of("取り下げる", "Take back"))
                    }
                }
            }
        }
        h2 { (lang.of("動画を投稿する", "Post a video")) }
        form.fields method="post" action=(to) enctype="multipart/form-data" {
            label {
                (lang.of("題名", "Title"))
                input name="title" maxlength="80" value=(asked.form("title")) required;
            }
            label {
                (lang.of("動画ファイル", "Video file"))
                small { (lang.of(format!("WebMかMP4、{most}MBまで"), format!("WebM or MP4, up to {most} MB"))) }
                input type="file" name="video" accept="video/webm,video/mp4" required;
            }
            p.quiet { (lang.of("担当者が確認したあと、ニックネームとともに公開されます。", "Published with your nickname once somebody has looked at it.")) }
            div { button { (lang.of("投稿する", "Post")) } }
        }
    };
    let body = form_page(asked, lang.of("投稿した動画", "Your videos"), &main, why);
    Ok(Personal::to(viewer, body).showing(&posts))
}

pub(super) fn post(office: &Office, asked: &Asked) -> Answered {
    let lang = asked.lang();
    let viewer = office.viewer(asked)?.member;
    let title = asked.form("title").trim();
    if !is_line(title, 80) {
        let why = lang.of("題名は80文字までです。", "A title has up to 80 letters.");
        return own_page(office, asked, &viewer, Some(why));
    }
    let bytes = asked
        .upload
        .as_ref()
        .map_or_else(Bytes::new, |it| it.bytes.clone());
    match office.desk.post(&viewer, title, &bytes, asked.now)? {
        Ok(_) => {
            let to = Local::page(&format!("/{}/account/videos", lang.code()));
            Ok(Personal::to(&viewer, SeeOther::new(to).into()))
        }
        Err(why) => own_page(
            office,
            asked,
            &viewer,
            Some(match why {
                NotTaken::NoVideo => lang.of(
                    "WebMかMP4の動画をお選びください。",
                    "Please choose a WebM or MP4 video.",
                ),
                NotTaken::TooLarge => lang.of("ファイルが大きすぎます。", "The file is too large."),
                NotTaken::TooMany => lang.of(
                    "投稿の数が上限に達しました。",
                    "You have posted as many as we take.",
                ),
            }),
        ),
    }
}

pub(super) fn take_back(office: &Office, asked: &Asked) -> Answered {
    let viewer = office.viewer(asked)?.member;
    if !office
        .desk
        .take_back(&viewer, asked.public.parameter("post"))?
    {
        return Err(Refusal::NotFound);
    }
    let to = Local::page(&format!("/{}/account/videos", asked.lang().code()));
    Ok(Personal::to(&viewer, SeeOther::new(to).into()))
}

pub(super) fn all(shelf: &Shelf, asked: &Public) -> Result<Shared<Html>, Refusal> {
    let lang = asked.lang();
    let posts = shelf.published_posts()?;
    let main = html! {
        (or_nothing(lang, posts.is_empty()))
        @for post in &posts {
            article.sheet {
                p {
                    a href={ "/" (lang.code()) "/videos/" (post.id) } { (post.title) }
                    " " span.quiet { (post.by) " · " (day(post.posted)) }
                }
            }
        }
    };
    let title = lang.of("みんなの動画", "Videos of members");
    Ok(Shared::new(Html::new(page(
        asked,
        title,
        Frame::Anybodys,
        &main,
    ))))
}

pub(super) fn one(shelf: &Shelf, asked: &Public) -> Result<Shared<Html>, Refusal> {
    let lang = asked.lang();
    let post = shelf
        .published_post(asked.parameter("post"))?
        .ok_or(Refusal::NotFound)?;
    let main: Markup = html! {
        video controls preload="metadata" src=(path(&post)) {
            (lang.of("このブラウザーでは再生できません。", "This browser cannot play it."))
        }
        p.quiet { (post.by) " · " (day(post.posted)) }
        p { a href={ "/" (lang.code()) "/videos" } { (lang.of("みんなの動画へ", "All videos of members")) } }
    };
    Ok(Shared::new(Html::new(page(
        asked,
        &post.title,
        Frame::Anybodys,
        &main,
    ))))
}

/// Under the digest of its content, so that a copy never is out of date.
pub(super) fn path(post: &PublicPost) -> String {
    format!(
        "/media/posts/{}/{}-{:.12}",
        post.video.text(),
        post.id,
        post.digest
    )
}

pub(super) fn webm(shelf: &Shelf, asked: &Public) -> Result<Media<Webm>, Refusal> {
    bytes(shelf, asked, VideoType::Webm).map(|it| Media::new(Webm(it)))
}

pub(super) fn mp4(shelf: &Shelf, asked: &Public) -> Result<Media<Mp4>, Refusal> {
    bytes(shelf, asked, VideoType::Mp4).map(|it| Media::new(Mp4(it)))
}

fn bytes(shelf: &Shelf, asked: &Public, video: VideoType) -> Result<Bytes, Refusal> {
    let (id, _) = asked
        .parameter("video")
        .split_once('-')
        .ok_or(Refusal::NotFound)?;
    let post = shelf
        .published_post(id)?
        .filter(|it| it.video == video)
        .ok_or(Refusal::NotFound)?;
    if path(&post) != asked.path() {
        return Err(Refusal::NotFound);
    }
    Ok(shelf.video(&post)?)
}
