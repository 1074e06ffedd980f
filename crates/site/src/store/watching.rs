//! Who may watch what, and what was watched when.

use super::{Desk, StoreFault, Value};
use crate::asked::Millis;
use crate::member::{MemberId, Owned};

impl Desk {
    /// The titles of a product, Japanese and English.
    ///
    /// # Errors
    /// The store fails.
    pub fn titles(&self, product: &str) -> Result<Option<[String; 2]>, StoreFault> {
        let text = "SELECT title_ja, title_en FROM products WHERE id = $1";
        let rows = self
            .database
            .read(|sql| sql.rows(text, &[product.into()]))?;
        let mut rows = rows.into_iter();
        let one = |mut row: super::Row| Ok([row.text()?, row.text()?]);
        rows.next().map(one).transpose()
    }

    /// Whether a member may watch or keep a product: they bought it, or they are a monthly member and it
    /// is there to stream.
    ///
    /// # Errors
    /// The store fails.
    pub fn may_watch(&self, member: &MemberId, product: &str) -> Result<Owned<bool>, StoreFault> {
        let text = "SELECT 1 FROM products p JOIN members m ON m.id = $1 WHERE p.id = $2 AND ( \
                    (p.kind = 'stream' AND m.status = 'monthly') OR (p.kind IN ('stream', 'download') AND \
                    EXISTS (SELECT 1 FROM order_lines l JOIN orders o ON o.id = l.order_id \
                    WHERE o.member = m.id AND l.product = p.id AND l.state = 'bought')))";
        let with = [Value::from(member.text()), product.into()];
        let rows = self.database.read(|sql| sql.rows(text, &with))?;
        Ok(Owned::new(member.clone(), !rows.is_empty()))
    }

    /// Puts a viewing into the member's history.
    ///
    /// # Errors
    /// The store fails.
    pub fn note_viewing(
        &self,
        member: &MemberId,
        product: &str,
        now: Millis,
    ) -> Result<(), StoreFault> {
        let text = "INSERT INTO viewings (member, product, last_ms) VALUES ($1, $2, $3) \
                    ON CONFLICT (member, product) DO UPDATE SET last_ms = EXCLUDED.last_ms";
        let with = [Value::from(member.text()), product.into(), now.0.into()];
        self.database.write(|sql| sql.run(text, &with)).map(drop)
    }

    /// When the member began to watch it last.
    ///
    /// # Errors
    /// The store fails.
    pub fn last_viewing(
        &self,
        member: &MemberId,
        product: &str,
    ) -> Result<Owned<Option<Millis>>, StoreFault> {
        let text = "SELECT last_ms FROM viewings WHERE member = $1 AND product = $2";
        let with = [Value::from(member.text()), product.into()];
        let rows = self.database.read(|sql| sql.rows(text, &with))?;
        let last = rows.into_iter().next().map(|mut row| row.int().map(Millis));
        Ok(Owned::new(member.clone(), last.transpose()?))
    }
}
