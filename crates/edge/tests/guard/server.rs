//! A hyper server behind the guard, over an in-memory connection, and what its client reads.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use shikiri_edge::guard::{Findings, Guarded, Turn};
use shikiri_partition::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

/// A request as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    /// `None` when reading it failed.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) trailers: usize,
}

/// What the service does besides answering.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// How long it thinks before it reads the body.
    pub(crate) thinks: Duration,
    /// Bytes of its answers' bodies.
    pub(crate) answer_bytes: usize,
    pub(crate) reads_body: bool,
}

impl Behaviour {
    pub(crate) const PLAIN: Self = Self {
        thinks: Duration::ZERO,
        answer_bytes: 2,
        reads_body: true,
    };
}

pub(crate) struct Server {
    pub(crate) client: DuplexStream,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) connection: JoinHandle<Result<(), hyper::Error>>,
}

/// Serves one connection.
pub(crate) fn serve(limits: &Limits, behaviour: Behaviour) -> Server {
    let (client, server) = duplex(4096);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let findings = Findings::new();
    let guarded = Guarded::new(server, limits, findings.clone());
    let service = {
        let seen = Arc::clone(&seen);
        service_fn(move |request| {
            let turn = findings.turn();
            answer(turn, request, Arc::clone(&seen), behaviour)
        })
    };
    let connection =
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(guarded), service));
    Server {
        client,
        seen,
        connection,
    }
}

async fn answer(
    turn: Turn,
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    behaviour: Behaviour,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Some(why) = turn.refused() {
        return Ok(refusal(why.status()));
    }
    tokio::time::sleep(behaviour.thinks).await;
    let (head, body) = request.into_parts();
    let mut noted = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        body: None,
        trailers: 0,
    };
    if behaviour.reads_body {
        match body.collect().await {
            Ok(body) => {
                noted.trailers = body.trailers().map_or(0, http::HeaderMap::len);
                noted.body = Some(body.to_bytes().to_vec());
            }
            Err(_) => {
                seen.lock().expect("no test panics here").push(noted);
                let why = turn.refused().expect("the guard says why a body fails");
                return Ok(refusal(why.status()));
            }
        }
    }
    // An answer to HEAD that declares nothing can be told from the next without knowing the method.
    let answer_bytes = if head.method == Method::HEAD {
        0
    } else {
        behaviour.answer_bytes
    };
    seen.lock().expect("no test panics here").push(noted);
    Ok(Response::new(Full::from(vec![b'x'; answer_bytes])))
}

fn refusal(status: StatusCode) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONNECTION, "close")
        .body(Full::default())
        .expect("a constant head")
}

/// The statuses of all answers, from whatever came over the connection until its end.
pub(crate) fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while !bytes.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut answer = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(head) = answer.parse(bytes).expect("an answer") else {
            panic!("half an answer: {:?}", String::from_utf8_lossy(bytes));
        };
        let length = answer
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |field| {
                String::from_utf8_lossy(field.value)
                    .parse()
                    .expect("a length")
            });
        let status = answer.code.expect("a status");
        if status >= 200 {
            statuses.push(status);
        }
        bytes = &bytes[head + length..];
    }
    statuses
}

/// What came of sending bytes and reading until the server closed.
pub(crate) struct Exchange {
    pub(crate) statuses: Vec<u16>,
    pub(crate) seen: Vec<Seen>,
}

/// Sends bytes in pieces, keeps its side open, and reads until the server closes.
pub(crate) async fn exchange(pieces: Vec<Vec<u8>>, limits: &Limits) -> Exchange {
    let Server {
        client,
        seen,
        connection,
    } = serve(limits, Behaviour::PLAIN);
    let (mut from, mut to) = tokio::io::split(client);
    let sending = tokio::spawn(async move {
        for piece in pieces {
            if to.write_all(&piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        to
    });
    let mut answers = Vec::new();
    from.read_to_end(&mut answers).await.expect("in memory");
    let to = sending.await.expect("sending");
    drop((from, to));
    // How hyper ends a connection whose body failed is its own affair.
    let _ended = connection.await.expect("no panic");
    let seen = seen.lock().expect("no test panics here").clone();
    Exchange {
        statuses: statuses(&answers),
        seen,
    }
}
