//! What a node takes from outside: connections to origins, the time, randomness.
//!
//! Behind a trait, so that the simulator can run this very crate in a world of its own. Timers are
//! tokio's, which a simulator can stop and turn.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shikiri_record::UnixMillis;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection's bytes.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// The world around a node.
pub trait World: Send + Sync + 'static {
    /// Connects to an origin: a host name or address, and a port.
    fn connect(&self, host: &str, port: u16) -> Connecting;

    /// The time.
    fn now(&self) -> UnixMillis;

    /// A number that nobody can guess.
    fn random(&self) -> u64;

    /// How far the wall clock has moved away from the time that [`World::now`] tells, when it has
    /// jumped; [`World::now`] follows it from then on.
    fn clock_jump(&self) -> Option<Duration>;
}

/// The real one.
///
/// Time runs with the monotonic clock from an anchor on the wall clock, so that no object grows
/// younger when somebody sets the clock back.
#[derive(Debug)]
pub struct RealWorld {
    started: Instant,
    anchor_ms: AtomicU64,
}

/// A wall clock further away than this has jumped; less is drift, and is followed silently.
const JUMP_MIN: Duration = Duration::from_secs(2);

impl RealWorld {
    /// Anchors time on the wall clock.
    #[must_use]
    pub fn new() -> Self {
        let started = Instant::now();
        Self {
            started,
            anchor_ms: AtomicU64::new(wall_ms()),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for RealWorld {
    fn default() -> Self {
        Self::new()
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl World for RealWorld {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let host = host.to_owned();
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(
            self.anchor_ms
                .load(Ordering::Relaxed)
                .saturating_add(self.elapsed_ms()),
        )
    }

    fn random(&self) -> u64 {
        // The standard library seeds every `RandomState` from the operating system.
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(self.elapsed_ms())
    }

    fn clock_jump(&self) -> Option<Duration> {
        let wall = wall_ms();
        let away = Duration::from_millis(wall.abs_diff(self.now().0));
        self.anchor_ms
            .store(wall.saturating_sub(self.elapsed_ms()), Ordering::Relaxed);
        (away > JUMP_MIN).then_some(away)
    }
}
