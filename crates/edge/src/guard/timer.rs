//! A deadline that moves often and is met seldom.
//!
//! Every request moves it, so moving it later costs nothing: the sleep below is left where it is,
//! and set anew when it ends too early.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    pub(super) const fn new() -> Self {
        Self { sleep: None }
    }

    /// Ready once `time` has gone by since `since`. A time too long to be counted never ends.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        since: Instant,
        time: Duration,
    ) -> Poll<()> {
        let Some(deadline) = since.checked_add(time) else {
            return Poll::Pending;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        // A sleep that has ended says so each time it is asked, until it is set anew.
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
