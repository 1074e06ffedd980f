//! The guard between a client's socket and h2: HTTP/2 frames counted and timed.
//!
//! For: what the library leaves to others. It bounds streams, header lists, windows and what waits to be
//! taken; it has no clock, and answers every ping. So this reader looks at the heads of frames that
//! pass, and cuts off a client that
//!
//! - takes too long for the preface, for a frame's head or for a header block (`head_time_max`);
//! - sends more frames that carry nothing in a second than `h2_control_frames_max`: resets, pings, settings,
//!   priorities, empty data, headers continued with nothing, what nobody knows;
//! - sends more window updates than all that it was sent could need;
//! - takes nothing of what is written for `stall_time_max`.
//!
//! Never: changes, holds back or interprets a byte. What a frame means is the library's to say; what a
//! request says is judged behind it, as with HTTP/1.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use shikiri_partition::Limits;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::timer::Timer;

/// What a client sends first, before any frame (RFC 9113 3.4).
const PREFACE_BYTES: usize = 24;
/// Length, type, flags, stream (RFC 9113 4.1).
const HEAD_BYTES: usize = 9;

/// Window updates that are free, and bytes written that earn another. A client that gives back each of
/// the smallest frames at once, on the stream and on the connection, stays below.
const WINDOW_UPDATES_FREE: u64 = 1_000;
const BYTES_PER_WINDOW_UPDATE: u64 = 8;

/// A client's connection whose frames are counted.
#[derive(Debug)]
pub struct Framed<IO> {
    io: IO,
    scan: Scan,
    head_time_max: Duration,
    stall_time_max: Duration,
    /// Since when what has begun is not whole: the preface, a frame's head, a header block.
    unfinished: Option<Instant>,
    read_timer: Timer,
    /// Since when the client takes nothing.
    stuck: Option<Instant>,
    write_timer: Timer,
    written: u64,
}

/// Where in the sequence of frames the bytes stand, and what was counted.
#[derive(Debug)]
pub struct Scan {
    at: At,
    /// A header block goes on after this frame.
    in_block: bool,
    /// Grows with all that gets finished, but not with the parts of one header block.
    finished: u64,
    control_frames_max: u32,
    second: Option<Instant>,
    control_frames: u32,
    window_updates: u64,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of the preface are still to come.
    Preface(usize),
    /// So many bytes of a frame's head have come.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame's payload are still to come.
    Payload { left: usize, is_of_block: bool },
}

/// Why a client is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// Too many frames that carry nothing.
    #[error("the client sends too many frames that carry nothing")]
    Control,
    /// More window updates than there can be reason for.
    #[error("the client updates its windows without end")]
    WindowUpdates,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Scan {
    /// Of a connection that has sent nothing.
    #[must_use]
    pub const fn new(control_frames_max: u32) -> Self {
        Self {
            at: At::Preface(PREFACE_BYTES),
            in_block: false,
            finished: 0,
            control_frames_max,
            second: None,
            control_frames: 0,
            window_updates: 0,
        }
    }

    /// Reads on, after `written` bytes in all were sent to the client.
    ///
    /// # Errors
    /// When the client is to be cut off.
    pub fn read(&mut self, mut bytes: &[u8], written: u64, now: Instant) -> Result<(), Flood> {
        while !bytes.is_empty() {
            match &mut self.at {
                At::Preface(left) | At::Payload { left, .. } => {
                    let taken = (*left).min(bytes.len());
                    *left -= taken;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.finished += u64::from(!self.in_block);
                        self.at = At::Head([0; HEAD_BYTES], 0);
                    }
                }
                At::Head(head, have) => {
                    let taken = (HEAD_BYTES - *have).min(bytes.len());
                    head[*have..*have + taken].copy_from_slice(&bytes[..taken]);
                    *have += taken;
                    bytes = &bytes[taken..];
                    if *have == HEAD_BYTES {
                        let head = *head;
                        let length = usize::from(head[0]) << 16
                            | usize::from(head[1]) << 8
                            | usize::from(head[2]);
                        self.count(length, head[3], head[4], written, now)?;
                        let is_whole = !is_of_block(head[3]) || (length == 0 && !self.in_block);
                        self.finished += u64::from(is_whole);
                        self.at = match length {
                            0 => At::Head([0; HEAD_BYTES], 0),
                            left => At::Payload {
                                left,
                                is_of_block: is_of_block(head[3]),
                            },
                        };
                    }
                }
            }
        }
        Ok(())
    }

    fn count(
        &mut self,
        length: usize,
        kind: u8,
        flags: u8,
        written: u64,
        now: Instant,
    ) -> Result<(), Flood> {
        if is_of_block(kind) {
            self.in_block = flags & END_HEADERS == 0;
        }
        let carries = match kind {
            HEADERS => true,
            DATA => length > 0 || flags & END_STREAM != 0,
            CONTINUATION => length > 0,
            WINDOW_UPDATE => {
                self.window_updates += 1;
                let earned = written / BYTES_PER_WINDOW_UPDATE;
                return if self.window_updates <= WINDOW_UPDATES_FREE.saturating_add(earned) {
                    Ok(())
                } else {
                    Err(Flood::WindowUpdates)
                };
            }
            _ => false,
        };
        if carries {
            return Ok(());
        }
        let same_second = self
            .second
            .is_some_and(|began| now.duration_since(began) < Duration::from_secs(1));
        if !same_second {
            self.second = Some(now);
            self.control_frames = 0;
        }
        self.control_frames += 1;
        if self.control_frames > self.control_frames_max {
            return Err(Flood::Control);
        }
        Ok(())
    }

    /// Whether something has begun for which there is a time: the preface, a frame's head, a header
    /// block.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        match self.at {
            At::Preface(_) => true,
            At::Head(_, have) => have > 0 || self.in_block,
            At::Payload { is_of_block, .. } => is_of_block,
        }
    }
}

const fn is_of_block(kind: u8) -> bool {
    kind == HEADERS || kind == CONTINUATION
}

impl<IO> Framed<IO> {
    /// Guards a fresh connection.
    pub fn new(io: IO, limits: &Limits) -> Self {
        Self {
            io,
            scan: Scan::new(limits.h2_control_frames_max),
            head_time_max: limits.head_time_max,
            stall_time_max: limits.stall_time_max,
            unfinished: Some(Instant::now()),
            read_timer: Timer::new(),
            stuck: None,
            write_timer: Timer::new(),
            written: 0,
        }
    }

    fn or_stuck<T>(
        &mut self,
        cx: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stuck = None;
            return done;
        }
        let since = *self.stuck.get_or_insert_with(Instant::now);
        ready!(self.write_timer.poll(cx, since, self.stall_time_max));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client takes no more",
        )))
    }

    fn note_written(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = written {
            let count = u64::try_from(*count).expect("a length fits 64 bits");
            self.written = self.written.saturating_add(count);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Framed<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = out.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, out) {
            Poll::Ready(Ok(())) => {
                let now = Instant::now();
                let finished = this.scan.finished;
                let came = &out.filled()[start..];
                if let Err(flood) = this.scan.read(came, this.written, now) {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, flood)));
                }
                this.unfinished = match this.unfinished {
                    _ if !this.scan.is_unfinished() => None,
                    Some(since) if this.scan.finished == finished => Some(since),
                    _ => Some(now),
                };
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                if let Some(since) = this.unfinished {
                    ready!(this.read_timer.poll(cx, since, this.head_time_max));
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the client takes too long for a head",
                    )));
                }
                Poll::Pending
            }
            failed => failed,
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Framed<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.note_written(&written);
        this.or_stuck(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.note_written(&written);
        this.or_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        this.or_stuck(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.io).poll_shutdown(cx);
        this.or_stuck(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, kind: u8, flags: u8) -> Vec<u8> {
        let head = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![head[1], head[2], head[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(HEAD_BYTES + length, 0);
        bytes
    }

    /// Reads the preface and then frames, so many in a second and in pieces of every size; says when it
    /// is too much.
    #[track_caller]
    fn check(frames: &[Vec<u8>], written: u64, expected: Result<(), Flood>) {
        for piece in [1, 7, 1 << 20] {
            let mut scan = Scan::new(10);
            let now = Instant::now();
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(frames.concat());
            let read = bytes
                .chunks(piece)
                .try_for_each(|piece| scan.read(piece, written, now));
            assert_eq!(read, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn frames_that_carry_nothing_are_counted() {
        const RESET: u8 = 3;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        let times = |n: usize, one: Vec<u8>| vec![one; n];
        for kind in [2, RESET, SETTINGS, PING, 0x10, 0x2a] {
            check(&times(10, frame(8, kind, 0)), 0, Ok(()));
            check(&times(11, frame(8, kind, 0)), 0, Err(Flood::Control));
        }
        check(&times(100, frame(5, DATA, 0)), 0, Ok(()));
        check(&times(100, frame(0, DATA, END_STREAM)), 0, Ok(()));
        check(&times(11, frame(0, DATA, 0)), 0, Err(Flood::Control));
        check(
            &times(11, frame(0, CONTINUATION, 0)),
            0,
            Err(Flood::Control),
        );
        check(&times(100, frame(3, HEADERS, END_HEADERS)), 0, Ok(()));
        check(&times(1_000, frame(4, WINDOW_UPDATE, 0)), 0, Ok(()));
        check(
            &times(1_001, frame(4, WINDOW_UPDATE, 0)),
            0,
            Err(Flood::WindowUpdates),
        );
        check(&times(1_500, frame(4, WINDOW_UPDATE, 0)), 4_000, Ok(()));
    }

    #[test]
    fn another_second_begins_anew() {
        let mut scan = Scan::new(10);
        let began = Instant::now();
        scan.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, began)
            .unwrap();
        for n in 0..100 {
            let now = began + Duration::from_millis(n * 110);
            assert_eq!(scan.read(&frame(8, 6, 0), 0, now), Ok(()), "{n}");
        }
    }

    #[test]
    fn what_has_begun_is_unfinished_until_it_is_whole() {
        let mut scan = Scan::new(10);
        let now = Instant::now();
        let mut step = |bytes: &[u8], unfinished: bool| {
            scan.read(bytes, 0, now).unwrap();
            assert_eq!(scan.is_unfinished(), unfinished, "{bytes:?}");
        };
        step(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", true);
        step(b"\n", false);
        step(&frame(3, HEADERS, 0), true);
        step(&frame(3, CONTINUATION, END_HEADERS)[..10], true);
        step(&[0, 0], false);
        step(&[0], true);
        step(&[0; 8], false);
    }
}
