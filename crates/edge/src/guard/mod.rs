//! The guard between a client's socket and what reads it: strict HTTP/1 request framing, and counted
//! HTTP/2 frames ([`Framed`]).
//!
//! For: refusing, on the bytes themselves, every request that two readers could frame in two ways.
//! Hyper mends much of what it reads (bare LF, equal lengths twice, a length beside a coding, two
//! `Host` lines), and behind it nobody can tell. So a second, strict reader goes first.
//!
//! [`Guarded`] passes sound bytes on unchanged and refuses the rest:
//!
//! - A bad head is noted in [`Findings`] under its request's number, and hyper is fed a harmless
//!   stand-in, so that the service answers with the right status after all earlier answers.
//! - A bad body fails the read of that body.
//! - After either, no byte of the client reaches hyper again: nobody knows where a next request
//!   would begin (RFC 9112 6.3).
//!
//! - What follows a request that may switch protocols is held until the origin has answered it: after a
//!   101 it passes unread, else it is read as the next request.
//!
//! Never: changes a byte that it passes, decides who is served, or holds back a sound request.
//!
//! Invariant: what hyper reads is a sequence of requests that frame themselves in one way only, and
//! of which this reader knows the same ends as hyper does.

mod body;
mod findings;
mod frames;
mod head;
mod reader;
mod timer;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use shikiri_partition::{Limits, Refused};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use findings::Decided;
pub use findings::{Findings, Turn};
pub use frames::{Flood, Framed, Scan};
pub(crate) use head::refusal_of_parsed;
use reader::{Awaits, Reader, Step};
use timer::Timer;

/// What hyper reads in place of a refused head. It closes, so hyper asks for nothing after it.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: refused.invalid\r\nConnection: close\r\n\r\n";

/// How long a closing connection reads on what its client is still sending. A socket closed with
/// unread bytes is reset, and the reset can overtake the answer (RFC 9112 9.6).
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Memory kept for the next split head when one has been handed on.
const HELD_BYTES_KEPT_MAX: usize = 16 << 10;

/// The bounds that the guard enforces.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    head_bytes_max: usize,
    head_fields_max: usize,
    target_bytes_max: usize,
    request_body_bytes_max: u64,
    head_time_max: Duration,
    idle_time_max: Duration,
    stall_time_max: Duration,
}

impl Bounds {
    const fn of(limits: &Limits) -> Self {
        Self {
            head_bytes_max: limits.head_bytes_max,
            head_fields_max: limits.head_fields_max,
            target_bytes_max: limits.target_bytes_max,
            request_body_bytes_max: limits.request_body_bytes_max,
            head_time_max: limits.head_time_max,
            idle_time_max: limits.idle_time_max,
            stall_time_max: limits.stall_time_max,
        }
    }
}

/// A client's connection whose requests have been checked.
///
/// Wrap it for hyper, and give the service the same [`Findings`]. Needs a runtime with time.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    findings: Arc<Findings>,
    bounds: Bounds,
    reader: Reader,
    /// Bytes that hyper has not been given. Empty for requests that arrive in one piece.
    held: Vec<u8>,
    /// How many of `held` have been handed on.
    handed: usize,
    /// How many of `held` may be handed on. What is after them is not yet a whole unit.
    passed: usize,
    ended: Option<Ended>,
    /// What the client is being waited for, and since when.
    waiting: Option<(Awaits, Instant)>,
    read_timer: Timer,
    /// What the client does not let be done, and since when.
    writing: Option<(Effort, Instant)>,
    write_timer: Timer,
    lingering_since: Option<Instant>,
    /// The client has left HTTP: bytes pass as they come.
    is_transparent: bool,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// The client ended, or was idle for too long.
    Eof,
    /// A head was refused; the stand-in is all that follows.
    Refused,
    /// A body was refused, or ended early.
    Broken(io::ErrorKind, &'static str),
}

/// What is done on the write side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    Write,
    Flush,
    Shutdown,
}

impl<IO> Guarded<IO> {
    /// Guards a fresh connection.
    pub fn new(io: IO, limits: &Limits, findings: Arc<Findings>) -> Self {
        Self {
            io,
            findings,
            bounds: Bounds::of(limits),
            reader: Reader::new(),
            held: Vec::new(),
            handed: 0,
            passed: 0,
            ended: None,
            waiting: None,
            read_timer: Timer::new(),
            writing: None,
            write_timer: Timer::new(),
            lingering_since: None,
            is_transparent: false,
        }
    }

    /// The connection itself.
    pub const fn inner(&self) -> &IO {
        &self.io
    }

    /// Gives out what may be handed on. Returns whether there was anything.
    fn hand_on(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let ready = &self.held[self.handed..self.passed];
        if ready.is_empty() {
            return false;
        }
        let count = ready.len().min(out.remaining());
        out.put_slice(&ready[..count]);
        self.handed += count;
        if self.handed == self.held.len() {
            self.forget_held();
        }
        true
    }

    fn forget_held(&mut self) {
        self.handed = 0;
        self.passed = 0;
        self.held.clear();
        self.held.shrink_to(HELD_BYTES_KEPT_MAX);
    }

    /// Checks bytes that were read straight into hyper's buffer. Returns how many of them stay
    /// there, and how many after those are to be left out; all others are to be held.
    fn check_in_place(&mut self, bytes: &[u8]) -> (usize, usize) {
        let mut passed = 0;
        while passed < bytes.len() {
            match self.reader.step(&bytes[passed..], &self.bounds) {
                Step::Pass(count) => passed += count,
                Step::Drop(count) => return (passed, count),
                // The same step comes again when the rest is held.
                Step::More | Step::Refused(_) | Step::Broken(_) => break,
            }
        }
        (passed, 0)
    }

    /// Checks what is held.
    fn check_held(&mut self) {
        while self.passed < self.held.len() {
            match self.reader.step(&self.held[self.passed..], &self.bounds) {
                Step::Pass(count) => self.passed += count,
                Step::Drop(count) => {
                    self.held.drain(self.passed..self.passed + count);
                }
                Step::More => return,
                Step::Refused(why) => return self.refuse_head(why),
                Step::Broken(why) => {
                    return self.break_body(
                        why,
                        io::ErrorKind::InvalidData,
                        "the body is malformed",
                    );
                }
            }
        }
        if self.handed == self.held.len() {
            self.forget_held();
        }
    }

    /// Nothing of the head is kept; the stand-in comes after what was sound.
    fn refuse_head(&mut self, why: Refused) {
        self.findings.refuse(self.reader.heads(), why);
        self.held.truncate(self.passed);
        self.held.extend_from_slice(STAND_IN);
        self.passed = self.held.len();
        self.ended = Some(Ended::Refused);
    }

    fn break_body(&mut self, why: Refused, kind: io::ErrorKind, what: &'static str) {
        let number = self.reader.heads().saturating_sub(1);
        self.findings.refuse(number, why);
        self.held.truncate(self.passed);
        self.ended = Some(Ended::Broken(kind, what));
    }

    fn end_of_input(&mut self) {
        match self.reader.awaits() {
            // A head that was not finished asks for nothing.
            Awaits::Request | Awaits::Head => {
                self.held.truncate(self.passed);
                self.ended = Some(Ended::Eof);
            }
            Awaits::Body => self.break_body(
                Refused::MalformedChunk,
                io::ErrorKind::UnexpectedEof,
                "the body ended early",
            ),
        }
    }

    /// Whether the client has been waited for too long. Ends the connection then.
    fn lost_patience(&mut self, cx: &mut Context<'_>) -> bool {
        let awaits = self.reader.awaits();
        let time_max = match awaits {
            Awaits::Request => self.bounds.idle_time_max,
            Awaits::Head => self.bounds.head_time_max,
            Awaits::Body => self.bounds.stall_time_max,
        };
        // A client may be silent for as long as it is being answered. The clock goes on all the
        // same, since nobody may ask again when the answer is done.
        let is_answered = self.findings.has_answered(self.reader.heads());
        let since = match self.waiting {
            Some((Awaits::Request, _)) if !is_answered => Instant::now(),
            Some((before, since)) if before == awaits => since,
            _ => Instant::now(),
        };
        self.waiting = Some((awaits, since));
        if self.read_timer.poll(cx, since, time_max).is_pending() {
            return false;
        }
        match awaits {
            Awaits::Request => self.ended = Some(Ended::Eof),
            Awaits::Head => self.refuse_head(Refused::TooSlow),
            Awaits::Body => {
                self.break_body(
                    Refused::TooSlow,
                    io::ErrorKind::TimedOut,
                    "the body stalled",
                );
            }
        }
        true
    }

    /// Fails a write, flush or shutdown that has made no progress for too long.
    fn or_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        effort: Effort,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            // A flush with nothing to flush says nothing of a write that waits.
            if matches!(self.writing, Some((waits, _)) if waits == effort) {
                self.writing = None;
            }
            // A client that takes its answer is not idle.
            if effort == Effort::Write && self.reader.awaits() == Awaits::Request {
                self.waiting = Some((Awaits::Request, Instant::now()));
            }
            return done;
        }
        let &mut (_, since) = self.writing.get_or_insert_with(|| (effort, Instant::now()));
        ready!(self.write_timer.poll(cx, since, self.bounds.stall_time_max));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes no more",
        )))
    }
}

impl<IO: AsyncRead + Unpin> Guarded<IO> {
    /// Reads once. Bytes that may be handed on are left in `out`, all others in `held`.
    fn poll_more(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let came = out.filled().len() - start;
        if came == 0 {
            self.end_of_input();
            return Poll::Ready(Ok(()));
        }
        let (awaited, heads) = (self.reader.awaits(), self.reader.heads());
        // The usual way: whole requests, checked where hyper wants them.
        let (stays, left_out) = if self.held.is_empty() {
            self.check_in_place(&out.filled()[start..])
        } else {
            (0, 0)
        };
        self.held
            .extend_from_slice(&out.filled()[start + stays + left_out..]);
        out.set_filled(start + stays);
        self.check_held();
        // The clock of a head runs from its first byte to its last; the others wait for any byte.
        let same_head = awaited == Awaits::Head
            && self.reader.awaits() == Awaits::Head
            && self.reader.heads() == heads;
        if !same_head {
            self.waiting = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and forgets until the client ends too, or for a short while.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.lingering_since.get_or_insert_with(Instant::now);
        let mut scrap = [0_u8; 4096];
        loop {
            if self.read_timer.poll(cx, since, LINGER_TIME_MAX).is_ready() {
                return Poll::Ready(());
            }
            let mut scrap = ReadBuf::new(&mut scrap);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut scrap));
            if read.is_err() || scrap.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        loop {
            if this.hand_on(out) {
                return Poll::Ready(Ok(()));
            }
            if this.is_transparent {
                return Pin::new(&mut this.io).poll_read(cx, out);
            }
            if this.ended.is_none() && this.reader.is_undecided() {
                match ready!(this.findings.decided(this.reader.heads(), cx)) {
                    Decided::Switched => {
                        this.is_transparent = true;
                        this.passed = this.held.len();
                    }
                    Decided::Answered => {
                        this.reader.goes_on();
                        this.check_held();
                    }
                }
                continue;
            }
            match this.ended {
                None => {}
                Some(Ended::Eof) => return Poll::Ready(Ok(())),
                // Hyper drops a running answer when its client ends; the refusal's own answer is
                // still to be written, and its end closes the connection.
                Some(Ended::Refused) if !this.findings.has_answered(this.reader.heads() + 1) => {
                    return Poll::Pending;
                }
                Some(Ended::Refused) => return Poll::Ready(Ok(())),
                Some(Ended::Broken(kind, what)) => {
                    return Poll::Ready(Err(io::Error::new(kind, what)));
                }
            }
            match this.poll_more(cx, out) {
                Poll::Ready(Ok(())) if out.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.lost_patience(cx) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.or_stalled(cx, Effort::Write, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.or_stalled(cx, Effort::Write, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.or_stalled(cx, Effort::Flush, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering_since.is_none() {
            let shut = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.or_stalled(cx, Effort::Shutdown, shut))?;
        }
        // Only a client that is cut off in the middle of something may still be sending.
        let cut_off = match this.ended {
            None => this.reader.awaits() != Awaits::Request,
            Some(Ended::Refused | Ended::Broken(io::ErrorKind::InvalidData, _)) => true,
            Some(Ended::Eof | Ended::Broken(..)) => false,
        };
        if cut_off {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
