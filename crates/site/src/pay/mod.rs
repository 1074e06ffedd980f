//! Payments through a processor: what is asked of one, whoever it is.
//!
//! The store sends a member to a page of the processor's own and learns afterwards, from the processor,
//! what came of it. It never sees a card: no type here could hold one.
//!
//! Invariant: whatever moves money is asked under a key of ours, made before the asking and written into
//! the processor's books with it, so that what became of an answer that was lost can be looked up.

pub mod stripe;
pub mod trial;

use crate::asked::{Lang, Millis};
use crate::store::StoreFault;

/// How long a processor may be sure to know a key again.
pub const KEYS_LAST_MS: i64 = 24 * 3600 * 1000;

/// A payment is to be asked of a member.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Ours: the payment's id.
    pub key: &'a str,
    pub amount_yen: i64,
    /// Where the processor's page sends the member back to: an address of ours, whole.
    pub back_to: &'a str,
    pub lang: Lang,
    /// Whether the member agrees to be charged again every month.
    pub again: bool,
}

/// A payment that a member can make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The processor's name for it.
    pub reference: String,
    /// The processor's page.
    pub page: String,
}

/// Something is to be done with a payment.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub reference: &'a str,
    /// Ours: the move's id.
    pub key: &'a str,
    pub amount_yen: i64,
}

/// A member who agreed is to be charged again.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    pub mandate: &'a str,
    /// Ours: the move's id.
    pub key: &'a str,
    pub amount_yen: i64,
}

/// How far a payment is, as the processor has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The member has not paid, and still may.
    Waiting,
    Authorised,
    Captured,
    /// It never will be paid: refused, given up, or too late.
    Refused,
    Voided,
}

/// A payment, as the processor has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub reference: String,
    pub standing: Standing,
    pub captured_yen: i64,
    /// Each refund with the key under which it was asked.
    pub refunds: Vec<(String, i64)>,
    /// By what the member can be charged again; empty when they did not agree.
    pub mandate: String,
}

/// One line of the processor's own statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Booked {
    pub reference: String,
    pub what: Booking,
    pub amount_yen: i64,
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Booking {
    Capture,
    Refund,
}

/// Why there is no answer that could be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Asked again it would refuse again. The text is the processor's word for why.
    #[error("the processor refuses: {0}")]
    Refused(String),
    /// Whether it was done is not known: look, before asking again.
    #[error("no answer came from the processor: {0}")]
    Unknown(String),
}

/// What a processor of payments can do. Calls block.
pub trait Processor: Send + Sync {
    /// Opens a payment page for one payment. Nothing is charged until the member does so.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn open(&self, opening: &Opening<'_>, now: Millis) -> Result<Opened, Trouble>;

    /// What a payment has come to. `None`: the processor has no such payment.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn look(&self, reference: &str, now: Millis) -> Result<Option<Seen>, Trouble>;

    /// The payment that was charged under this key of ours, if there is one.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn charged(&self, charge: &Charge<'_>, now: Millis) -> Result<Option<Seen>, Trouble>;

    /// Charges a member who agreed, at once.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn charge(&self, charge: &Charge<'_>, now: Millis) -> Result<Seen, Trouble>;

    /// Takes what was authorised, or a part; the rest is let go.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn capture(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble>;

    /// Lets a payment go that was not captured, or a page that nobody is to pay on any more.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn void(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble>;

    /// Gives a part of what was captured back.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn refund(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble>;

    /// Every movement of money that the processor has booked, since `from`.
    ///
    /// # Errors
    /// See [`Trouble`].
    fn statement(&self, from: Millis) -> Result<Vec<Booked>, Trouble>;
}

/// A processor that keeps its books in a store of its own cannot read them.
impl From<StoreFault> for Trouble {
    fn from(fault: StoreFault) -> Self {
        Self::Unknown(fault.to_string())
    }
}
