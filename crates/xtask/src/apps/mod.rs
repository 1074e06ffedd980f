//! `cargo xtask apps`: Django's admin, which nobody here wrote, behind the real edge with the
//! built-in policy. Two members and a visitor browse at once.
//!
//! Never tells the edge anything about Django, nor Django anything about the edge.
//!
//! Invariant: every answer goes through [`Witness::saw`], which knows what belongs to whom, and the
//! run fails unless something public *was* shared: an edge that shares nothing leaks nothing either.

pub(crate) mod browser;
mod django;
mod visits;
mod witness;

use std::fs;
use std::path::Path;
use std::sync::Barrier;

use crate::edge::Edge;
use crate::process::{Doing, Failure, root};
use django::Django;
use visits::{Visit, crowd_round, first_walk};
use witness::{Viewer, Witness};

/// # Errors
/// Somebody saw what is not theirs, nothing was shared, or a page was not what it must be.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    if !arguments.is_empty() {
        return Err(Failure::new("apps takes no arguments"));
    }
    let folder = root().join("target/apps");
    let django = Django::start(&folder)?;
    let edge = Edge::start(django.address)?;
    let witness = Witness::new();
    let visit = |viewer| Visit::new(viewer, edge.address, &witness);

    let walk = first_walk(&mut Viewer::ALL.map(visit));
    let crowd = walk.and_then(|walk| Ok((walk, browse_at_once(&mut Viewer::ALL.map(visit))?)));
    // What was seen outranks a page that was missing: a leak is often both.
    let report = witness.verdict()?;
    let (walk, ()) = crowd?;
    django.sent_each_static_file_once()?;

    let transcript = transcript(&walk, &report);
    let path = folder.join("transcript.txt");
    fs::write(&path, &transcript).doing("writing the transcript")?;
    print!("{transcript}");
    println!("\napps: the transcript is in {}", shown(&path));
    Ok(())
}

/// Every round begins for all three at the same moment, so that the same pages are asked for while
/// others' answers are under way.
fn browse_at_once(visits: &mut [Visit<'_>]) -> Result<(), Failure> {
    let start = Barrier::new(visits.len());
    let browse = &|visit: &mut Visit<'_>| {
        let mut outcome = Ok(());
        for round in 0..ROUNDS {
            // One who has failed still comes to the barrier: the others wait for all.
            start.wait();
            if outcome.is_ok() {
                outcome = crowd_round(visit, round);
            }
        }
        outcome
    };
    std::thread::scope(|scope| {
        let go = |visit| scope.spawn(move || browse(visit));
        let threads: Vec<_> = visits.iter_mut().map(go).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Failure::new("a visit panicked")))
        })
    })
}

fn transcript(walk: &str, report: &str) -> String {
    format!(
        "$ python3 manage.py runserver 127.0.0.1:8000\n\
         $ shikiri edge --origin http://127.0.0.1:8000 --trust 127.0.0.1\n\
         listening on http://127.0.0.1:8080\n\n\
         {walk}\n\
         Then all three at once, {ROUNDS} rounds:\n\n{report}"
    )
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

const ROUNDS: usize = 50;
