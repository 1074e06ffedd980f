//! `shikiri archive`: sealed evidence becomes Parquet files, in a folder or in object storage.
//! `docs/archive.md` says how it is kept whole.
//!
//! Never decides what a file holds: `shikiri_archive` does. Invariant: it can be killed at any moment,
//! and the next run goes on where it was.

use std::fs;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use shikiri_archive::keeper::{self, Keeper, KeeperSettings, Outstanding, Progress, Segments};
use shikiri_archive::{ArchivePlace, Folder, Manifest};
use shikiri_evidence::note::Signer;
use shikiri_record::UnixMillis;

use crate::config::{ArchiveSection, ConfigFile};
use crate::s3::S3;
use crate::seal::{self, SIGNING_KEY, SigningKey};
use crate::{now, say, settings};

/// `shikiri archive …`
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Archive what is sealed, or go on doing so.
    Run(RunArgs),
    /// Say what is archived, and what is not yet.
    Status(StatusArgs),
    /// Look whether everything that was archived is there and as it was written.
    Verify(VerifyArgs),
}

/// Which node's.
#[derive(clap::Args)]
pub(crate) struct At {
    /// The data folder of the edge, running or not.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The config file of the edge: it says where that is, and its `[archive]` where the files go.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the files go: a folder, or s3://BUCKET/PREFIX. `archive` in the data folder otherwise.
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,
}

/// Flags of `shikiri archive run`.
#[derive(clap::Args)]
#[command(
    after_help = "It can be stopped at any moment, also by kill -9: the next run goes on with the same \
batch.

Exit status: 0 when all that is sealed is archived, 3 when it is but places of it are damaged or missing \
(`shikiri archive status` names them), 1 when it could not be.

Examples:
  shikiri archive run --dry-run
      What would be archived, and where to.
  shikiri archive run --config /etc/shikiri/edge.toml --follow
      Beside the edge, as a service.
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… shikiri archive run --to s3://evidence/shop"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    at: At,
    /// Say what would be done, and do nothing.
    #[arg(long, conflicts_with = "follow")]
    dry_run: bool,
    /// Go on with what is sealed later, until it is stopped.
    #[arg(short, long)]
    follow: bool,
    /// Let the node remove segments once they are archived and read back, but for the last of each lane.
    #[arg(long)]
    drop_segments: bool,
}

/// Flags of `shikiri archive status`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri archive status
  shikiri archive status --data /var/lib/shikiri --json")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    at: At,
    /// A JSON object.
    #[arg(long)]
    json: bool,
}

/// Flags of `shikiri archive verify`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 when all is as it was written, 1 otherwise.

Examples:
  shikiri archive verify
      Every file is there, with the bytes that were written.
  shikiri archive verify --rows --from /mnt/copy/archive --key edge-1.key
      Also its rows are those of the segments; of a copy, without the data folder, and signed by the node."
)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    at: At,
    /// A copy of an archive, with its `manifests` folder: nothing else is needed.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "config", "to"])]
    from: Option<PathBuf>,
    /// Read all rows again, too, and compare them with what the segments held.
    #[arg(long)]
    rows: bool,
    /// A public key that counts, as `shikiri evidence key` prints it, or a file with such: then a manifest that none of
    /// them has signed is found. May be given several times. The key in the data folder when not given.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
}

/// Damage was found, and all that could be archived is.
const DAMAGED: u8 = 3;

/// How often `--follow` looks.
const LOOK: Duration = Duration::from_secs(5);

/// How long it waits after something did not work.
const AGAIN: Duration = Duration::from_secs(30);

pub(crate) fn run(command: &Command) -> Result<ExitCode, String> {
    match command {
        Command::Run(args) => archive(args),
        Command::Status(args) => status(args),
        Command::Verify(args) => verify(args),
    }
}

/// Where everything is, by flags and file.
pub(crate) struct Places {
    pub(crate) data: PathBuf,
    pub(crate) lanes: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) to: Box<dyn ArchivePlace>,
    section: ArchiveSection,
    /// Whether a config file says anything of the archive: then it is no single run by hand.
    is_configured: bool,
}

impl At {
    pub(crate) const fn new(
        data: Option<PathBuf>,
        config: Option<PathBuf>,
        to: Option<String>,
    ) -> Self {
        Self { data, config, to }
    }

    pub(crate) fn places(&self) -> Result<Places, String> {
        let (data, _) = settings::places_of(self.data.as_deref(), self.config.as_deref())?;
        let config = self.config.as_deref().map(ConfigFile::read).transpose()?;
        let named = |path: &Path| match &config {
            Some(config) => config.path(path),
            None => path.to_owned(),
        };
        let section = config.as_ref().map(|config| config.archive.clone());
        let section = section.unwrap_or_default();
        let is_configured = section != ArchiveSection::default();
        // What a flag names is relative to here, what the file names to the file.
        let to: Box<dyn ArchivePlace> = match (&self.to, &section.to) {
            (Some(to), _) | (None, Some(to)) if to.starts_with("s3://") => {
                let credentials = section.credentials.as_deref().map(named);
                Box::new(S3::open(to, &section, credentials.as_deref())?)
            }
            (Some(to), _) if to.contains("://") => return Err(no_place(to)),
            (Some(to), _) => Box::new(Folder(to.into())),
            (None, Some(to)) if to.contains("://") => return Err(no_place(to)),
            (None, Some(to)) => Box::new(Folder(named(Path::new(to)))),
            (None, None) => Box::new(Folder(data.join("archive"))),
        };
        Ok(Places {
            lanes: data.join("evidence"),
            state: data.join("archive-state"),
            data,
            to,
            section,
            is_configured,
        })
    }
}

fn no_place(to: &str) -> String {
    format!("`{to}` is no place for an archive: write a folder, or s3://BUCKET/PREFIX")
}

impl Places {
    fn settings(&self) -> KeeperSettings {
        let mut settings = KeeperSettings::STANDARD;
        if let Some(rows) = self.section.batch_rows {
            settings.batch_rows = rows.get();
        }
        settings
    }

    fn every(&self) -> Duration {
        const HOUR: Duration = Duration::from_secs(60 * 60);
        self.section.every.as_ref().map_or(HOUR, |every| every.0.0)
    }

    /// What is sealed and not archived. A folder that is not there is told, and is no empty one.
    fn outstanding(&self) -> Result<(Option<Manifest>, Outstanding), String> {
        if !self.lanes.is_dir() {
            return Err(format!(
                "there is no evidence in {}: name the data folder with --data",
                self.lanes.display()
            ));
        }
        let said = |fault: keeper::KeeperFault| fault.to_string();
        let last = keeper::last(&self.state).map_err(said)?;
        let outstanding = keeper::outstanding(&self.lanes, last.as_ref()).map_err(said)?;
        Ok((last, outstanding))
    }
}

fn archive(args: &RunArgs) -> Result<ExitCode, String> {
    let places = args.at.places()?;
    let (_, outstanding) = places.outstanding()?;
    if args.dry_run {
        return dry_run(&places, &outstanding);
    }
    let segments = Segments {
        go: args.drop_segments || places.section.drop_segments.unwrap_or(false),
        // Who tries it once, by hand, should not fill a disk by it for ever.
        hold: args.follow || places.is_configured,
    };
    let key = SigningKey::read(&places.data.join(SIGNING_KEY))?;
    let open = || {
        let keeper = Keeper::open(&places.lanes, &places.state, &*places.to, places.settings());
        let keeper = keeper.map_err(|fault| fault.to_string())?;
        Ok::<_, String>(match &key {
            Some(key) => keeper.signed_by(key),
            None => keeper,
        })
    };
    if !args.follow {
        let damaged = all(&mut open()?, segments)?;
        return Ok(if damaged {
            ExitCode::from(DAMAGED)
        } else {
            ExitCode::SUCCESS
        });
    }
    tell(&format!(
        "following {}, to {}",
        places.lanes.display(),
        places.to.shown()
    ));
    let mut keeper = open()?;
    keeper
        .tell_node(segments)
        .map_err(|fault| fault.to_string())?;
    loop {
        let pause = match due(&places, &keeper).and_then(|due| {
            if due {
                all(&mut keeper, segments).map(drop)?;
            }
            Ok(())
        }) {
            Ok(()) => LOOK,
            Err(why) => {
                tell(&format!(
                    "{why}; nothing is lost, and it is tried again in {} s",
                    AGAIN.as_secs()
                ));
                AGAIN
            }
        };
        std::thread::sleep(pause);
    }
}

/// Whether it is time for a batch: enough is sealed for one, or the oldest has waited for long enough.
fn due(places: &Places, keeper: &Keeper<'_>) -> Result<bool, String> {
    let outstanding = keeper.outstanding().map_err(|fault| fault.to_string())?;
    let waited = outstanding.oldest.map(|oldest| now().since(oldest));
    Ok(outstanding.rows >= places.settings().batch_rows
        || waited.is_some_and(|waited| waited >= places.every()))
}

/// Makes batches until nothing is left. Says whether something was damaged.
fn all(keeper: &mut Keeper<'_>, segments: Segments) -> Result<bool, String> {
    let mut damaged = false;
    let mut batches = 0;
    let said = |fault: keeper::KeeperFault| fault.to_string();
    // First, too: what a batch takes should not be removed under its hands, and a lane may be new.
    keeper.tell_node(segments).map_err(said)?;
    while let Some(done) = keeper.batch(&mut progress).map_err(said)? {
        batches += 1;
        for fault in &done.faults {
            tell(&format!("damaged: {fault}"));
        }
        damaged |= !done.faults.is_empty();
    }
    if batches == 0 {
        tell("nothing is sealed that is not archived");
    }
    keeper.tell_node(segments).map_err(said)?;
    Ok(damaged)
}

fn progress(progress: &Progress<'_>) {
    match progress {
        Progress::Begins(plan) => {
            let segments: u64 = plan.lanes.iter().map(|lane| lane.to - lane.from + 1).sum();
            tell(&format!(
                "batch {}: {segments} segments of {} lanes",
                plan.number,
                plan.lanes.len()
            ));
        }
        Progress::Read(rows) => tell(&format!("  {rows} rows read")),
        Progress::Put(file) => tell(&format!(
            "  {}: {} rows, {} bytes",
            file.name, file.rows, file.bytes
        )),
        Progress::Done(manifest) => tell(&format!(
            "batch {}: {} rows, {} bytes of segments, {} bytes of files; {} rows wait for their ends",
            manifest.number,
            manifest.took.rows,
            manifest.segment_bytes,
            manifest.bytes(),
            manifest.waits.rows
        )),
    }
}

fn tell(text: &str) {
    // Where even standard error is closed there is nobody to tell.
    drop(writeln!(std::io::stderr(), "shikiri: {text}"));
}

fn dry_run(places: &Places, outstanding: &Outstanding) -> Result<ExitCode, String> {
    let said = |fault: keeper::KeeperFault| fault.to_string();
    let last = keeper::last(&places.state).map_err(said)?;
    let unfinished = keeper::unfinished(&places.state, last.as_ref()).map_err(said)?;
    let mut text = format!(
        "would archive {} segments with {} rows, {} bytes, of {}\nto {}\n",
        outstanding.segments,
        outstanding.rows,
        outstanding.bytes,
        places.lanes.display(),
        places.to.shown()
    );
    if let Some(plan) = unfinished {
        text.push_str(&format!(
            "beginning with batch {}, which was begun\n",
            plan.number
        ));
    }
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn status(args: &StatusArgs) -> Result<ExitCode, String> {
    let places = args.at.places()?;
    let said = |fault: keeper::KeeperFault| fault.to_string();
    let (_, outstanding) = places.outstanding()?;
    let manifests = keeper::manifests(&places.state).map_err(said)?;
    let last = manifests.last();
    let unfinished = keeper::unfinished(&places.state, last).map_err(said)?;
    let sum = |of: fn(&Manifest) -> u64| manifests.iter().map(of).sum::<u64>();
    let (rows, files) = (sum(|it| it.took.rows), sum(|it| it.files.len() as u64));
    let (bytes, segment_bytes) = (sum(Manifest::bytes), sum(|it| it.segment_bytes));
    let faults: Vec<&String> = manifests.iter().flat_map(|it| &it.faults).collect();
    let waits = last.map_or(0, |last| last.waits.rows);
    if args.json {
        let text = json!({
            "to": places.to.shown(),
            "batches": manifests.len(),
            "rows": rows,
            "files": files,
            "bytes": bytes,
            "segment_bytes": segment_bytes,
            "waiting_rows": waits,
            "unfinished_batch": unfinished.map(|plan| plan.number),
            "outstanding": {
                "segments": outstanding.segments,
                "rows": outstanding.rows,
                "bytes": outstanding.bytes,
                "oldest_sealed_ms": outstanding.oldest.map(|at| at.0),
            },
            "damaged": faults,
        });
        say(&format!("{text}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "archive {}\nbatches {}\nrows {rows}\nfiles {files}\nbytes {bytes} (of segments {segment_bytes})\n\
         rows that wait for their ends {waits}\n",
        places.to.shown(),
        manifests.len(),
    );
    if let Some(plan) = unfinished {
        text.push_str(&format!(
            "unfinished: batch {}; run it again\n",
            plan.number
        ));
    }
    text.push_str(&format!(
        "not archived: {} segments, {} rows, {} bytes{}\n",
        outstanding.segments,
        outstanding.rows,
        outstanding.bytes,
        outstanding
            .oldest
            .map_or_else(String::new, |at| format!(", sealed since {}", instant(at)))
    ));
    for fault in faults {
        text.push_str(&format!("damaged: {fault}\n"));
    }
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn verify(args: &VerifyArgs) -> Result<ExitCode, String> {
    let said = |fault: keeper::KeeperFault| fault.to_string();
    let mut keys = crate::verify::named_keys(&args.key)?;
    let (manifests, place): (Vec<Manifest>, Box<dyn ArchivePlace>) = match &args.from {
        Some(folder) => (copied(folder)?, Box::new(Folder(folder.clone()))),
        None => {
            let places = args.at.places()?;
            if args.key.is_empty() {
                let key = SigningKey::read(&places.data.join(SIGNING_KEY))?;
                keys.extend(key.map(|key| key.key().clone()));
            }
            (keeper::manifests(&places.state).map_err(said)?, places.to)
        }
    };
    if manifests.is_empty() {
        return Err(
            "there are no manifests: nothing was archived, or this is no archive".to_owned(),
        );
    }
    let temporary = Temporary::new()?;
    let (mut files, mut rows) = (0_u64, 0_u64);
    let total: usize = manifests.iter().map(|manifest| manifest.files.len()).sum();
    let wrong = keeper::verify(
        &manifests,
        &*place,
        args.rows.then_some(temporary.0.as_path()),
        &mut |file| {
            files += 1;
            rows += file.holds.rows;
            tell(&format!("{files} of {total}: {}", file.name));
        },
    );
    let mut wrong = wrong.map_err(said)?;
    let mut signatures = "; no key was named, and no signature looked at".to_owned();
    if !keys.is_empty() {
        let signed = keeper::signed(&manifests, &*place, &keys, seal::check);
        wrong.extend(signed.wrong);
        signatures = match signed.not.len() {
            0 => "; all manifests are signed".to_owned(),
            // Who names a key wants to know of all of them; else they may be older than the key.
            n if args.key.is_empty() => format!("; {n} manifests are not signed"),
            n => {
                wrong.extend(signed.not);
                format!("; {n} manifests are not signed")
            }
        };
    }
    let faults = manifests.iter().flat_map(|it| &it.faults);
    for fault in faults {
        tell(&format!("damaged before it was archived: {fault}"));
    }
    for it in &wrong {
        tell(&format!("{}: {}", it.name, it.why));
    }
    if wrong.is_empty() {
        let what = if args.rows { "rows and bytes" } else { "bytes" };
        say(&format!(
            "{} batches, {files} files, {rows} rows: {what} are as they were written{signatures}\n",
            manifests.len()
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    Err(format!(
        "{} things are not as they were written",
        wrong.len()
    ))
}

/// A folder of ours alone, gone when this is.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, String> {
        let name = format!("shikiri-verify-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The manifests of a copy, in their order.
pub(crate) fn copied(folder: &Path) -> Result<Vec<Manifest>, String> {
    let folder = folder.join("manifests");
    let fault =
        |path: &Path, why: &dyn std::fmt::Display| format!("cannot read {}: {why}", path.display());
    let mut found = Vec::new();
    for node in fs::read_dir(&folder).map_err(|error| fault(&folder, &error))? {
        let node = node.map_err(|error| fault(&folder, &error))?.path();
        for file in fs::read_dir(&node).map_err(|error| fault(&node, &error))? {
            let path = file.map_err(|error| fault(&node, &error))?.path();
            if path.extension().is_some_and(|it| it == "json") {
                let text = fs::read(&path).map_err(|error| fault(&path, &error))?;
                found.push(Manifest::read(&text).map_err(|why| fault(&path, &why))?);
            }
        }
    }
    found.sort_by(|a, b| (&a.node, a.number).cmp(&(&b.node, b.number)));
    Ok(found)
}

pub(crate) fn instant(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok();
    match at.and_then(|at| Timestamp::from_millisecond(at).ok()) {
        Some(at) => format!("{at:.0}"),
        None => "(no time)".to_owned(),
    }
}
