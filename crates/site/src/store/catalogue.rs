//! What everybody may see: products and what is published about them.
//!
//! Invariant: nothing here takes or gives a member's id. A review shows the pen name under which it was
//! published.

use super::{Database, Row, StoreFault, Value};
use crate::asked::{Lang, Millis};

/// The catalogue.
pub struct Shelf(Database);

/// How a product is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProductKind {
    Stream,
    Download,
    Monthly,
    Disc,
}

impl ProductKind {
    pub(crate) fn stored(text: &str) -> Result<Self, StoreFault> {
        match text {
            "stream" => Ok(Self::Stream),
            "download" => Ok(Self::Download),
            "monthly" => Ok(Self::Monthly),
            "disc" => Ok(Self::Disc),
            _ => Err(StoreFault::OurRow("a product of no kind")),
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Download => "download",
            Self::Monthly => "monthly",
            Self::Disc => "disc",
        }
    }
}

/// A product, in both languages.
#[derive(Clone, Debug)]
pub struct Product {
    pub id: String,
    pub kind: ProductKind,
    pub price_yen: i64,
    pub year: i64,
    pub minutes: i64,
    title: [String; 2],
    about: [String; 2],
}

impl Product {
    #[must_use]
    pub fn title(&self, lang: Lang) -> &str {
        let [ja, en] = &self.title;
        lang.of(ja, en)
    }

    #[must_use]
    pub fn about(&self, lang: Lang) -> &str {
        let [ja, en] = &self.about;
        lang.of(ja, en)
    }
}

/// One page of products, and whether there are more.
#[derive(Clone, Debug)]
pub struct Found {
    pub products: Vec<Product>,
    pub more: bool,
}

/// A review as everybody reads it.
#[derive(Clone, Debug)]
pub struct PublicReview {
    pub by: String,
    pub stars: i64,
    pub text: String,
    pub written: Millis,
}

/// Products on one page.
const PAGE: usize = 12;
const REVIEWS_MAX: i64 = 50;
/// The last page of a list that is looked at.
pub(crate) const PAGES_MAX: usize = 1000;

const COLUMNS: &str = "id, kind, price_yen, year, minutes, title_ja, title_en, about_ja, about_en";

impl Shelf {
    pub(crate) fn new(database: Database) -> Self {
        Self(database)
    }

    /// The same database, for what is published elsewhere.
    pub(crate) fn database(&self) -> Database {
        self.0.clone()
    }

    /// Products that hold every word of `words`, newest first; all of them when there is none. Pages
    /// are counted from 0.
    ///
    /// # Errors
    /// The store fails.
    pub fn search(&self, words: &str, page: usize) -> Result<Found, StoreFault> {
        let mut text = format!("SELECT {COLUMNS} FROM products WHERE 1 = 1");
        let mut with = Vec::new();
        for word in words.split_whitespace().take(5) {
            with.push(Value::Text(pattern(word)));
            text.push_str(&format!(" AND words LIKE ${} ESCAPE '!'", with.len()));
        }
        let (limit, skip) = (PAGE + 1, page.min(PAGES_MAX) * PAGE);
        with.push(Value::Int(i64::try_from(limit).expect("a page is small")));
        with.push(Value::Int(i64::try_from(skip).expect("pages are few")));
        let (limit, skip) = (with.len() - 1, with.len());
        text.push_str(&format!(
            " ORDER BY year DESC, id LIMIT ${limit} OFFSET ${skip}"
        ));
        let rows = self.0.read(|sql| sql.rows(&text, &with))?;
        let mut products = rows
            .into_iter()
            .map(product)
            .collect::<Result<Vec<_>, _>>()?;
        let more = products.len() > PAGE;
        products.truncate(PAGE);
        Ok(Found { products, more })
    }

    /// # Errors
    /// The store fails.
    pub fn product(&self, id: &str) -> Result<Option<Product>, StoreFault> {
        let text = format!("SELECT {COLUMNS} FROM products WHERE id = $1");
        let rows = self.0.read(|sql| sql.rows(&text, &[id.into()]))?;
        rows.into_iter().next().map(product).transpose()
    }

    /// The newest reviews of a product.
    ///
    /// # Errors
    /// The store fails.
    pub fn reviews(&self, product: &str) -> Result<Vec<PublicReview>, StoreFault> {
        let text = "SELECT m.nickname, r.stars, r.text, r.written_ms FROM reviews r \
                    JOIN members m ON m.id = r.member WHERE r.product = $1 \
                    ORDER BY r.written_ms DESC, m.nickname LIMIT $2";
        let rows = self
            .0
            .read(|sql| sql.rows(text, &[product.into(), REVIEWS_MAX.into()]))?;
        let one = |mut row: Row| {
            Ok(PublicReview {
                by: row.text()?,
                stars: row.int()?,
                text: row.text()?,
                written: Millis(row.int()?),
            })
        };
        rows.into_iter().map(one).collect()
    }
}

/// A pattern for whatever holds the word, in small letters as the column is.
fn pattern(word: &str) -> String {
    let mut text = String::from("%");
    for letter in word.chars().take(40).flat_map(char::to_lowercase) {
        if matches!(letter, '%' | '_' | '!') {
            text.push('!');
        }
        text.push(letter);
    }
    text.push('%');
    text
}

fn product(mut row: Row) -> Result<Product, StoreFault> {
    Ok(Product {
        id: row.text()?,
        kind: ProductKind::stored(&row.text()?)?,
        price_yen: row.int()?,
        year: row.int()?,
        minutes: row.int()?,
        title: [row.text()?, row.text()?],
        about: [row.text()?, row.text()?],
    })
}

#[cfg(test)]
mod tests {
    use crate::store::fill_with_samples;

    #[test]
    fn search_finds_in_both_languages_and_takes_no_patterns_from_visitors() {
        let store = crate::fresh::store();
        fill_with_samples(&store).unwrap();
        let all = store.shelf.search("", 0).unwrap().products.len();
        for (words, some) in [
            ("lighthouse", true),
            ("LIGHTHOUSE", true),
            ("灯台", true),
            ("lighthouse 灯台", true),
            ("lighthouse bread", false),
            ("%", false),
            ("_", false),
            ("' OR 1=1 --", false),
        ] {
            let found = store.shelf.search(words, 0).unwrap().products.len();
            assert_eq!(found > 0, some, "{words}");
            assert!(found < all, "{words}");
        }
    }

    #[test]
    fn a_list_has_pages_and_an_end() {
        let store = crate::fresh::store();
        fill_with_samples(&store).unwrap();
        let mut seen = Vec::new();
        for page in 0.. {
            let found = store.shelf.search("", page).unwrap();
            seen.extend(found.products.into_iter().map(|it| it.id));
            if !found.more {
                break;
            }
        }
        let count = seen.len();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "no product comes twice");
        assert!(
            store
                .shelf
                .search("", usize::MAX)
                .unwrap()
                .products
                .is_empty()
        );
    }
}
