//! Whether origins keep what is behind a gate from whoever asks without the edge's credential, and
//! whether a gate stays shut for a stranger.
//!
//! A gate is worth what the origin makes of it: one that answers the path itself to anybody is gone
//! around, and one that says 200 to every path it does not know stands open. This is asked at each start
//! and with each change of rules, where the policy names a probe; it is told, and hinders nothing, since
//! an origin may be slow to start.

use std::sync::Arc;
use std::thread;

use http::StatusCode;
use shikiri_edge::{Chain, Config, Evidence, Node, OriginFault, RealWorld, Worker, ask_status};
use shikiri_partition::{Constants, Kept, Outbound, Rules};
use tokio::runtime::Builder;

/// A sentence about each gated class whose gate nobody can look at, since it names no probe.
pub(crate) fn unprobed(rules: &Rules) -> Vec<String> {
    let sentence = |class: &str| {
        format!(
            "the gated class `{class}` has no probe, so nobody sees whether its origin requires the credential: \
             name something that is there in its gate, `probe = \"https://shop.example.test/films/probe.mp4\"`"
        )
    };
    rules.unprobed().map(sentence).collect()
}

/// Whether what is behind a gate is kept from whoever lacks the edge's credential, and what it said
/// without.
pub(crate) async fn kept(
    worker: &Arc<Worker>,
    (bare, bearing): (Outbound, Outbound),
) -> Result<(Kept, StatusCode), OriginFault> {
    let without = ask_status(worker, bare).await?;
    let with = if without == StatusCode::NOT_FOUND {
        Some(ask_status(worker, bearing).await?)
    } else {
        None
    };
    Ok((Kept::of(without, with), without))
}

/// Asks, and tells what came of it, in the background.
pub(crate) fn probe(rules: &Rules) {
    let constants = Constants::new("shikiri-probe");
    if rules.probes(&constants).is_empty() {
        return;
    }
    let rules = rules.clone();
    let asking = thread::Builder::new()
        .name("shikiri-gates".into())
        .spawn(move || {
            if let Err(why) = ask(&rules, &constants) {
                tracing::error!(why, "the gates were not probed");
            }
        });
    if let Err(error) = asking {
        tracing::error!(%error, "the gates were not probed");
    }
}

fn ask(rules: &Rules, constants: &Constants) -> Result<(), String> {
    let worker = worker(rules.clone())?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    for (class, probe) in rules.probes(constants) {
        let probe = match probe {
            Ok(probe) => probe,
            Err(why) => {
                tracing::error!(class, why, "THE GATE WAS NOT PROBED");
                continue;
            }
        };
        match runtime.block_on(ask_status(&worker, probe.strangers)) {
            Ok(status) if status.is_success() => tracing::error!(
                class,
                status = status.as_u16(),
                "THE GATE OPENS FOR WHOEVER ASKS: a request without any credentials was let in. Does the origin know \
                 the path of the gate?"
            ),
            Ok(_) => {}
            Err(fault) => {
                let fault = Chain(&fault);
                tracing::warn!(class, %fault, "the gate could not be probed");
                continue;
            }
        }
        match runtime.block_on(kept(&worker, (probe.bare, probe.bearing))) {
            Ok((Kept::Yes, status)) => {
                tracing::info!(
                    class,
                    status = status.as_u16(),
                    "the origin requires the class's credential"
                );
            }
            Ok((Kept::Unproven, status)) => tracing::error!(
                class,
                status = status.as_u16(),
                "THE PROBE SHOWS NOTHING: the origin does not find what it names, with the credential either. Name \
                 something that is there"
            ),
            Ok((Kept::No, status)) => tracing::error!(
                class,
                status = status.as_u16(),
                "THE ORIGIN ANSWERS WITHOUT THE CLASS'S CREDENTIAL: whoever reaches it goes around the gate. Let it \
                 answer 403 unless the request bears the header that `credential` names"
            ),
            Err(fault) => {
                let fault = Chain(&fault);
                tracing::warn!(class, %fault, "the gate could not be probed");
            }
        }
    }
    Ok(())
}

/// A worker of a node that serves nobody.
pub(crate) fn worker(rules: Rules) -> Result<Arc<Worker>, String> {
    let config = Config {
        name: "shikiri-probe".into(),
        trusted: Vec::new(),
    };
    let node = Node::new(
        config,
        rules,
        Arc::new(RealWorld::new()),
        Evidence::of_nobody(),
    );
    node.origin_trust()
        .prepare(&node.stance().rules)
        .map_err(|fault| fault.to_string())?;
    Worker::new(node).map_err(|fault| fault.to_string())
}
