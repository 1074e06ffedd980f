//! Schedules and runs, for people.

use crate::http2::Came;
use crate::schedule::{Action, Schedule};
use crate::world::Seen;

/// Prints a line.
#[expect(
    clippy::print_stdout,
    reason = "this is a command, and printing is what it does"
)]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints what a schedule says.
pub(crate) fn schedule(schedule: &Schedule) {
    say(&format!(
        "seed {}: {} workers, origin pipes of {} bytes, {} % faults, {} % vetoes",
        schedule.seed,
        schedule.workers,
        schedule.origin_pipe_bytes,
        schedule.fault_percent,
        schedule.veto_percent
    ));
    for (n, policy) in schedule.policies.iter().enumerate() {
        say(&format!("--- policy {n}\n{}---", policy.text));
    }
    for outage in &schedule.outages {
        say(&format!("{outage:?}"));
    }
    let mut lines = Vec::new();
    for control in &schedule.controls {
        lines.push((control.at, format!("operator: {:?}", control.what)));
    }
    for (n, client) in schedule.clients.iter().enumerate() {
        say(&format!(
            "client {n}: {:?}, {:?}, window {}, lane {}, {:?}, worker {}, pipe of {} bytes, reads from {}",
            client.protocol,
            client.secure,
            client.window,
            client.lane,
            client.address,
            client.worker,
            client.pipe_bytes,
            client.reads_from
        ));
        for step in &client.steps {
            let what = match &step.action {
                Action::Send(r) => {
                    let body = r.body.as_ref().map(|b| {
                        format!(
                            " + {} bytes{}{}",
                            b.len(),
                            if r.chunked { " chunked" } else { "" },
                            if r.body_later { " later" } else { "" }
                        )
                    });
                    format!(
                        "{:?} request {}: {} http://{}{} {} {:?}{}",
                        r.who,
                        r.id,
                        r.method,
                        r.host,
                        r.target,
                        r.version,
                        r.fields,
                        body.unwrap_or_default()
                    )
                }
                other => format!("{other:?}"),
            };
            lines.push((step.at, format!("client {n}: {what}")));
        }
    }
    lines.sort();
    for (at, line) in lines {
        say(&format!("{at:>9} {line}"));
    }
}

/// Prints what a run showed.
pub(crate) fn seen(schedule: &Schedule, seen: &Seen, verbose: bool) {
    for asked in &seen.asked {
        say(&format!(
            "{:>9} origin connection {}: {} http://{}{} (request {:?}, secrets of {:?}) -> {} {:016x}{}{}",
            asked.at,
            asked.connection,
            asked.method,
            asked.host,
            asked.target,
            asked.request,
            asked.owners,
            asked.what,
            asked.stamp,
            if asked.forbids { ", forbids" } else { "" },
            if asked.surplus { ", surplus" } else { "" },
        ));
    }
    for (n, got) in seen.clients.iter().enumerate() {
        let lane = schedule.clients[n].lane;
        for (request, stream) in &got.streams {
            for (at, came) in &stream.came {
                say(&format!(
                    "{at:>9} client {n} (lane {lane}), request {request}: {}",
                    described(came, verbose)
                ));
            }
        }
        for (at, bytes) in &got.pieces {
            if verbose && got.streams.is_empty() {
                say(&format!(
                    "{at:>9} client {n} (lane {lane}) got:\n{}",
                    String::from_utf8_lossy(bytes)
                ));
            } else {
                say(&format!(
                    "{at:>9} client {n} (lane {lane}) got {} bytes",
                    bytes.len()
                ));
            }
        }
        let broken = got.broken.as_deref().unwrap_or_default();
        say(&format!(
            "          client {n} ended: {:?} {broken}",
            got.ended
        ));
    }
    say(&format!("{:?}", seen.counts));
}

fn described(came: &Came, verbose: bool) -> String {
    match came {
        Came::Interim(bytes) | Came::Head(bytes) | Came::Data(bytes) | Came::Trailers(bytes)
            if verbose =>
        {
            format!("\n{}", String::from_utf8_lossy(bytes))
        }
        Came::Interim(bytes) => format!("interim head of {} bytes", bytes.len()),
        Came::Head(bytes) => format!("head of {} bytes", bytes.len()),
        Came::Data(bytes) => format!("{} bytes", bytes.len()),
        Came::Trailers(bytes) => format!("trailers of {} bytes", bytes.len()),
        other => format!("{other:?}"),
    }
}
