//! Faults planted on purpose. Only in builds with the `seeded-faults` feature, which the `shikiri`
//! binary refuses: the tests turn one on and must find it.

use std::cell::Cell;

use shikiri_record::{ClassDigest, Digest, Epoch, Mode};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The requester's cookie travels with the shared fetch.
    CookieInSharedFetch,
    /// Waiters get a response that was not admitted.
    WaiterGetsUnadmitted,
    /// Shared fetches and passes use one pool of connections, open to all.
    PoolsMixed,
    /// The class's digest and the epoch are left out of the key.
    OldDigestServed,
    /// `Set-Cookie` does not keep a response from being stored, and is stored with it.
    SetCookieStored,
    /// A clock that jumps purges nothing.
    JumpIgnored,
    /// Mode `pass` shares what `open` does.
    PassShares,
    /// A closing lets run what runs.
    ClosingCutsNothing,
    /// What origins label their answers with is not looked at.
    LabelsIgnored,
    /// A hit leaves no row of evidence.
    NoRow,
    /// Bytes leave before their row is written.
    RowLate,
    /// A gate opens whatever the origin says.
    GateOpens,
    /// A gate's yes is remembered, and opens for whoever asks next.
    GateRemembered,
    /// Slices of two versions are joined: no condition is sent with them, and no entity tag looked at.
    SlicesJoined,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::CookieInSharedFetch,
        Self::WaiterGetsUnadmitted,
        Self::PoolsMixed,
        Self::OldDigestServed,
        Self::SetCookieStored,
        Self::JumpIgnored,
        Self::PassShares,
        Self::ClosingCutsNothing,
        Self::LabelsIgnored,
        Self::NoRow,
        Self::RowLate,
        Self::GateOpens,
        Self::GateRemembered,
        Self::SlicesJoined,
    ];
}

thread_local! {
    static ON: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Turns a fault on, or all off, for this thread.
pub fn set(fault: Option<Fault>) {
    ON.set(fault);
}

/// Whether this fault is on in this thread.
#[must_use]
pub fn is(fault: Fault) -> bool {
    ON.get() == Some(fault)
}

/// The mode that a fault takes for the one in force.
#[must_use]
pub fn mode(mode: Mode) -> Mode {
    if is(Fault::PassShares) && mode == Mode::Pass {
        Mode::Open
    } else {
        mode
    }
}

pub(crate) fn old_digest(class: ClassDigest, epoch: Epoch) -> (ClassDigest, Epoch) {
    if is(Fault::OldDigestServed) {
        (ClassDigest(Digest::of(b"")), Epoch(0))
    } else {
        (class, epoch)
    }
}
