//! A client that speaks HTTP/2: it sends what a schedule says when it says it, several requests at
//! once, and notes what comes on each stream and when.
//!
//! Never: pushes back for a reason of its own. What it takes, and when, the schedule says.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinSet;

use crate::schedule::{Action, Client, Request, rendered};
use crate::secret::Secrets;
use crate::wire::Response;
use crate::world::{Clock, Got};

/// What came on one stream, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) came: Vec<(u64, Came)>,
}

/// Something that came on a stream. Heads are written as on HTTP/1, so that one reader reads both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Interim(Vec<u8>),
    Head(Vec<u8>),
    Data(Vec<u8>),
    Trailers(Vec<u8>),
    /// The end that the sender said.
    End,
    /// The edge gave the stream up (RFC 9113 6.4).
    Reset(Reason),
    /// The connection went, and the stream with it.
    Gone,
    /// What our own library takes for no HTTP/2.
    Malformed(String),
}

impl Stream {
    /// The response, as far as it came.
    ///
    /// # Errors
    /// What is no HTTP/2.
    pub(crate) fn response(&self) -> Result<Option<Response>, String> {
        let mut response: Option<Response> = None;
        for (_, came) in &self.came {
            match came {
                Came::Interim(_) | Came::Reset(_) | Came::Gone => {}
                Came::Head(head) => {
                    response = Some(Response {
                        head: head.clone(),
                        body: Vec::new(),
                        data: 0,
                        starts: 0,
                        whole: false,
                    });
                }
                Came::Data(bytes) | Came::Trailers(bytes) => {
                    let response = response.as_mut().ok_or("a body without a head")?;
                    response.body.extend_from_slice(bytes);
                    if matches!(came, Came::Data(_)) {
                        response.data += bytes.len();
                    }
                }
                Came::End => response.as_mut().ok_or("an end without a head")?.whole = true,
                Came::Malformed(why) => return Err(why.clone()),
            }
        }
        Ok(response)
    }

    /// Whether nothing more can come.
    pub(crate) fn has_ended(&self) -> bool {
        let last = self.came.last();
        last.is_some_and(|(_, came)| matches!(came, Came::End | Came::Reset(_) | Came::Gone))
    }

    fn note(&mut self, now: u64, came: Came) {
        if let (Some((at, Came::Data(had))), Came::Data(more)) = (self.came.last_mut(), &came)
            && *at == now
        {
            had.extend_from_slice(more);
            return;
        }
        self.came.push((now, came));
    }
}

/// Where a client notes what it gets.
#[derive(Clone)]
pub(crate) struct Notes {
    pub(crate) clock: Clock,
    pub(crate) got: Arc<Mutex<Got>>,
}

impl Notes {
    fn note(&self, write: impl FnOnce(&mut Got, u64)) {
        let mut got = self.got.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut got, self.clock.now());
    }

    fn came(&self, request: u32, came: Came) {
        self.note(|got, now| got.streams.entry(request).or_default().note(now, came));
    }
}

/// A client: does what its steps say when they say it.
pub(crate) async fn acting<IO>(io: IO, client: &Client, secrets: Secrets, notes: Notes)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Some(first) = client.steps.first() else {
        return;
    };
    notes.clock.sleep_until(first.at).await;
    let tap = Tap::new(io, notes.clone(), client.reads_from);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // Answers may lie, in however small frames they come.
        .data_frame_budget(usize::MAX)
        .initial_window_size(client.window)
        .initial_connection_window_size(client.window.max(65_535));
    let Ok((sender, connection)) = builder.handshake(tap).await else {
        return;
    };
    let mut writer = Writer {
        sender: Some(sender),
        sending: BTreeMap::new(),
        following: JoinSet::new(),
        notes: notes.clone(),
        secrets,
        client: client.clone(),
    };
    let writing = async {
        for step in &client.steps {
            notes.clock.sleep_until(step.at).await;
            match &step.action {
                Action::Send(request) => writer.send(request).await,
                Action::Body { of, who, text, .. } => {
                    let text = rendered(text, *who, secrets);
                    if let Some(stream) = writer.sending.get_mut(of) {
                        // A stream that the edge has ended takes no more; its reader sees that.
                        drop(stream.send_data(text.into(), true));
                    }
                }
                Action::Reset(of) => {
                    if let Some(stream) = writer.sending.get_mut(of) {
                        stream.send_reset(Reason::CANCEL);
                    }
                }
                Action::HalfClose => writer.sender = None,
                Action::Abort => return,
            }
        }
        std::future::pending::<()>().await;
    };
    let driving = async {
        if let Err(error) = connection.await {
            let wrong = error.reason().filter(|why| *why != Reason::NO_ERROR);
            notes.note(|got, _| got.broken = wrong.map(|why| format!("{why}")));
        }
    };
    tokio::select! {
        biased;
        () = driving => {}
        () = writing => return,
    }
    // What was still open learns of the end before it is noted.
    while writer.following.join_next().await.is_some() {}
    notes.note(|got, now| got.ended = Some(now));
}

struct Writer {
    sender: Option<SendRequest<Bytes>>,
    sending: BTreeMap<u32, SendStream<Bytes>>,
    following: JoinSet<()>,
    notes: Notes,
    secrets: Secrets,
    client: Client,
}

impl Writer {
    async fn send(&mut self, request: &Request) {
        let id = request.id;
        let Some(sender) = &mut self.sender else {
            return;
        };
        if std::future::poll_fn(|cx| sender.poll_ready(cx))
            .await
            .is_err()
        {
            self.notes.came(id, Came::Gone);
            return;
        }
        let sent = sender.send_request(
            head(&self.client, request, self.secrets),
            request.body.is_none(),
        );
        let (response, mut stream) = match sent {
            Ok(sent) => sent,
            Err(error) => {
                self.notes.came(id, gone(&error));
                return;
            }
        };
        if let Some(text) = request.body.as_ref().filter(|_| !request.body_later) {
            let text = rendered(text, request.who, self.secrets);
            drop(stream.send_data(text.into(), true));
        }
        self.sending.insert(id, stream);
        let (notes, takes_from) = (self.notes.clone(), request.takes_from);
        self.following.spawn(async move {
            if let Err(error) = follow(id, response, takes_from, &notes).await {
                notes.came(id, gone(&error));
            }
        });
    }
}

/// Why nothing more comes on a stream.
fn gone(error: &h2::Error) -> Came {
    match error.reason() {
        Some(reason) if error.is_reset() && error.is_remote() => Came::Reset(reason),
        _ if error.is_library() => Came::Malformed(error.to_string()),
        _ => Came::Gone,
    }
}

async fn follow(
    id: u32,
    mut response: ResponseFuture,
    takes_from: u64,
    notes: &Notes,
) -> Result<(), h2::Error> {
    let mut body = loop {
        let next = std::future::poll_fn(|cx| {
            if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                return Poll::Ready(interim.map(Err));
            }
            Pin::new(&mut response).poll(cx).map(|head| head.map(Ok))
        });
        match next.await? {
            Err(interim) => {
                let head = as_on_http1(interim.status(), interim.headers());
                notes.came(id, Came::Interim(head));
            }
            Ok(response) => {
                let head = as_on_http1(response.status(), response.headers());
                notes.came(id, Came::Head(head));
                break response.into_body();
            }
        }
    };
    notes.clock.sleep_until(takes_from).await;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        if !data.is_empty() {
            notes.came(id, Came::Data(data.to_vec()));
        }
    }
    if let Some(trailers) = body.trailers().await? {
        notes.came(id, Came::Trailers(fields(&trailers)));
    }
    notes.came(id, Came::End);
    Ok(())
}

/// A request without its body.
fn head(client: &Client, request: &Request, secrets: Secrets) -> http::Request<()> {
    let scheme = if client.secure.is_some() {
        "https"
    } else {
        "http"
    };
    let uri = format!("{scheme}://{}{}", request.host, request.target);
    let mut head = http::Request::builder()
        .method(request.method)
        .uri(rendered(&uri, request.who, secrets));
    for (name, value) in &request.fields {
        // It speaks of a connection that is not there (RFC 9113 8.2.2).
        if *name == "Connection" {
            continue;
        }
        let value = rendered(value, request.who, secrets);
        // Cookies travel in crumbs, as browsers send them (RFC 9113 8.2.3).
        let crumbs = value.split("; ").filter(|_| *name == "Cookie");
        for crumb in crumbs {
            head = head.header(*name, crumb);
        }
        if *name != "Cookie" {
            head = head.header(*name, value);
        }
    }
    if let Some(body) = request.body.as_ref().filter(|_| !request.chunked) {
        let length = rendered(body, request.who, secrets).len();
        head = head.header("Content-Length", length);
    }
    head.body(()).expect("a schedule's requests are requests")
}

fn as_on_http1(status: http::StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("HTTP/2 {}\r\n", status.as_u16()).into_bytes();
    head.extend(fields(headers));
    head.extend_from_slice(b"\r\n");
    head
}

fn fields(headers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, value) in headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// A connection whose bytes are noted as they come, and not read before their time.
struct Tap<IO> {
    io: IO,
    notes: Notes,
    begins: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<IO> Tap<IO> {
    fn new(io: IO, notes: Notes, reads_from: u64) -> Self {
        let clock = notes.clock.clone();
        Self {
            io,
            notes,
            begins: Some(Box::pin(async move { clock.sleep_until(reads_from).await })),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tap<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(begins) = &mut this.begins {
            std::task::ready!(begins.as_mut().poll(cx));
            this.begins = None;
        }
        let before = out.filled().len();
        std::task::ready!(Pin::new(&mut this.io).poll_read(cx, out))?;
        let came = &out.filled()[before..];
        if !came.is_empty() {
            this.notes.note(|got, now| got.read(now, came));
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tap<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
