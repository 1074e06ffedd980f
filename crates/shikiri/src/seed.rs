//! `shikiri site seed`: a plausible store of any size, whose members are nobody.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use shikiri_site::store::{DEMO_PASSWORD, NotSeeded, Seeded, Seeding, Store, seed, seed_dry};

use crate::database::Database;
use crate::say;
use crate::store::Folder;

/// Of the notice's store: so many members, and so many of them with delivery data.
const NOTICE: [u64; 2] = [68_898, 564];

#[derive(clap::Args)]
#[command(
    after_help = "Names are words of the printer's trade, addresses lie in prefectures that there are not, mail goes to
example.test: all of it is nobody's. The same seed makes the same rows. They are written in one transaction: all
are there, or none. Orders are of four kinds and paid for elsewhere: no processor has them in its books, nobody
is charged again. None of the members has a password, unless --can-log-in gives all of them the demo members'.

Examples:
  shikiri site seed --data shop --members 68898 --delivery 564
      As large as the store of the notice.
  shikiri site seed --data shop --members 500 --seed 2 --can-log-in
      Five hundred more, of another seed; each can log in with the demo members' password.
  shikiri site seed --data shop --members 68898 --dry-run
      Says what would be made, and makes nothing."
)]
pub(crate) struct Args {
    /// The data folder of the store. Made when it is not there; no store may be serving from it.
    #[arg(long, value_name = "DIR", default_value = "shikiri-site")]
    data: PathBuf,
    #[command(flatten)]
    database: Database,
    /// How many members: up to a million.
    #[arg(long, value_name = "N")]
    members: u32,
    /// How many of them have delivery data, and so may have bought discs: as many in a thousand as in the
    /// notice when not given.
    #[arg(long, value_name = "N")]
    delivery: Option<u32>,
    /// Which store: the same seed makes the same rows.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Give every member the password of the demo members, which is known to everybody.
    #[arg(long)]
    can_log_in: bool,
    /// Also where there are members whose mail is not of `example.test`: real ones, by the look of them.
    #[arg(long)]
    beside_members: bool,
    /// Say what would be made, and make nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), String> {
    let what = Seeding {
        members: args.members,
        delivery: args
            .delivery
            .unwrap_or_else(|| as_in_the_notice(args.members)),
        seed: args.seed,
        can_log_in: args.can_log_in,
        beside_members: args.beside_members,
    };
    if args.dry_run {
        let store = match args.database.open_existing(&args.data) {
            Ok(store) => store,
            Err(_) if !args.data.exists() => Store::in_memory().map_err(words)?,
            Err(why) => return Err(why),
        };
        let seeded = seed_dry(&store, &what).map_err(refused)?;
        return say(&told(&seeded, "would be made"));
    }
    let _folder = Folder::open(&args.data)?;
    let store = args.database.open(&args.data)?;
    let begun = Instant::now();
    let mut next = 0;
    let seeded = seed(&store, &what, |done| {
        if u64::from(done) * 20 >= next * u64::from(what.members) {
            next = u64::from(done) * 20 / u64::from(what.members) + 1;
            eprintln!("{done} of {} members", what.members);
        }
    });
    let seeded = seeded.map_err(refused)?;
    let took = format!("made in {:.1} s", begun.elapsed().as_secs_f64());
    say(&told(&seeded, &took))?;
    if what.can_log_in {
        let first = "each logs in with their mail address";
        return say(&format!("{first} and the password {DEMO_PASSWORD}\n"));
    }
    Ok(())
}

fn as_in_the_notice(members: u32) -> u32 {
    let [all, with] = NOTICE;
    let delivery = (u64::from(members) * with + all / 2) / all;
    u32::try_from(delivery).unwrap_or(members)
}

fn told(seeded: &Seeded, how: &str) -> String {
    let mut text = String::new();
    for (name, rows) in [
        ("members", seeded.members),
        ("with delivery data", seeded.deliveries),
        ("orders", seeded.orders),
        ("lines of orders", seeded.lines),
        ("memberships", seeded.memberships),
        ("viewings", seeded.viewings),
        ("reviews", seeded.reviews),
        ("entries of points", seeded.points),
    ] {
        writeln!(text, "{name:<20} {rows:>9}").expect("a string can be written to");
    }
    writeln!(text, "{how}").expect("a string can be written to");
    text
}

fn refused(why: NotSeeded) -> String {
    match why {
        NotSeeded::RealMembers(_) => {
            format!("{why}: use another store, or say --beside-members if that is meant")
        }
        NotSeeded::SeedIsThere => format!("{why}: give another --seed for more of them"),
        _ => words(why),
    }
}

fn words(why: impl std::fmt::Display) -> String {
    why.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_data_is_as_frequent_as_in_the_notice() {
        for (members, delivery) in [(68_898, 564), (0, 0), (1000, 8), (60, 0), (1_000_000, 8186)] {
            assert_eq!(as_in_the_notice(members), delivery, "{members}");
        }
    }
}
