//! Buying: carts, checkouts, payments, orders, what is sent and what is cancelled.
//!
//! A checkout is frozen from the cart, and becomes the order of the same id once it is paid for. What is
//! asked of the processor is written down before it is asked ([`moves`]), under an id that follows from
//! what it is for; an answer that was lost is looked up and never asked for blindly again.
//!
//! Invariant: sent twice, a form has one effect. A line's price is its points part and its card part, and
//! each is given back once, when the line is cancelled, in the transaction that cancels it.

mod cancel;
mod cart;
mod checkout;
mod jobs;
mod membership;
mod moves;
mod notices;
mod reconcile;
mod settle;
mod shipping;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use cancel::{Cancelled, NotCancelled};
pub use cart::{Cart, InCart};
pub use checkout::{NotPlaced, Placed, Placing};
pub use jobs::Done;
pub use membership::{Membership, MembershipState};
pub use notices::{
    BankAccount, Choice, IMPORT_BYTES_MAX, Imported, NotAnswered, NotImported, Notice, Question,
};
pub use reconcile::{Difference, NotCompared};
pub use settle::{Payment, PaymentState};
pub use shipping::{NotShipped, Shipment};

use crate::asked::Millis;
use crate::member::{MemberId, fresh_id};
use crate::pay::Processor;
use crate::store::{Database, Sql, StoreFault, Value};

/// What the store does with goods and money.
pub struct Trade {
    database: Database,
    processor: Arc<dyn Processor>,
    /// Where members reach the store: `https://host`, without a slash at the end.
    url: String,
    secret: [u8; 32],
}

impl Trade {
    /// # Errors
    /// The store fails.
    pub(crate) fn new(
        database: Database,
        processor: Arc<dyn Processor>,
        url: &str,
    ) -> Result<Self, StoreFault> {
        let secret = database.write(|sql| secret(sql, "links"))?;
        Ok(Self {
            database,
            processor,
            url: url.trim_end_matches('/').to_owned(),
            secret,
        })
    }

    /// A signature of ours over some words.
    fn signed(&self, of: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        for part in of {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Whether a signature is ours. Compared in constant time.
    fn is_signed(&self, of: &[&str], signature: &str) -> bool {
        let ours =
            blake3::Hash::from_hex(self.signed(of)).expect("a digest of ours is hexadecimal");
        blake3::Hash::from_hex(signature).is_ok_and(|it| it == ours)
    }
}

impl fmt::Debug for Trade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trade(…)")
    }
}

/// A secret of this store, made when it is first asked for.
pub(crate) fn secret(sql: &mut dyn Sql, name: &str) -> Result<[u8; 32], StoreFault> {
    let fresh = blake3::hash(format!("{}{}{}", fresh_id(), fresh_id(), fresh_id()).as_bytes());
    let text = "INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    sql.run(
        text,
        &[name.into(), Value::from(&fresh.to_hex().to_string())],
    )?;
    let found = sql.rows("SELECT value FROM secrets WHERE name = $1", &[name.into()])?;
    let mut row = found
        .into_iter()
        .next()
        .ok_or(StoreFault::OurRow("a secret that was just made"))?;
    let held = blake3::Hash::from_hex(row.text()?)
        .map_err(|_| StoreFault::OurRow("a secret that is none"))?;
    Ok(*held.as_bytes())
}

/// A mail that is to go out, once.
pub(crate) fn mail(
    sql: &mut dyn Sql,
    id: &str,
    member: &MemberId,
    [subject, body]: [&str; 2],
    now: Millis,
) -> Result<(), StoreFault> {
    let text = "INSERT INTO outbox (id, member, subject, body, written_ms, state) \
                VALUES ($1, $2, $3, $4, $5, 'planned') ON CONFLICT (id) DO NOTHING";
    sql.run(
        text,
        &[
            id.into(),
            member.text().into(),
            subject.into(),
            body.into(),
            now.0.into(),
        ],
    )
    .map(drop)
}
