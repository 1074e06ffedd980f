//! The store's pages: one table, each row a declaration.
//!
//! `public` is what everybody sees, `door` is registration, login and logout, `account` is what is a
//! member's own.

mod account;
mod door;
mod public;

use std::time::Duration;

use maud::html;

use crate::asked::{Asked, Millis, Public};
use crate::declare::{App, Kind, Page, Verb};
use crate::html::{Frame, page, style_path};
use crate::limit::Limit;
use crate::refusal::Refusal;
use crate::rest::{Notice, Rest};
use crate::router::{OurDeclarations, Router};
use crate::store::{Desk, Session, Shelf, Store};

/// How long a password that was given opens what asks for it again.
const CONFIRMED_MS: i64 = 10 * 60 * 1000;

/// The store as an application.
#[derive(Debug)]
pub struct Shop {
    shelf: Shelf,
    office: Office,
}

/// Where members are served: their data, and how often what may be tried.
pub struct Office {
    pub(crate) desk: Desk,
    /// Tries of a password, by mail address and by where they come from.
    passwords: Limit,
    clients: Limit,
    registrations: Limit,
    pub(crate) rest: Rest,
}

/// What is around a store: decided by who starts it.
#[derive(Clone, Debug)]
pub struct Around {
    /// What jobs ask before they do anything.
    pub rest: Rest,
}

impl Around {
    /// Nothing: for tests and trials without an edge.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            rest: Rest::unkept(),
        }
    }
}

impl App for Shop {
    type Shelf = Shelf;
    type Desk = Office;

    fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn desk(&self) -> &Office {
        &self.office
    }

    fn refusal(&self, asked: &Public, why: &Refusal) -> String {
        let lang = asked.lang();
        let (title, text) = match why {
            Refusal::NotFound | Refusal::Method => lang.of(
                ("ページが見つかりません", "アドレスをお確かめください。"),
                ("There is no such page", "Please check the address."),
            ),
            Refusal::TooMany { .. } => lang.of(
                (
                    "しばらくお待ちください",
                    "お試しの回数が多すぎます。時間をおいてお試しください。",
                ),
                (
                    "Please wait a while",
                    "There were too many tries. Please try again later.",
                ),
            ),
            Refusal::ForeignForm | Refusal::BadForm => lang.of(
                (
                    "受け付けられませんでした",
                    "この店のページから、もう一度お送りください。",
                ),
                (
                    "This could not be taken",
                    "Please send it again from a page of this store.",
                ),
            ),
            _ => lang.of(
                (
                    "ただいまご利用になれません",
                    "少し時間をおいてお試しください。",
                ),
                ("Not available just now", "Please try again in a moment."),
            ),
        };
        page(asked, title, Frame::Anybodys, &html! { p { (text) } }).into_string()
    }

    fn notice(&self, now: Millis) -> Option<Notice> {
        self.office.rest.notice(now)
    }
}

impl Office {
    /// The member whose session it is.
    fn viewer(&self, asked: &Asked) -> Result<Session, Refusal> {
        self.desk
            .session(asked.token.as_ref(), asked.now)?
            .ok_or(Refusal::LogIn)
    }

    /// The same, when the password was given lately.
    fn confirmed_viewer(&self, asked: &Asked) -> Result<Session, Refusal> {
        let session = self.viewer(asked)?;
        let until: Millis = session.confirmed.plus(CONFIRMED_MS);
        if asked.now < until {
            Ok(session)
        } else {
            Err(Refusal::StepUp)
        }
    }

    /// Counts one try of a password, for a mail address or a member and for where it comes from.
    fn count_try(&self, whose: &str, asked: &Asked) -> Result<(), Refusal> {
        if let Some(client) = asked.client {
            self.clients.try_once(&client.to_string(), asked.now)?;
        }
        self.passwords.try_once(whose, asked.now)
    }
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Office(…)")
    }
}

/// The shop on a store, with nothing around it.
///
/// # Errors
/// The declarations contradict each other, which a test would have found.
pub fn shop(store: Store) -> Result<Router<Shop>, OurDeclarations> {
    shop_within(Around::nothing(), store)
}

/// The shop on a store.
///
/// # Errors
/// The declarations contradict each other, which a test would have found.
pub fn shop_within(around: Around, store: Store) -> Result<Router<Shop>, OurDeclarations> {
    const MINUTE_MS: i64 = 60 * 1000;
    let office = Office {
        desk: store.desk,
        passwords: Limit::new(10, 10 * MINUTE_MS),
        clients: Limit::new(60, 10 * MINUTE_MS),
        registrations: Limit::new(20, 60 * MINUTE_MS),
        rest: around.rest,
    };
    Router::new(
        Shop {
            shelf: store.shelf,
            office,
        },
        table(),
    )
}

/// Every page there is.
fn table() -> Vec<Page<Shop>> {
    let (minute, year) = (Duration::from_mins(1), Duration::from_hours(24 * 365));
    let lighthouse = public::picture_path("last-lighthouse");
    vec![
        Page::shared("home/root", "/", &[], minute, public::home).example("/"),
        Page::shared("home", "/{lang}/", &[], minute, public::home)
            .example("/ja/")
            .example("/en/"),
        Page::shared(
            "films",
            "/{lang}/films",
            &["q", "page"],
            minute,
            public::films,
        )
        .example("/ja/films")
        .example("/en/films?q=lighthouse")
        .example("/en/films?page=2"),
        Page::shared(
            "product",
            "/{lang}/products/{product}",
            &[],
            minute,
            public::product,
        )
        .example("/ja/products/last-lighthouse")
        .example("/en/products/disc-night-trains"),
        Page::shared("style", "/static/{sheet}", &[], year, public::style).example(style_path()),
        Page::media("picture", "/media/{picture}", public::picture).example(lighthouse),
        Page::personal(
            "register/form",
            Verb::Get,
            "/{lang}/register",
            &[],
            door::register_form,
        )
        .example("/ja/register"),
        Page::personal(
            "register",
            Verb::Post,
            "/{lang}/register",
            &[Kind::Nickname, Kind::Mail],
            door::register,
        ),
        Page::personal(
            "login/form",
            Verb::Get,
            "/{lang}/login",
            &[],
            door::login_form,
        )
        .example("/en/login"),
        Page::personal(
            "login",
            Verb::Post,
            "/{lang}/login",
            &[Kind::Mail],
            door::log_in,
        ),
        Page::personal("logout", Verb::Post, "/{lang}/logout", &[], door::log_out),
        Page::personal(
            "confirm/form",
            Verb::Get,
            "/{lang}/account/confirm",
            &[],
            door::confirm_form,
        )
        .example("/en/account/confirm"),
        Page::personal(
            "confirm",
            Verb::Post,
            "/{lang}/account/confirm",
            &[],
            door::confirm,
        ),
        Page::personal(
            "account",
            Verb::Get,
            "/{lang}/account",
            &[Kind::Nickname, Kind::Mail, Kind::MemberStatus, Kind::Points],
            account::home,
        )
        .example("/ja/account")
        .example("/en/account"),
        Page::personal(
            "orders",
            Verb::Get,
            "/{lang}/account/orders",
            &[Kind::PurchaseHistory],
            account::orders,
        )
        .example("/ja/account/orders"),
        Page::personal(
            "order",
            Verb::Get,
            "/{lang}/account/orders/{order}",
            &[Kind::PurchaseHistory],
            account::order,
        )
        .example("/ja/account/orders/samplehanako1")
        .example("/en/account/orders/sampletaro1"),
        Page::personal(
            "watched",
            Verb::Get,
            "/{lang}/account/watched",
            &[Kind::ViewingHistory],
            account::watched,
        )
        .example("/en/account/watched"),
        Page::personal(
            "points",
            Verb::Get,
            "/{lang}/account/points",
            &[Kind::Points],
            account::points,
        )
        .example("/ja/account/points"),
        Page::personal(
            "reviews",
            Verb::Get,
            "/{lang}/account/reviews",
            &[Kind::Reviews],
            account::reviews,
        )
        .example("/en/account/reviews"),
        Page::personal(
            "review/form",
            Verb::Get,
            "/{lang}/account/reviews/{product}",
            &[Kind::Reviews],
            account::review_form,
        )
        .example("/en/account/reviews/last-lighthouse"),
        Page::personal(
            "review",
            Verb::Post,
            "/{lang}/account/reviews/{product}",
            &[Kind::Reviews],
            account::review,
        ),
        Page::personal(
            "delivery/form",
            Verb::Get,
            "/{lang}/account/delivery",
            &[Kind::Name, Kind::Address, Kind::Phone],
            account::delivery_form,
        )
        .example("/ja/account/delivery"),
        Page::personal(
            "delivery",
            Verb::Post,
            "/{lang}/account/delivery",
            &[Kind::Name, Kind::Address, Kind::Phone],
            account::delivery,
        ),
    ]
}
