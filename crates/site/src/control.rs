//! Where an edge tells the store of its mode: a Unix socket that only its owner can use.
//!
//! One message a connection, ended by the sender's end of writing, and one line back: `heard`, or why
//! not. It never acts on anything but [`Rest`].

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::rest::{MESSAGE_BYTES_MAX, Rest};

/// What is answered when what was said is in force and kept.
pub const HEARD: &str = "heard";

/// Messages at once.
const MESSAGES_MAX: usize = 16;
const WITHIN: Duration = Duration::from_secs(10);

/// Opens the socket. One that a process before left behind is removed: the caller holds the folder.
///
/// # Errors
/// It cannot be made there.
pub fn open(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Listens for as long as it is polled.
pub async fn listen(listener: UnixListener, rest: Rest) {
    let messages = Arc::new(Semaphore::new(MESSAGES_MAX));
    loop {
        let permit = Arc::clone(&messages).acquire_owned();
        let permit = permit.await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let rest = rest.clone();
                tokio::spawn(async move {
                    drop(timeout(WITHIN, one(stream, rest)).await);
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no edge can be listened to");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn one(mut stream: UnixStream, rest: Rest) -> io::Result<()> {
    let mut message = Vec::new();
    let most = u64::try_from(MESSAGE_BYTES_MAX + 1).expect("it is a small number");
    (&mut stream).take(most).read_to_end(&mut message).await?;
    let was_allowed = rest.allowed().is_ok();
    let told = rest.clone();
    let heard = spawn_blocking(move || told.hear(&message)).await;
    let answer = match heard {
        Ok(Ok(())) => HEARD.to_owned(),
        Ok(Err(why)) => why.to_string(),
        Err(_) => "it broke off".to_owned(),
    };
    let is_allowed = rest.allowed().is_ok();
    if was_allowed != is_allowed {
        let now = if is_allowed {
            "go on"
        } else {
            "rest, and nothing is charged"
        };
        tracing::info!("an edge told its mode: jobs {now}");
    }
    stream.write_all(format!("{answer}\n").as_bytes()).await?;
    stream.shutdown().await
}

/// Tells the store what an edge said.
///
/// # Errors
/// Nobody listens there, or why it was not heard.
pub async fn tell(socket: &Path, message: &[u8]) -> io::Result<()> {
    let telling = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(message).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer).await?;
        match answer.trim() {
            HEARD => Ok(()),
            why => Err(io::Error::other(why.to_owned())),
        }
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the store does not answer");
    timeout(WITHIN, telling).await.map_err(|_| late())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_is_heard_or_answered_why_not() {
        let folder = std::env::temp_dir().join(format!("shikiri-control-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("told.sock");
        let rest = Rest::unkept();
        // A process before left its own behind.
        drop(UnixListener::bind(&socket).unwrap());
        let listener = open(&socket).unwrap();
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let listening = tokio::spawn(listen(listener, rest.clone()));
        let why = tell(&socket, b"hello").await.unwrap_err().to_string();
        assert!(why.contains("no JSON"), "{why}");
        assert!(rest.allowed().is_ok());
        let closed = br#"{"node":"a","mode":"closed","at_ms":1,"reopening_ms":null}"#;
        tell(&socket, closed).await.unwrap();
        assert!(rest.allowed().is_err());
        listening.abort();
        fs::remove_dir_all(&folder).unwrap();
    }
}
