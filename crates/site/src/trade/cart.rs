//! What a member is about to buy: at most one of each product.

use super::Trade;
use crate::asked::{Lang, Millis};
use crate::member::{MemberId, Owned};
use crate::store::{ProductKind, Row, Sql, StoreFault};

/// Different products in one cart.
const CART_MAX: i64 = 20;

/// A member's cart, at today's prices.
#[derive(Clone, PartialEq, Eq)]
pub struct Cart {
    pub lines: Vec<InCart>,
}

/// A product in a cart.
#[derive(Clone, PartialEq, Eq)]
pub struct InCart {
    pub product: String,
    pub title: [String; 2],
    pub kind: ProductKind,
    pub price_yen: i64,
}

impl InCart {
    #[must_use]
    pub fn title(&self, lang: Lang) -> &str {
        let [ja, en] = &self.title;
        lang.of(ja, en)
    }
}

impl Cart {
    #[must_use]
    pub fn total_yen(&self) -> i64 {
        self.lines.iter().map(|it| it.price_yen).sum()
    }

    /// What points can pay for: all but a month, which renews by card.
    #[must_use]
    pub fn by_points_max(&self) -> i64 {
        let others = self
            .lines
            .iter()
            .filter(|it| it.kind != ProductKind::Monthly);
        others.map(|it| it.price_yen).sum()
    }

    #[must_use]
    pub fn has_discs(&self) -> bool {
        self.lines.iter().any(|it| it.kind == ProductKind::Disc)
    }

    /// A name for exactly this content at exactly these prices: what a member saw and agreed to.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut parts = Vec::new();
        for line in &self.lines {
            parts.push(line.product.clone());
            parts.push(line.price_yen.to_string());
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        crate::member::derived_id(&parts)
    }
}

impl Trade {
    /// # Errors
    /// The store fails.
    pub fn cart(&self, member: &MemberId) -> Result<Owned<Cart>, StoreFault> {
        let cart = self.database.read(|sql| read(sql, member))?;
        Ok(Owned::new(member.clone(), cart))
    }

    /// Puts a product into the cart, once. False when there is no such product, or no room.
    ///
    /// # Errors
    /// The store fails.
    pub fn put(&self, member: &MemberId, product: &str, now: Millis) -> Result<bool, StoreFault> {
        self.database.write(|sql| {
            let held = read(sql, member)?;
            if held.lines.iter().any(|it| it.product == product) {
                return Ok(true);
            }
            let exists = !sql
                .rows("SELECT id FROM products WHERE id = $1", &[product.into()])?
                .is_empty();
            if !exists
                || held.lines.len() >= usize::try_from(CART_MAX).expect("it is a small number")
            {
                return Ok(false);
            }
            let text = "INSERT INTO carts (member, product, added_ms) VALUES ($1, $2, $3)";
            sql.run(text, &[member.text().into(), product.into(), now.0.into()])?;
            Ok(true)
        })
    }

    /// Takes a product out of the cart.
    ///
    /// # Errors
    /// The store fails.
    pub fn take_out(&self, member: &MemberId, product: &str) -> Result<(), StoreFault> {
        let text = "DELETE FROM carts WHERE member = $1 AND product = $2";
        self.database
            .write(|sql| sql.run(text, &[member.text().into(), product.into()]))
            .map(drop)
    }
}

pub(super) fn read(sql: &mut dyn Sql, member: &MemberId) -> Result<Cart, StoreFault> {
    let text = "SELECT p.id, p.title_ja, p.title_en, p.kind, p.price_yen FROM carts c \
                JOIN products p ON p.id = c.product WHERE c.member = $1 ORDER BY c.added_ms, p.id LIMIT $2";
    let one = |mut row: Row| {
        Ok(InCart {
            product: row.text()?,
            title: [row.text()?, row.text()?],
            kind: ProductKind::stored(&row.text()?)?,
            price_yen: row.int()?,
        })
    };
    let rows = sql.rows(text, &[member.text().into(), CART_MAX.into()])?;
    let lines = rows
        .into_iter()
        .map(one)
        .collect::<Result<_, StoreFault>>()?;
    Ok(Cart { lines })
}
