//! `shikiri who`: who was served what, from the archive and from segments that are not archived yet.
//! `docs/who.md` says what an answer means.
//!
//! Never decides whose anything is: `shikiri_incident::whose` does. No tag is printed unless it is asked for.
//!
//! Invariant: an answer that lacks something says so, and ends with another status.

mod asked;
mod fills;
mod gaps;
mod out;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use shikiri_archive::Archived;
use shikiri_archive::who::{
    self, ArchivedFile, Looked, Question, Served, Settings, Viewers, Window,
};
use shikiri_record::{FillId, LinkEvent, MemberTag};

use asked::{Asked, Objects};
use out::{Out, Summary};
use sources::{At, NodeGap, Sources};

use crate::rows::instant;

/// `shikiri who …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Who was served something: an object, a member's data, a fetch, a class.
    Saw(SawArgs),
    /// What a viewer was served, and whose it was.
    SeenBy(SeenByArgs),
    /// Which fetches others were shown, whose they were, and how many saw them.
    Fills(FillsArgs),
    /// What no answer can say: rows that are missing, responses without rows, and what is not archived yet.
    Gaps(GapsArgs),
}

/// How an answer is printed.
#[derive(clap::Args)]
pub(crate) struct Shown {
    /// As comma-separated values, with a header line.
    #[arg(long, group = "form")]
    csv: bool,
    /// One JSON object a line.
    #[arg(long, group = "form")]
    json: bool,
    /// Into a Parquet file, which must not be there yet.
    #[arg(long, value_name = "FILE", group = "form")]
    parquet: Option<PathBuf>,
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
    #[arg(long, conflicts_with_all = ["tags", "parquet", "directory"])]
    viewers: bool,
    #[command(flatten)]
    shown: Shown,
}

/// Flags of `shikiri who seen-by`.
#[derive(clap::Args)]
#[command(
    after_help = "A session is known by its tag, as `--tags` and `shikiri evidence cat --json` print it. With --member also the sessions that came to be the member's, all that these were served.

Whose: `own`, `another's`; `somebody's`, where the origin did not say who the viewer was; `nobody's`, where it named no owner.

Examples:
  shikiri who seen-by --member 12345 --window 2020-03-16T12:24:00+09:00..2020-03-16T12:25:00+09:00
  shikiri who seen-by --viewer 5f0c2a8b6d1e4f3798a0b1c2d3e4f506 --json"
)]
pub(crate) struct SeenByArgs {
    #[command(flatten)]
    at: At,
    /// A session: its tag.
    #[arg(long, value_name = "TAG")]
    viewer: Vec<String>,
    /// A member: their id, or tag:….
    #[arg(long, value_name = "MEMBER")]
    member: Vec<String>,
    /// From when to when: A..B, either of which may be left out.
    #[arg(long, value_name = "A..B", value_parser = asked::window, default_value = "..")]
    window: Window,
    #[command(flatten)]
    shown: Shown,
}

/// Flags of `shikiri who fills`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri who fills --object https://shop.example.test/news/1
  shikiri who fills --class pages --window 2020-03-16T12:24:00+09:00..2020-03-16T12:25:00+09:00 --csv")]
pub(crate) struct FillsArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    objects: Objects,
    /// A class of the policy.
    #[arg(long, value_name = "CLASS")]
    class: Vec<String>,
    /// From when to when: A..B, either of which may be left out.
    #[arg(long, value_name = "A..B", value_parser = asked::window, default_value = "..")]
    window: Window,
    #[command(flatten)]
    shown: Shown,
}

/// Flags of `shikiri who gaps`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 when no row is missing that could tell of the window, 3 when some are, 1 when it could not be read.

Examples:
  shikiri who gaps
  shikiri who gaps --window 2020-03-16T12:24:00+09:00..2020-03-16T12:25:00+09:00 --json"
)]
pub(crate) struct GapsArgs {
    #[command(flatten)]
    at: At,
    /// From when to when: A..B, either of which may be left out.
    #[arg(long, value_name = "A..B", value_parser = asked::window, default_value = "..")]
    window: Window,
    /// As comma-separated values, with a header line.
    #[arg(long, group = "form")]
    csv: bool,
    /// One JSON object a line.
    #[arg(long, group = "form")]
    json: bool,
}

/// Something that the answer should have is missing or damaged.
const NOT_WHOLE: u8 = 3;

pub(crate) fn run(command: &Command) -> Result<ExitCode, String> {
    match command {
        Command::Saw(args) => saw(args),
        Command::SeenBy(args) => seen_by(args),
        Command::Fills(args) => fills::run(args),
        Command::Gaps(args) => gaps::run(args),
    }
}

fn saw(args: &SawArgs) -> Result<ExitCode, String> {
    let sources = Sources::open(&args.at)?;
    let mut asked = Asked::new(&sources, args.shown.directory.as_deref())?;
    let (mut all, mut fetches) = (Vec::new(), Fetches::new());
    if !args.owner.is_empty() {
        let (any, theirs) = owners(&sources, &mut asked, &args.owner)?;
        all.push(any);
        fetches = theirs;
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
    // Whose a fetch was may stand in a row of any time.
    let rows_of = match args.owner.is_empty() {
        true => args.window,
        false => Window::ALWAYS,
    };
    let lacks = Lacks::of(&sources, &asked, rows_of, args.window)?;
    if args.viewers {
        return viewers(&sources, &question, &lacks, &args.shown);
    }
    rows(&sources, &question, &lacks, asked, &fetches, &args.shown)
}

fn seen_by(args: &SeenByArgs) -> Result<ExitCode, String> {
    let sources = Sources::open(&args.at)?;
    let mut asked = Asked::new(&sources, args.shown.directory.as_deref())?;
    let mut sessions = BTreeSet::new();
    for viewer in &args.viewer {
        let wrong =
            || format!("`{viewer}` is no tag of a session: write its 32 hexadecimal digits");
        let tag = asked::digits(viewer.strip_prefix("tag:").unwrap_or(viewer));
        sessions.insert(tag.ok_or_else(wrong)?);
    }
    let mut any = Vec::new();
    if !args.member.is_empty() {
        let mut members = BTreeSet::new();
        for member in &args.member {
            members.extend(asked.member(member)?);
        }
        sources.links(&mut |link| {
            let is_theirs = link.member.is_some_and(|tag| members.contains(&tag.0));
            if is_theirs && link.event == LinkEvent::Started {
                sessions.insert(link.viewer.0);
            }
            match sessions.len() > SESSIONS_MAX {
                true => Err(format!(
                    "more than {SESSIONS_MAX} sessions were theirs: ask for fewer members"
                )),
                false => Ok(()),
            }
        })?;
        any.push(who::Among::tags(who::By::ViewerMember, members));
    }
    any.push(who::Among::tags(who::By::Viewer, sessions));
    if args.member.is_empty() && args.viewer.is_empty() {
        return Err("name who saw it: --viewer or --member".to_owned());
    }
    let question = Question {
        window: args.window,
        all: vec![any],
    };
    // When a session came to be the member's may stand in a row of any time.
    let rows_of = match args.member.is_empty() {
        true => args.window,
        false => Window::ALWAYS,
    };
    let lacks = Lacks {
        is_of_passes: true,
        ..Lacks::of(&sources, &asked, rows_of, args.window)?
    };
    rows(
        &sources,
        &question,
        &lacks,
        asked,
        &Fetches::new(),
        &args.shown,
    )
}

/// How many sessions are followed at most.
const SESSIONS_MAX: usize = 1 << 20;

/// Whose the bytes of some fetches are.
type Fetches = BTreeMap<FillId, MemberTag>;

/// What is a member's: what the origin called theirs, and whatever came with the same fetches, whenever these were.
fn owners(
    sources: &Sources,
    asked: &mut Asked,
    owners: &[String],
) -> Result<(Vec<who::Among>, Fetches), String> {
    let owner = asked.members(who::By::Owner, owners)?;
    let question = Question {
        window: Window::ALWAYS,
        all: vec![vec![owner.clone()]],
    };
    let mut fills = BTreeMap::new();
    let mut too_many = false;
    each(sources, &question, sources::progress, &mut |served| {
        if let (Some(fill), Some(owner)) = (served.fill, served.owner) {
            fills.insert(fill, owner);
        }
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
    let ids = fills.keys().map(|id| id.0.to_be_bytes());
    let any = vec![owner, who::Among::tags(who::By::Fill, ids)];
    Ok((any, fills))
}

/// How many fetches are followed at most.
const FILLS_MAX: usize = 1 << 20;

/// Tells all responses that are asked for: those of the archive, then those that are not in it yet.
fn each<L: FnMut(Looked)>(
    sources: &Sources,
    question: &Question,
    looks: impl FnOnce(&[ArchivedFile]) -> L,
    take: &mut dyn FnMut(Served) -> ControlFlow<()>,
) -> Result<sources::Read, String> {
    let files = sources.serves(&question.window)?;
    let mut is_over = false;
    let mut look = looks(&files);
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
    lacks: &Lacks,
    mut asked: Asked,
    fetches: &Fetches,
    shown: &Shown,
) -> Result<ExitCode, String> {
    let mut out = Out::new(shown)?;
    let mut summary = Summary::default();
    let (mut failed, mut is_read) = (None, true);
    let names = asked.names(shown.tags);
    out.rows_begin();
    let read = each(
        sources,
        question,
        sources::progress_beside,
        &mut |mut served| {
            // What came with a member's fetch is theirs, also where a row does not say so.
            let of_fetch = served.fill.and_then(|fill| fetches.get(&fill).copied());
            served.owner = served.owner.or(of_fetch);
            summary.add(&served);
            match out.row(&served, names) {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => {
                    is_read = false;
                    ControlFlow::Break(())
                }
                Err(why) => {
                    failed = Some(why);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    if let Some(why) = failed {
        return Err(why);
    }
    if !is_read {
        // Nobody read on: there is no sum of it, and nobody is told that it is whole.
        return Ok(ExitCode::from(NOT_WHOLE));
    }
    out.end(&summary.line())?;
    Ok(status(&read, lacks))
}

fn viewers(
    sources: &Sources,
    question: &Question,
    lacks: &Lacks,
    shown: &Shown,
) -> Result<ExitCode, String> {
    let files = sources.serves(&question.window)?;
    let settings = Settings::standard();
    let mut look = sources::progress(&files);
    let said = |fault: who::WhoFault| fault.to_string();
    let mut found = who::viewers(&files, question, &settings, &mut look).map_err(said)?;
    drop(look);
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
    let mut out = Out::new(shown)?;
    out.viewers(&tags)?;
    let without = match without {
        0 => String::new(),
        n => format!("; {n} more went to clients without a session's credentials"),
    };
    out.end(&format!(
        "{} viewers, {responses} responses{without}",
        tags.len()
    ))?;
    Ok(status(&read, lacks))
}

/// What may make an answer less than whole.
struct Lacks {
    /// Rows of this time that are missing.
    rows: Window,
    /// Tag keys that are not here, in words.
    unknown: Vec<String>,
    /// When the responses were that are asked for.
    window: Window,
    /// Passes of that time that have no rows, as far as they are archived.
    archived: Vec<NodeGap>,
    /// Whether these would be in the answer. Where it is asked who was served what somebody else was, they would not.
    is_of_passes: bool,
}

impl Lacks {
    /// Of a question about who was served what somebody else was, which takes rows of `rows` to answer.
    fn of(sources: &Sources, asked: &Asked, rows: Window, window: Window) -> Result<Self, String> {
        Ok(Self {
            unknown: asked.unknown(sources, &rows)?,
            rows,
            archived: sources.gaps(&window)?,
            window,
            is_of_passes: false,
        })
    }
}

fn without_rows((node, gap): &NodeGap) -> String {
    format!(
        "node {node}: {} passes between {} and {} have no rows and are in no answer; each was its viewer's own",
        gap.responses,
        instant(gap.from),
        instant(gap.to)
    )
}

/// Tells what an answer lacks.
fn status(read: &sources::Read, lacks: &Lacks) -> ExitCode {
    let passes = lacks.archived.iter().chain(read.gaps(&lacks.window));
    let passes: Vec<String> = passes.map(without_rows).collect();
    let missing = read.lacks(&lacks.rows);
    for line in missing.iter().chain(&lacks.unknown).chain(&passes) {
        sources::tell(line);
    }
    let has_passes = passes.is_empty() || !lacks.is_of_passes;
    match read.is_whole(&lacks.rows) && lacks.unknown.is_empty() && has_passes {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NOT_WHOLE),
    }
}
