//! Gate, then share: the origin is asked, for each request anew, whether its sender may see what is the
//! same for all who may.
//!
//! [`ask`] sends the member's own request to the gate that its class names, as a pass, and opens on a
//! 2xx alone, once that has come whole. Nothing of the answer is kept but the cookies that it sets, which
//! leave with the response.
//!
//! Never here: a look at the store, a shared fetch, a wait for another's answer.
//!
//! Invariant: no answer, one that comes too late, breaks off or is a part, and every answer that is no 2xx
//! leave the gate shut. Of questions there are no more at once than `gates_max`.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use shikiri_partition::{Gated, Hop, Opened, PinFault, Refused, RequestHead, Shut, is_yes};
use tokio::time::{Instant, timeout_at};

use crate::connection::Connection;
use crate::node::{Stance, Worker, count};
use crate::origin::{self, OriginBody, OriginFault, Passed, Response};
use crate::pin::{self, Named};
use crate::trace::{Asks, ChildSpan, Heard, Trace};

/// What a gate says beside its status is read to its end and thrown away; a page that is longer is none
/// that says yes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What a gate has opened, and the cookies that its answer sets.
pub(crate) struct Open {
    pub(crate) opened: Opened,
    pub(crate) cookies: Vec<HeaderValue>,
    /// Whom its answer names.
    pub(crate) named: Named,
}

/// Why a request goes no further.
pub(crate) enum NotOpened {
    /// It could not be asked.
    Refused(Refused),
    /// There is no answer that says anything.
    Failed(StatusCode, &'static str),
    /// The origin named somebody who does not fit.
    WrongViewer(PinFault),
    /// The origin's answer, for its member to see.
    Told(Box<Told>),
}

/// The origin's answer to the gate's question.
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: OriginBody,
    pub(crate) named: Named,
}

/// Asks the gate of a request.
pub(crate) async fn ask(
    worker: &Arc<Worker>,
    connection: &Arc<Connection>,
    (stance, head): (&Stance, RequestHead<'_>),
    (parts, hop): (&Parts, &Hop<'_>),
    gated: Gated,
    trace: Option<&Trace>,
) -> Result<Open, NotOpened> {
    let rules = &*stance.rules;
    let (node, limits) = (worker.node(), rules.limits());
    let Some(_asking) = node.admit_gate(limits) else {
        return Err(NotOpened::Refused(Refused::GatesBusy));
    };
    count(&node.counters.gates);
    let deadline = Instant::now() + limits.gate_time_max;
    let pinned = pin::watch(node, stance, &head, connection.client());
    let mut request = gated
        .ask(parts.clone(), rules, hop, node.constants())
        .map_err(NotOpened::Refused)?;
    let asks_head = gated.method() == Method::HEAD;
    let place = request.upstream().to_string();
    #[cfg(feature = "seeded-faults")]
    let question = format!("{place}{}", gated.target());
    #[cfg(feature = "seeded-faults")]
    if remembers(node, &question) {
        let opened = gated.open(StatusCode::OK);
        return Ok(Open {
            opened: opened.expect("200 opens"),
            cookies: Vec::new(),
            named: Named::default(),
        });
    }
    let span = ChildSpan::of_pass(trace, Asks::Gate, &mut request);
    let asked = async {
        let mut response = origin::pass(worker, connection, None, request, None).await?;
        if is_yes(response.status) {
            let whole = whole(&mut response).await;
            whole.map_err(|why| OriginFault::GateBroken(place.clone(), why))?;
        }
        Ok(response)
    };
    let late = || OriginFault::GateTime(place.clone(), limits.gate_time_max);
    let asked = timeout_at(deadline, asked).await;
    let answered = asked.unwrap_or_else(|_| Err(late()));
    let heard = answered.as_ref().map(|response| response.status);
    ChildSpan::heard(span, Heard::of(heard));
    let response = match answered {
        Ok(response) => response,
        Err(fault) => {
            count(&node.counters.gates_shut);
            pinned.failed(&fault);
            node.note_failure(&fault);
            return Err(NotOpened::Failed(fault.status(), fault.name()));
        }
    };
    let named = pinned
        .judge(response.status, &response.headers)
        .await
        .map_err(NotOpened::WrongViewer)?;
    // A yes to somebody else is none, where the policy does more than record.
    if let Some(fault) = named.fault.filter(|_| rules.pins().trip.is_some()) {
        count(&node.counters.gates_shut);
        return Err(NotOpened::WrongViewer(fault));
    }
    #[cfg(feature = "seeded-faults")]
    remember(node, question, response.status);
    match gated.open(response.status) {
        Ok(opened) => Ok(Open {
            opened,
            named,
            cookies: response
                .headers
                .get_all(SET_COOKIE)
                .iter()
                .cloned()
                .collect(),
        }),
        Err(shut) => {
            count(&node.counters.gates_shut);
            let (Shut::Told, Passed::Body(body)) = (shut, response.body) else {
                return Err(NotOpened::Failed(StatusCode::BAD_GATEWAY, "gate-failed"));
            };
            let mut headers = response.headers;
            if asks_head || body.is_end_stream() {
                // Its length is that of a body which does not come.
                headers.remove(CONTENT_LENGTH);
                headers.remove(TRANSFER_ENCODING);
            }
            let told = Told {
                status: response.status,
                headers,
                body,
                named,
            };
            Err(NotOpened::Told(Box::new(told)))
        }
    }
}

/// Reads an answer to its end; says why there is none.
async fn whole(response: &mut Response<Passed>) -> Result<(), String> {
    if !response.length_known {
        // A cut could not be told from an end.
        return Err("where it ends is not declared, or twice".to_owned());
    }
    let Passed::Body(body) = &mut response.body else {
        return Err("it switched protocols".to_owned());
    };
    let mut left = BODY_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|fault| fault.to_string())?;
        let read = frame.data_ref().map_or(0, bytes::Bytes::len);
        left = left
            .checked_sub(read)
            .ok_or_else(|| format!("it is larger than {BODY_BYTES_MAX} bytes"))?;
    }
    Ok(())
}

/// A planted fault: whether a gate has opened for somebody before.
#[cfg(feature = "seeded-faults")]
fn remembers(node: &crate::Node, question: &str) -> bool {
    use shikiri_partition::fault::{self, Fault};
    let opened = node.opened.lock().expect("nobody panics with it");
    fault::is(Fault::GateRemembered) && opened.contains(question)
}

#[cfg(feature = "seeded-faults")]
fn remember(node: &crate::Node, question: String, answer: StatusCode) {
    if is_yes(answer) {
        let mut opened = node.opened.lock().expect("nobody panics with it");
        opened.insert(question);
    }
}
