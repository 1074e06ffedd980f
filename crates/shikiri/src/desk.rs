//! `shikiri site notices`, `posts`, `orders`, `enquiries`, `books`: what the people of a store do.
//!
//! Words in, words out; what is done is done by the crate `site`, beside the store that serves: a database
//! has one writer at a time, and each thing is done once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use shikiri_site::asked::Millis;
use shikiri_site::rest::Rest;
use shikiri_site::router::Router;
use shikiri_site::serve::now;
use shikiri_site::trade::IMPORT_BYTES_MAX;
use shikiri_site::{Around, Shop, shop_within};

use crate::database::Database;
use crate::processor::Chosen;
use crate::say;

/// Where the store's data is.
#[derive(clap::Args)]
pub(crate) struct At {
    /// The data folder of the store; `shikiri up` keeps it in `shikiri-up/site`.
    #[arg(long, value_name = "DIR", default_value = "shikiri-site")]
    data: PathBuf,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    processor: Chosen,
    /// Where members reach the store: links in mails lead there.
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080")]
    url: String,
}

/// `shikiri site notices …`
#[derive(clap::Subcommand)]
#[command(after_help = "Examples:
  shikiri site notices import notices.json --dry-run
      Checks the file and every member in it, and changes nothing.
  shikiri site notices import notices.json > done.json
      Takes it over, once; says what was new, and the link that each mail holds.
  shikiri site notices answers
      What members have answered, a line of JSON for each.
  shikiri site notices act C-disc-0001
      Sends or cancels a disc as its member wished; from then on the answer stands.")]
pub(crate) enum Notices {
    /// Take over what the incident desk decided (docs/site.md says how the file is written).
    Import {
        #[command(flatten)]
        at: At,
        /// The file, as JSON.
        file: PathBuf,
        /// Check, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what members have answered.
    Answers {
        #[command(flatten)]
        at: At,
    },
    /// Act on an answer about a disc.
    Act {
        #[command(flatten)]
        at: At,
        /// The question's id.
        choice: String,
    },
}

/// `shikiri site posts …`
#[derive(clap::Subcommand)]
#[command(after_help = "Examples:
  shikiri site posts waiting
  shikiri site posts publish abcdefghij
  shikiri site posts refuse abcdefghij --why 'It shows other people.'")]
pub(crate) enum Posts {
    /// List videos that wait for somebody to look at them.
    Waiting {
        #[command(flatten)]
        at: At,
    },
    /// Show a video to everybody.
    Publish {
        #[command(flatten)]
        at: At,
        post: String,
    },
    /// Show it to nobody, and tell its member why.
    Refuse {
        #[command(flatten)]
        at: At,
        post: String,
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
}

/// `shikiri site orders …`
#[derive(clap::Subcommand)]
#[command(after_help = "Examples:
  shikiri site orders send abcdefghij 1           takes the money, then the disc leaves
  shikiri site orders delivered abcdefghij 1")]
pub(crate) enum Orders {
    /// A disc leaves.
    Send {
        #[command(flatten)]
        at: At,
        order: String,
        line: i64,
    },
    /// A disc has arrived.
    Delivered {
        #[command(flatten)]
        at: At,
        order: String,
        line: i64,
    },
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri site answer abcdefghij 'It leaves tomorrow.'")]
pub(crate) struct AnswerArgs {
    #[command(flatten)]
    at: At,
    /// The enquiry's id.
    enquiry: String,
    /// What to say. The member reads it after a login.
    text: String,
}

#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 when both say the same, 1 when not.

Examples:
  shikiri site books        our books against the processor's statement")]
pub(crate) struct BooksArgs {
    #[command(flatten)]
    at: At,
}

pub(crate) fn notices(command: &Notices) -> Result<(), String> {
    match command {
        Notices::Import { at, file, dry_run } => import(at, file, *dry_run),
        Notices::Answers { at } => {
            let shop = at.shop()?;
            let answers = shop.app().trade().answers().map_err(words)?;
            answers.iter().try_for_each(|it| say(&format!("{it}\n")))
        }
        Notices::Act { at, choice } => {
            let shop = at.shop()?;
            let done = shop.app().trade().act_on(choice, now()).map_err(words)?;
            done_or(done, || {
                format!("{choice} is no question about a disc that was answered")
            })
        }
    }
}

fn import(at: &At, file: &Path, dry_run: bool) -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| cannot(&error))?;
    let read = opened.take(IMPORT_BYTES_MAX + 1).read_to_string(&mut text);
    let read = read.map_err(|error| cannot(&error))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > IMPORT_BYTES_MAX {
        return Err(cannot(&format!(
            "longer than {IMPORT_BYTES_MAX} bytes; split it"
        )));
    }
    // serde_json's words name line and column.
    let parsed = serde_json::from_str(&text).map_err(|error| cannot(&error))?;
    let shop = at.shop()?;
    let done = shop
        .app()
        .trade()
        .import_notices(&parsed, dry_run, now())
        .map_err(|error| cannot(&error))?;
    let told = serde_json::json!({
        "changed": !dry_run,
        "notices": done.notices,
        "choices": done.choices,
        "points": done.promises,
        "known": done.known,
        "links": done.links,
    });
    let told = serde_json::to_string_pretty(&told).expect("numbers and addresses are plain data");
    say(&format!("{told}\n"))
}

pub(crate) fn posts(command: &Posts) -> Result<(), String> {
    match command {
        Posts::Waiting { at } => {
            let shop = at.shop()?;
            let waiting = shop.app().members().waiting_posts().map_err(words)?;
            waiting
                .iter()
                .try_for_each(|(id, title)| say(&format!("{id}  {title}\n")))
        }
        Posts::Publish { at, post } => moderate(at, post, ""),
        Posts::Refuse { at, post, why } if !why.trim().is_empty() => moderate(at, post, why.trim()),
        Posts::Refuse { .. } => Err("say why with --why: its member reads it".to_owned()),
    }
}

fn moderate(at: &At, post: &str, why: &str) -> Result<(), String> {
    let done = at
        .shop()?
        .app()
        .members()
        .moderate(post, why)
        .map_err(words)?;
    done_or(done, || format!("no video {post} waits"))
}

pub(crate) fn orders(command: &Orders) -> Result<(), String> {
    match command {
        Orders::Send { at, order, line } => {
            let shop = at.shop()?;
            let sent = shop
                .app()
                .trade()
                .send(order, *line, now())
                .map_err(words)?;
            match sent {
                Ok(()) => say("sent\n"),
                Err(why) => Err(format!("line {line} of {order} does not leave: {why:?}")),
            }
        }
        Orders::Delivered { at, order, line } => {
            let done = at
                .shop()?
                .app()
                .trade()
                .delivered(order, *line, now())
                .map_err(words)?;
            done_or(done, || format!("line {line} of {order} was not sent"))
        }
    }
}

pub(crate) fn answer(args: &AnswerArgs) -> Result<(), String> {
    let shop = args.at.shop()?;
    let done = shop
        .app()
        .members()
        .answer_enquiry(&args.enquiry, &args.text, now())
        .map_err(words)?;
    done_or(done, || {
        format!(
            "there is no enquiry {}, or this was said already",
            args.enquiry
        )
    })
}

pub(crate) fn books(args: &BooksArgs) -> Result<(), String> {
    let shop = args.at.shop()?;
    let found = shop.app().trade().reconcile(Millis(0)).map_err(words)?;
    if found.is_empty() {
        return say("our books and the processor's statement say the same\n");
    }
    found.iter().try_for_each(|it| say(&format!("{it:?}\n")))?;
    Err(format!("{} differences", found.len()))
}

fn done_or(done: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if done { say("done\n") } else { Err(why()) }
}

fn words(fault: impl std::fmt::Display) -> String {
    fault.to_string()
}

impl At {
    /// The shop of this folder, which must be there.
    fn shop(&self) -> Result<Router<Shop>, String> {
        let store = self.database.open_existing(&self.data)?;
        let cannot = |fault: &dyn std::fmt::Display| format!("{}: {fault}", self.data.display());
        let around = Around {
            rest: Rest::kept_in(&self.data.join("rest.json")),
            processor: self.processor.open(&self.data)?,
            url: self.url.clone(),
            ..Around::nothing().map_err(|fault| cannot(&fault))?
        };
        shop_within(around, store).map_err(|fault| cannot(&fault))
    }
}
