//! Gate, then share: the origin is asked, for each request anew, whether its sender may see what is the
//! same for all who may.
//!
//! [`ask`] sends the member's own request to the gate that its class names, as a pass, and opens on a
//! 2xx alone. Nothing of the answer is kept but the cookies that it sets, which leave with the response.
//!
//! Never here: a look at the store, a shared fetch, a wait for another's answer.
//!
//! Invariant: no answer, an answer that failed, and every answer that is no 2xx leave the gate shut.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body;
use shikiri_partition::{Gated, Hop, Opened, PinFault, Refused, RequestHead, Rules, Shut};

use crate::connection::Connection;
use crate::node::{Worker, count};
use crate::origin::{self, OriginBody};
use crate::pin::{self, Named};

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
    (rules, head): (&Rules, RequestHead<'_>),
    (parts, hop): (&Parts, &Hop<'_>),
    gated: Gated,
) -> Result<Open, NotOpened> {
    let node = worker.node();
    count(&node.counters.gates);
    let pinned = pin::watch(node, rules, &head, connection.client());
    let request = gated
        .ask(parts.clone(), rules, hop, node.constants())
        .map_err(NotOpened::Refused)?;
    let asks_head = gated.method() == Method::HEAD;
    let response = match origin::pass(worker, connection, None, request, None).await {
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
            let (Shut::Told, origin::Passed::Body(body)) = (shut, response.body) else {
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
