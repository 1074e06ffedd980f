//! The store's pages: one table, each row a declaration.
//!
//! `public` is what everybody sees, `door` is registration, login and logout, `account` is what is a
//! member's own.

mod account;
mod buy;
mod door;
pub(crate) mod drawing;
mod membership;
mod notices;
mod posts;
mod public;
mod support;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use maud::html;

use crate::asked::{Asked, Millis, Public};
use crate::declare::{App, Kind, Members, Page, Verb};
use crate::html::{Frame, page, style_path};
use crate::limit::Limit;
use crate::media::MediaBase;
use crate::pay::Processor;
use crate::pay::trial::Trial;
use crate::posts::VIDEO_BYTES_MAX;
use crate::refusal::Refusal;
use crate::rest::{Notice, Rest};
use crate::router::{OurDeclarations, Router};
use crate::serve;
use crate::spool::Spool;
use crate::store::{Desk, Product, SAMPLE_MP4, SAMPLE_WEBM, Session, Shelf, Store, StoreFault};
use crate::ticket::Tickets;
use crate::trade::{Done, Trade, secret};
use crate::tries::Tries;

/// How long a password that was given opens what asks for it again.
const CONFIRMED_MS: i64 = 10 * 60 * 1000;

/// The store as an application.
#[derive(Debug)]
pub struct Shop {
    shelf: Shelf,
    office: Office,
    media: MediaBase,
}

/// Where members are served: their data, and how often what may be tried.
pub struct Office {
    pub(crate) desk: Desk,
    pub(crate) trade: Trade,
    shelf: Shelf,
    tries: Tries,
    registrations: Limit,
    /// Codes of notices that are tried, by where they come from.
    codes: Limit,
    pub(crate) rest: Rest,
    tickets: Tickets,
    mails: Option<Arc<Spool>>,
}

/// What is around a store: decided by who starts it.
#[derive(Clone)]
pub struct Around {
    /// What jobs ask before they do anything.
    pub rest: Rest,
    /// Who takes money for us.
    pub processor: Arc<dyn Processor>,
    /// Where members reach the store, as they write it: `https://shop.example.test`.
    pub url: String,
    /// Where browsers find pictures and films.
    pub media: MediaBase,
    /// What the delivery server believes.
    pub tickets: Tickets,
    /// Where mails go; without it they are written and stay.
    pub mails: Option<Arc<Spool>>,
}

impl Around {
    /// Nothing but a processor for trials with its books in memory: for tests and trials without an edge.
    ///
    /// # Errors
    /// There is no memory.
    pub fn nothing() -> Result<Self, StoreFault> {
        Ok(Self {
            rest: Rest::unkept(),
            processor: Arc::new(Trial::in_memory("http://pay.example.test")?),
            url: "http://shop.example.test".to_owned(),
            media: MediaBase::of_trials(),
            tickets: Tickets::of_this_process(),
            mails: None,
        })
    }
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Around(…)")
    }
}

impl App for Shop {
    type Shelf = Shelf;

    fn shelf(&self) -> &Shelf {
        &self.shelf
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
            Refusal::CardNumber => lang.of(
                (
                    "カード番号は入力しないでください",
                    "カード番号らしい数字が含まれていたため、受け付けず、保存もしませんでした。",
                ),
                (
                    "Never type the number of a card here",
                    "There was what looks like the number of a card, so nothing was taken or kept.",
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

    fn media(&self) -> &MediaBase {
        &self.media
    }
}

impl Members for Shop {
    type Desk = Office;

    fn desk(&self) -> &Office {
        &self.office
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

    fn product(&self, id: &str) -> Result<Product, Refusal> {
        self.shelf.product(id)?.ok_or(Refusal::NotFound)
    }
}

impl std::fmt::Debug for Office {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Office(…)")
    }
}

/// Why there is no shop.
#[derive(Debug, thiserror::Error)]
pub enum NoShop {
    /// A test would have found it.
    #[error("the declarations contradict each other: {0}")]
    OurDeclarations(#[from] OurDeclarations),
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// The shop on a store, with nothing around it.
///
/// # Errors
/// See [`NoShop`].
pub fn shop(store: Store) -> Result<Router<Shop>, NoShop> {
    shop_within(Around::nothing()?, store)
}

/// The shop on a store.
///
/// # Errors
/// See [`NoShop`].
pub fn shop_within(around: Around, store: Store) -> Result<Router<Shop>, NoShop> {
    const MINUTE_MS: i64 = 60 * 1000;
    let database = store.desk.database();
    let devices = database.write(|sql| secret(sql, "devices"))?;
    let office = Office {
        trade: Trade::new(database.clone(), around.processor, &around.url)?,
        shelf: Shelf::new(database),
        desk: store.desk,
        tries: Tries::new(devices),
        registrations: Limit::new(20, 60 * MINUTE_MS),
        codes: Limit::new(30, 10 * MINUTE_MS),
        rest: around.rest,
        tickets: around.tickets,
        mails: around.mails,
    };
    let shop = Shop {
        shelf: store.shelf,
        office,
        media: around.media,
    };
    Ok(Router::new(shop, table())?)
}

impl Shop {
    /// What is done with goods and money, for who operates the store.
    #[must_use]
    pub fn trade(&self) -> &Trade {
        &self.office.trade
    }

    /// Members and what is theirs, for who operates the store.
    #[must_use]
    pub fn members(&self) -> &Desk {
        &self.office.desk
    }

    /// Does what is due without anybody asking. While the site is closed, nothing is; and nothing more once
    /// `goes_on` says no, which is asked before each thing that is done.
    ///
    /// # Errors
    /// The store fails.
    pub fn run_jobs(&self, goes_on: impl Fn() -> bool, now: Millis) -> Result<Done, StoreFault> {
        let allowed = || goes_on() && self.office.rest.allowed().is_ok();
        let done = self.office.trade.run_jobs(allowed, now);
        if let Some(spool) = &self.office.mails
            && let Err(why) = spool.hand_all(&self.office.desk.database(), allowed, MAILS_AT_ONCE)
        {
            tracing::error!(%why, "mails could not be handed over");
        }
        done
    }
}

/// A posted video has up to four mebibytes.
const VIDEO_SLICE_BYTES: u32 = 64 << 10;

/// Mails that one run hands over.
const MAILS_AT_ONCE: i64 = 200;

/// How often what is due without anybody asking is done.
const JOBS_EVERY: Duration = Duration::from_secs(5);
/// How long a store that has just started waits before that: for an edge that was closed meanwhile and could tell
/// nobody. It tries again every ten seconds.
const JOBS_AFTER: Duration = Duration::from_secs(15);

/// Dropped, it says that no more is to be done.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does it until it is dropped, one run after another. A run that is dropped ends after what it is about, and not
/// after all that is due: a processor may take its time for each.
pub async fn jobs(shop: Arc<Router<Shop>>) {
    jobs_after(JOBS_AFTER, shop).await;
}

async fn jobs_after(wait: Duration, shop: Arc<Router<Shop>>) {
    let has_ended = Arc::new(AtomicBool::new(false));
    let _ends = Ends(Arc::clone(&has_ended));
    tokio::time::sleep(wait).await;
    loop {
        let (running, has_ended) = (Arc::clone(&shop), Arc::clone(&has_ended));
        let goes_on = move || !has_ended.load(Ordering::Relaxed);
        let run =
            tokio::task::spawn_blocking(move || running.app().run_jobs(goes_on, serve::now()));
        match run.await {
            Ok(Ok(_)) => {}
            Ok(Err(fault)) => tracing::error!(%fault, "jobs could not be done"),
            Err(panic) => tracing::error!(%panic, "a job panicked"),
        }
        tokio::time::sleep(JOBS_EVERY).await;
    }
}

/// Where a sample's video is.
fn sample_video(whose: &str, video: &str) -> String {
    let bytes = if video == "webm" {
        SAMPLE_WEBM
    } else {
        SAMPLE_MP4
    };
    let digest = blake3::hash(bytes).to_hex();
    format!("/media/posts/{video}/samplepost{whose}-{digest:.12}")
}

/// Every page there is.
fn table() -> Vec<Page<Shop>> {
    let (minute, year) = (Duration::from_mins(1), Duration::from_hours(24 * 365));
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
            "watch/player",
            Verb::Get,
            "/{lang}/watch/{product}",
            &[Kind::PurchaseHistory, Kind::ViewingHistory],
            watch::player,
        )
        .example("/en/watch/night-trains")
        .example("/ja/watch/course-sashiko"),
        Page::personal(
            "watch",
            Verb::Post,
            "/{lang}/watch/{product}",
            &[Kind::PurchaseHistory],
            watch::watch,
        ),
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
        Page::personal("offer", Verb::Get, "/{lang}/buy/{product}", &[], buy::offer)
            .example("/ja/buy/last-lighthouse"),
        Page::personal("cart", Verb::Get, "/{lang}/cart", &[Kind::Cart], buy::cart)
            .example("/ja/cart"),
        Page::personal(
            "cart/change",
            Verb::Post,
            "/{lang}/cart",
            &[Kind::Cart],
            buy::change_cart,
        ),
        Page::personal(
            "checkout/form",
            Verb::Get,
            "/{lang}/checkout",
            &[
                Kind::Cart,
                Kind::Points,
                Kind::Name,
                Kind::Address,
                Kind::Phone,
            ],
            buy::checkout_form,
        )
        .example("/en/checkout"),
        Page::personal(
            "checkout",
            Verb::Post,
            "/{lang}/checkout",
            &[
                Kind::Cart,
                Kind::Points,
                Kind::Name,
                Kind::Address,
                Kind::Phone,
            ],
            buy::checkout,
        ),
        Page::personal(
            "payment",
            Verb::Get,
            "/{lang}/account/payments/{payment}",
            &[Kind::PurchaseHistory],
            buy::payment,
        )
        .example("/ja/account/payments/samplehanako1"),
        Page::personal(
            "cancel/form",
            Verb::Get,
            "/{lang}/account/orders/{order}/lines/{line}/cancel",
            &[Kind::PurchaseHistory],
            buy::cancel_form,
        )
        .example("/ja/account/orders/samplehanako1/lines/1/cancel"),
        Page::personal(
            "cancel",
            Verb::Post,
            "/{lang}/account/orders/{order}/lines/{line}/cancel",
            &[Kind::PurchaseHistory],
            buy::cancel,
        ),
        Page::personal(
            "membership",
            Verb::Get,
            "/{lang}/account/membership",
            &[Kind::MemberStatus],
            membership::show,
        )
        .example("/ja/account/membership"),
        Page::personal(
            "membership/change",
            Verb::Post,
            "/{lang}/account/membership",
            &[Kind::MemberStatus],
            membership::change,
        ),
        Page::shared("videos", "/{lang}/videos", &[], minute, posts::all).example("/ja/videos"),
        Page::shared("video", "/{lang}/videos/{post}", &[], minute, posts::one)
            .example("/en/videos/sampleposthanako"),
        Page::media("video/webm", "/media/posts/webm/{video}", posts::webm)
            .in_slices(VIDEO_SLICE_BYTES)
            .example(sample_video("hanako", "webm")),
        Page::media("video/mp4", "/media/posts/mp4/{video}", posts::mp4)
            .in_slices(VIDEO_SLICE_BYTES)
            .example(sample_video("taro", "mp4")),
        Page::personal(
            "posts",
            Verb::Get,
            "/{lang}/account/videos",
            &[Kind::PostedVideos],
            posts::own,
        )
        .example("/ja/account/videos"),
        Page::personal(
            "posts/post",
            Verb::Post,
            "/{lang}/account/videos",
            &[Kind::PostedVideos],
            posts::post,
        )
        .taking(VIDEO_BYTES_MAX),
        Page::personal(
            "posts/take-back",
            Verb::Post,
            "/{lang}/account/videos/{post}/take-back",
            &[Kind::PostedVideos],
            posts::take_back,
        ),
        Page::personal(
            "support",
            Verb::Get,
            "/{lang}/account/support",
            &[Kind::Enquiries],
            support::all,
        )
        .example("/en/account/support"),
        Page::personal(
            "support/ask",
            Verb::Post,
            "/{lang}/account/support",
            &[Kind::Enquiries],
            support::ask,
        ),
        Page::personal(
            "enquiry",
            Verb::Get,
            "/{lang}/account/support/{enquiry}",
            &[Kind::Enquiries],
            support::one,
        )
        .example("/ja/account/support/sampleenquirytaro"),
        Page::personal(
            "enquiry/reply",
            Verb::Post,
            "/{lang}/account/support/{enquiry}",
            &[Kind::Enquiries],
            support::reply,
        ),
        Page::personal(
            "notices",
            Verb::Get,
            "/{lang}/account/notices",
            &[Kind::Notices],
            notices::all,
        )
        .example("/ja/account/notices"),
        Page::personal(
            "choice",
            Verb::Get,
            "/{lang}/account/choices/{choice}",
            &[Kind::Notices, Kind::BankAccount],
            notices::choice,
        )
        .example("/ja/account/choices/C-sample-taro-2")
        .example("/en/account/choices/C-sample-hanako-1"),
        Page::personal(
            "choice/answer",
            Verb::Post,
            "/{lang}/account/choices/{choice}",
            &[Kind::Notices, Kind::BankAccount],
            notices::answer,
        ),
        // By a link from a mail: whoever holds it is not known to be the member, so no owner is named.
        Page::personal(
            "answer/form",
            Verb::Get,
            "/{lang}/answer/{choice}/{signature}",
            &[Kind::Notices],
            notices::linked,
        )
        .example("/ja/answer/C-sample-taro-1/spent"),
        Page::personal(
            "answer",
            Verb::Post,
            "/{lang}/answer/{choice}/{signature}",
            &[Kind::Notices],
            notices::answer_link,
        ),
        Page::personal(
            "notice-check/form",
            Verb::Get,
            "/{lang}/notice-check",
            &[],
            notices::check_form,
        )
        .example("/en/notice-check"),
        Page::personal(
            "notice-check",
            Verb::Post,
            "/{lang}/notice-check",
            &[],
            notices::check,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::pay::{Ask, Booked, Charge, Opened, Opening, Processor, Seen, Trouble};
    use crate::store::fill_with_samples;
    use crate::trade::Placing;

    /// A processor that says when a payment is opened, and answers when it is let.
    struct Slow {
        asked: Sender<()>,
        answers: Mutex<Receiver<()>>,
    }

    fn nothing<T>() -> Result<T, Trouble> {
        Err(Trouble::Unknown("slow".to_owned()))
    }

    impl Processor for Slow {
        fn open(&self, _: &Opening<'_>, _: Millis) -> Result<Opened, Trouble> {
            self.asked.send(()).unwrap();
            let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.recv().unwrap();
            nothing()
        }
        fn look(&self, _: &str, _: Millis) -> Result<Option<Seen>, Trouble> {
            nothing()
        }
        fn charged(&self, _: &Charge<'_>, _: Millis) -> Result<Option<Seen>, Trouble> {
            nothing()
        }
        fn charge(&self, _: &Charge<'_>, _: Millis) -> Result<Seen, Trouble> {
            nothing()
        }
        fn capture(&self, _: &Ask<'_>, _: Millis) -> Result<(), Trouble> {
            nothing()
        }
        fn void(&self, _: &Ask<'_>, _: Millis) -> Result<(), Trouble> {
            nothing()
        }
        fn refund(&self, _: &Ask<'_>, _: Millis) -> Result<(), Trouble> {
            nothing()
        }
        fn statement(&self, _: Millis) -> Result<Vec<Booked>, Trouble> {
            nothing()
        }
    }

    #[test]
    fn a_store_that_stops_waits_for_one_answer_of_the_processor_and_not_for_all() {
        let store = crate::fresh::store();
        fill_with_samples(&store).unwrap();
        let (asked, is_asked) = channel();
        let (answer, answers) = channel();
        let answers = Mutex::new(answers);
        let around = Around {
            processor: Arc::new(Slow { asked, answers }),
            ..Around::nothing().unwrap()
        };
        let shop = Arc::new(shop_within(around, store).unwrap());
        let before = Millis(serve::now().0 - 60_000);
        let trade = shop.app().trade();
        let member = shop.app().members().credentials("hanako@example.test");
        let (member, _) = member.unwrap().unwrap();
        for nth in 0..3 {
            trade.put(&member, "bread-at-four", before).unwrap();
            let placing = Placing {
                form: &format!("{nth:020}"),
                seen: &trade.cart(&member).unwrap().digest(),
                points: 0,
                lang: crate::asked::Lang::Ja,
            };
            trade.place(&member, &placing, before).unwrap().unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let is_asked = runtime.block_on(async {
            let working = tokio::spawn(jobs_after(Duration::ZERO, Arc::clone(&shop)));
            let first = move || is_asked.recv().map(|()| is_asked);
            let is_asked = tokio::task::spawn_blocking(first).await.unwrap().unwrap();
            working.abort();
            drop(working.await);
            is_asked
        });
        for _ in 0..3 {
            answer.send(()).unwrap();
        }
        // Waits for what runs.
        drop(runtime);
        assert_eq!(
            is_asked.try_iter().count(),
            0,
            "the others were asked for, too"
        );
    }
}
