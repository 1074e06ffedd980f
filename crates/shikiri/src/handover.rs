//! Handing over: a node that runs gives its listening sockets and its data folder to the one that
//! replaces it, and lets what still runs end (`shikiri edge --replace`; docs/adr has why).
//!
//! Both sides speak lines over a Unix socket in the data folder, one after the other:
//!
//! | the new one | the old one |
//! |---|---|
//! | `replace 1` | `fds N`, with the data folder's lock and the listening sockets |
//! | `ready`: its files are good | `yours`: it takes no connection and writes nothing any more |
//! | `prepared`: it could serve | `go`: from here on only its end brings the old one back |
//! | `serving` | (its running requests end) |
//! | | `lower MODE`: by itself, since members are served as others |
//! | `cut`: the site is closed | (they end now) |
//!
//! From `yours` on the old one shares nothing: what the new one purges or lowers holds there, too.
//!
//! Invariant: one of the two serves, never both and never neither. Until `go` the old one goes on
//! when the new one ends, is silent for too long or says anything else; after it the new one serves, and
//! when that ends before it has said so the old one goes on too. When the link breaks later, nobody could
//! tell the old one that the site is closed: what still runs on it ends at once.

use std::fs::{self, File, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use shikiri_record::Mode;
use tokio::sync::{mpsc, oneshot};

/// The name of the socket in the data folder.
pub(crate) const SOCKET: &str = "handover.sock";

/// Descriptors in one message; the kernel takes at most 253.
const FDS_MAX: usize = 64;
/// Descriptors in all.
const SOCKETS_MAX: usize = 4096;
const LINE_BYTES_MAX: usize = 64;
/// How long the new one may take to read its files.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long nobody takes connections at most: the kernel holds them meanwhile.
const PREPARED_TIME_MAX: Duration = Duration::from_secs(10);

/// What the old node must do, in this order. Each is answered when it is done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Take no connection and write nothing any more. Not answered when that cannot be done.
    Release(oneshot::Sender<()>),
    /// Go on as if nothing had been.
    Resume,
    /// Let what runs end, and end.
    Leave(Successor),
    /// End what still runs now.
    Cut,
}

/// What a node gives away.
pub(crate) struct Estate {
    pub(crate) lock: File,
    pub(crate) sockets: Vec<TcpListener>,
}

/// Offers the estate to whoever replaces this node, in a thread of its own; at most one does.
///
/// # Errors
/// The socket cannot be had.
pub(crate) fn offer(path: &Path, estate: Estate) -> io::Result<mpsc::Receiver<Step>> {
    // Only this node writes in the data folder: what is there was left behind.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    let (steps, taken) = mpsc::channel(4);
    let estate = Arc::new(estate);
    thread::Builder::new()
        .name("shikiri-handover".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                match hand_over(&stream, &estate, &steps) {
                    Ok(()) => return,
                    Err(error) => {
                        tracing::warn!(%error, "a replacement did not come about: this node goes on");
                    }
                }
            }
        })?;
    Ok(taken)
}

/// The old one's side. An error: it goes on.
fn hand_over(stream: &UnixStream, estate: &Estate, steps: &mpsc::Sender<Step>) -> io::Result<()> {
    let gone = |_| io::Error::other("this node is ending");
    is_ours(stream)?;
    stream.set_read_timeout(Some(READY_TIME_MAX))?;
    expect(stream, "replace 1")?;
    let mut fds = vec![estate.lock.as_fd()];
    fds.extend(estate.sockets.iter().map(AsFd::as_fd));
    for part in fds.chunks(FDS_MAX) {
        send_fds(stream, part)?;
        expect(stream, "ok")?;
    }
    say(stream, "all")?;
    expect(stream, "ready")?;
    tracing::info!("this node is being replaced");
    let (done, released) = oneshot::channel();
    steps.blocking_send(Step::Release(done)).map_err(gone)?;
    let prepared = || {
        released
            .blocking_recv()
            .map_err(|_| io::Error::other("not all is on this node's timeline, or it is ending"))?;
        stream.set_read_timeout(Some(PREPARED_TIME_MAX))?;
        say(stream, "yours")?;
        expect(stream, "prepared")?;
        stream.set_read_timeout(None)?;
        say(stream, "go")?;
        expect(stream, "serving")
    };
    if let Err(error) = prepared() {
        steps.blocking_send(Step::Resume).map_err(gone)?;
        return Err(error);
    }
    tracing::info!("this node is replaced: running requests may end");
    let successor = Successor(stream.try_clone()?);
    steps.blocking_send(Step::Leave(successor)).map_err(gone)?;
    match hear(stream) {
        Ok(line) if line == "cut" => tracing::info!("the site is closed: what still runs is cut"),
        Ok(_) | Err(_) => {
            tracing::warn!("the node that replaces this one is gone: what still runs is cut");
        }
    }
    // It may have ended meanwhile.
    drop(steps.blocking_send(Step::Cut));
    Ok(())
}

/// What leads to the node that has taken this one's place.
#[derive(Debug)]
pub(crate) struct Successor(UnixStream);

impl Successor {
    /// Tells it of a mode that this node has lowered to by itself.
    pub(crate) fn lowered(&self, mode: Mode) {
        // It may have ended, and then whoever comes next finds out for itself.
        drop(say(&self.0, &format!("{LOWER}{mode}")));
    }
}

const LOWER: &str = "lower ";

/// The node that ran before this one, while it hands over.
pub(crate) struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Asks the node that runs to hand over. `None`: none runs.
    ///
    /// # Errors
    /// One runs and does not hand over.
    pub(crate) fn ask(path: &Path) -> Result<Option<(Self, Estate)>, String> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(refused(&error)),
        };
        let before = Self { stream };
        let estate = before.receive().map_err(|error| refused(&error))?;
        Ok(Some((before, estate)))
    }

    fn receive(&self) -> io::Result<Estate> {
        let stream = &self.stream;
        is_ours(stream)?;
        stream.set_read_timeout(Some(PREPARED_TIME_MAX))?;
        say(stream, "replace 1")?;
        let mut fds = Vec::new();
        while receive_fds(stream, &mut fds)? {
            if fds.len() > SOCKETS_MAX {
                return Err(io::Error::other("it gave more sockets than there can be"));
            }
            say(stream, "ok")?;
        }
        let mut fds = fds.into_iter();
        let lock = fds
            .next()
            .ok_or_else(|| io::Error::other("it gave nothing"))?;
        Ok(Estate {
            lock: lock.into(),
            sockets: fds.map(TcpListener::from).collect(),
        })
    }

    /// This node's files are good: the other takes no connection and writes nothing from here on.
    ///
    /// # Errors
    /// The other does not agree; it goes on.
    pub(crate) fn take(&self) -> Result<(), String> {
        let done = say(&self.stream, "ready").and_then(|()| expect(&self.stream, "yours"));
        done.map_err(|error| refused(&error))
    }

    /// This node could serve: from here on it does.
    ///
    /// # Errors
    /// The other has lost patience and goes on.
    pub(crate) fn go(&self) -> Result<(), String> {
        let done = say(&self.stream, "prepared").and_then(|()| expect(&self.stream, "go"));
        done.map_err(|error| refused(&error))
    }

    /// This node serves; the other lets what still runs end. The link is kept: the other must be told
    /// when the site is closed.
    pub(crate) fn serving(self) -> Link {
        // It may take its time to end.
        drop(self.stream.set_read_timeout(None));
        if let Err(error) = say(&self.stream, "serving") {
            tracing::warn!(%error, "the node before has ended already");
        }
        Link(self.stream)
    }
}

fn refused(error: &io::Error) -> String {
    format!("the node that runs does not hand over: {error}; it goes on")
}

/// What leads to the node before, for as long as that has requests that run.
#[derive(Debug)]
pub(crate) struct Link(UnixStream);

impl Link {
    /// Tells it that the site is closed.
    pub(crate) fn cut(&self) {
        // It may have ended, and then nothing runs on it.
        drop(say(&self.0, "cut"));
    }

    /// Hears each mode that it lowers to by itself, and returns when nothing runs on it any more.
    pub(crate) fn hear(&self, mut lowered: impl FnMut(Mode)) {
        while let Ok(line) = hear(&self.0) {
            let mode = line.strip_prefix(LOWER).map(str::parse);
            if let Some(Ok(mode)) = mode {
                lowered(mode);
            }
        }
    }
}

/// Whether the other end is a process of our own user, or of root.
fn is_ours(stream: &UnixStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let peer = rustix::net::sockopt::socket_peercred(stream)?;
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            return Err(io::Error::other("it is another user's"));
        }
    }
    #[cfg(not(target_os = "linux"))]
    // The folder and the socket are their owner's alone.
    let _: &UnixStream = stream;
    Ok(())
}

fn say(mut stream: &UnixStream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\n").as_bytes())
}

fn hear(mut stream: &UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < LINE_BYTES_MAX {
        stream.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.extend(byte);
    }
    Err(io::Error::other("it says too much"))
}

fn expect(stream: &UnixStream, what: &str) -> io::Result<()> {
    let said = hear(stream)?;
    if said == what {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "it says `{said}` instead of `{what}`"
        )))
    }
}

/// A line that says how many, and they with it.
fn send_fds(stream: &UnixStream, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = format!("fds {}\n", fds.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(
        control.push(SendAncillaryMessage::ScmRights(fds)),
        "there is space for FDS_MAX"
    );
    let sent = sendmsg(
        stream,
        &[IoSlice::new(line.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent == line.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Receives one message of descriptors; `false` after the last.
fn receive_fds(stream: &UnixStream, into: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut line = [0; LINE_BYTES_MAX];
    // Nothing else is said before we answer, so that one message is one line.
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut line)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let before = into.len();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            into.extend(fds);
        }
    }
    let line = line.get(..received.bytes).unwrap_or_default();
    let count = into.len() - before;
    if line == format!("fds {count}\n").as_bytes() && count > 0 {
        Ok(true)
    } else if line == b"all\n" {
        Ok(false)
    } else {
        Err(io::Error::other("it does not say what it gives"))
    }
}
