//! `shikiri who`: who was served what, from the archive and from segments that are not archived yet.
//! `docs/who.md` says what an answer means.
//!
//! Never decides whose anything is: `shikiri_incident::whose` does. No tag is printed unless it is asked for.
//!
//! Invariant: an answer that lacks something says so, and ends with another status.

mod asked;
mod out;
mod sources;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use shikiri_archive::Archived;
use shikiri_archive::who::{self, Question, Served, Settings, Viewers, Window};

use asked::{Asked, Objects};
use out::{Form, Out, Summary};
use sources::{At, Sources};

/// `shikiri who …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Who was served something: an object, a member's data, a fetch, a class.
    Saw(SawArgs),
}

/// How an answer is printed.
#[derive(clap::Args)]
struct Shown {
    /// As comma-separated values, with a header line.
    #[arg(long, group = "form")]
    csv: bool,
    /// One JSON object a line.
    #[arg(long, group = "form")]
    json: bool,
    /// Print tags. Without it viewers, members, objects and addresses bear numbers of this answer alone.
    #[arg(long)]
    tags: bool,
    /// A directory of members (`shikiri evidence directory`): print their ids where it has them.
    #[arg(long, value_name = "FILE")]
    directory: Option<PathBuf>,
}

/// Flags of `shikiri who saw`.
#[derive(clap::Args)]
#[command(
    after_help = "A response is in a window when its request had been read in it; both ends are included. Members are \
ids as the origin names them, which takes the keys of the tags in the data folder (or a --directory), or tags: \
tag:5f0c…. Objects are URLs, or tags: 32 hexadecimal digits.

Exit status: 0 when the answer is whole, 3 when rows of that time are damaged or missing (`shikiri who gaps` names \
them), 1 when there is none.

Examples:
  shikiri who saw --owner 12345
      Who was served member 12345's data, the member included.
  shikiri who saw --object https://shop.example.test/account --window 2020-03-16T12:24:00+09:00..2020-03-16T12:25:00+09:00
  shikiri who saw --objects-file leaked.txt --window 2020-03-16T12:24:00+09:00.. --viewers
      Each viewer once, by tag.
  shikiri who saw --class pages --csv --tags > rows.csv"
)]
pub(crate) struct SawArgs {
    #[command(flatten)]
    at: At,
    /// A member: whose data it was. Also every response with the bytes of a fetch that held it.
    #[arg(long, value_name = "MEMBER")]
    owner: Vec<String>,
    #[command(flatten)]
    objects: Objects,
    /// A fetch: its 32 digits.
    #[arg(long, value_name = "ID")]
    fill: Vec<String>,
    /// A class of the policy.
    #[arg(long, value_name = "CLASS")]
    class: Vec<String>,
    /// From when to when: A..B, either of which may be left out.
    #[arg(long, value_name = "A..B", value_parser = asked::window, default_value = "..")]
    window: Window,
    /// Each viewer once, by tag, and nothing else.
    #[arg(long)]
    viewers: bool,
    #[command(flatten)]
    shown: Shown,
}

/// Something that the answer should have is missing or damaged.
const NOT_WHOLE: u8 = 3;

pub(crate) fn run(command: &Command) -> Result<ExitCode, String> {
    match command {
        Command::Saw(args) => saw(args),
    }
}

fn saw(args: &SawArgs) -> Result<ExitCode, String> {
    let sources = Sources::open(&args.at)?;
    let mut asked = Asked::new(&sources, args.shown.directory.as_deref())?;
    let mut all = Vec::new();
    if !args.owner.is_empty() {
        all.push(owners(&sources, &mut asked, &args.owner)?);
    }
    all.extend(asked.objects(&args.objects)?);
    all.extend(asked::fills(&args.fill)?);
    all.extend(asked::classes(&args.class));
    if all.is_empty() {
        return Err(
            "name what was seen: --owner, --object, --objects-file, --fill or --class".to_owned(),
        );
    }
    let question = Question {
        window: args.window,
        all,
    };
    if args.viewers {
        return viewers(&sources, &question, &args.shown);
    }
    rows(&sources, &question, asked, &args.shown)
}

/// What is a member's: what the origin called theirs, and whatever came with the same fetches, whenever these were.
fn owners(
    sources: &Sources,
    asked: &mut Asked,
    owners: &[String],
) -> Result<Vec<who::Among>, String> {
    let owner = asked.members(who::By::Owner, owners)?;
    let question = Question {
        window: Window::ALWAYS,
        all: vec![vec![owner.clone()]],
    };
    let mut fills = std::collections::BTreeSet::new();
    let mut too_many = false;
    each(sources, &question, &mut |served| {
        fills.extend(served.fill.map(|id| id.0.to_be_bytes()));
        too_many = fills.len() > FILLS_MAX;
        match too_many {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    if too_many {
        return Err(format!(
            "more than {FILLS_MAX} fetches held that data: ask for fewer owners"
        ));
    }
    Ok(vec![owner, who::Among::tags(who::By::Fill, fills)])
}

/// How many fetches are followed at most.
const FILLS_MAX: usize = 1 << 20;

/// Tells all responses that are asked for: those of the archive, then those that are not in it yet.
fn each(
    sources: &Sources,
    question: &Question,
    take: &mut dyn FnMut(Served) -> ControlFlow<()>,
) -> Result<sources::Read, String> {
    let files = sources.serves(&question.window)?;
    let mut is_over = false;
    let mut look = sources::progress(&files);
    who::rows(
        &files,
        question,
        &Settings::standard(),
        &mut look,
        &mut |served| {
            let flow = take(served);
            is_over = flow.is_break();
            flow
        },
    )
    .map_err(|fault| fault.to_string())?;
    if is_over {
        return Ok(sources::Read::default());
    }
    sources.fresh(&mut |node, archived| match archived {
        Archived::Serve(serve) if question.takes(serve) => take(Served::of(node, serve)),
        _ => ControlFlow::Continue(()),
    })
}

fn rows(
    sources: &Sources,
    question: &Question,
    mut asked: Asked,
    shown: &Shown,
) -> Result<ExitCode, String> {
    let mut out = Out::new(Form::of(shown.csv, shown.json));
    let mut summary = Summary::default();
    let mut failed = None;
    let names = asked.names(shown.tags);
    out.rows_begin();
    let read = each(sources, question, &mut |served| {
        summary.add(&served);
        match out.row(&served, names) {
            Ok(true) => ControlFlow::Continue(()),
            Ok(false) => ControlFlow::Break(()),
            Err(why) => {
                failed = Some(why);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(why) = failed {
        return Err(why);
    }
    out.end(&summary.line())?;
    Ok(status(&read, question))
}

fn viewers(sources: &Sources, question: &Question, shown: &Shown) -> Result<ExitCode, String> {
    let files = sources.serves(&question.window)?;
    let settings = Settings::standard();
    let mut look = sources::progress(&files);
    let said = |fault: who::WhoFault| fault.to_string();
    let mut found = who::viewers(&files, question, &settings, &mut look).map_err(said)?;
    let mut failed = None;
    let read = sources.fresh(&mut |_, archived| {
        if let Archived::Serve(serve) = archived
            && question.takes(serve)
            && let Err(fault) = found.add(serve.begin.viewer.map(|tag| tag.0), &settings)
        {
            failed = Some(fault);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    if let Some(fault) = failed {
        return Err(said(fault));
    }
    let Viewers {
        tags,
        responses,
        without,
    } = found;
    let mut tags: Vec<[u8; 16]> = tags.into_iter().collect();
    tags.sort_unstable();
    let mut out = Out::new(Form::of(shown.csv, shown.json));
    out.viewers(&tags)?;
    let without = match without {
        0 => String::new(),
        n => format!("; {n} more went to clients without a session's credentials"),
    };
    out.end(&format!(
        "{} viewers, {responses} responses{without}",
        tags.len()
    ))?;
    Ok(status(&read, question))
}

/// Tells what an answer lacks.
fn status(read: &sources::Read, question: &Question) -> ExitCode {
    for line in read.lacks(&question.window) {
        sources::tell(&line);
    }
    match read.is_whole(&question.window) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_WHOLE),
    }
}
