//! What the store knows: members, sessions, the catalogue, orders, points.
//!
//! The queries are written once, over [`Sql`], with `$n` for what varies, in words that SQLite and
//! PostgreSQL both understand; an engine is what runs them. Ids and instants are made by us, never by
//! the engine.
//!
//! Two handles: the [`Shelf`] reads what everybody may see, and has no way to anything else; the
//! [`Desk`] reads and writes members' data. Whatever is one member's is asked for with their id and
//! comes out as [`Owned`](crate::member::Owned).

mod catalogue;
mod desk;
mod migrations;
#[cfg(feature = "postgres")]
mod postgres;
mod sample;
mod seed;
pub(crate) mod sqlite;
mod watching;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub(crate) use catalogue::PAGES_MAX;
pub use catalogue::{Found, Product, ProductKind, PublicReview, Shelf};
pub use desk::{
    Delivery, Desk, Line, LineState, NewMember, Order, OwnReview, PointsEntry, Profile, Seen,
    Session, Status, Taken,
};
pub use migrations::MIGRATIONS;
pub use sample::{DEMO_PASSWORD, fill as fill_with_samples};
pub(crate) use sample::{SAMPLE_MP4, SAMPLE_WEBM};
#[cfg(test)]
pub(crate) use seed::Dice;
pub use seed::{MEMBERS_MAX, NotSeeded, Seeded, Seeding, seed, seed_dry};

/// The store cannot be read or written. It holds no text that a member typed.
#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("the database: {0}")]
    Engine(String),
    /// The database was made by a later version of this program.
    #[error("the database is of version {found}; this program knows {known}")]
    TooNew { found: i64, known: i64 },
    /// What was read is not what was written.
    #[error("the database holds what cannot be: {0}")]
    OurRow(&'static str),
}

/// What a query takes and gives. It does not print: most of it is personal.
#[derive(Clone, PartialEq)]
pub enum Value {
    Int(i64),
    Text(String),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

/// A row, read from left to right.
pub struct Row(std::vec::IntoIter<Value>);

impl Row {
    fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreFault> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(StoreFault::OurRow("a text was expected")),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreFault> {
        match self.0.next() {
            Some(Value::Int(int)) => Ok(int),
            _ => Err(StoreFault::OurRow("a number was expected")),
        }
    }
}

/// One transaction of an engine.
pub trait Sql {
    /// # Errors
    /// The engine refuses or fails.
    fn rows(&mut self, text: &str, with: &[Value]) -> Result<Vec<Row>, StoreFault>;

    /// How many rows were changed.
    ///
    /// # Errors
    /// The engine refuses or fails.
    fn run(&mut self, text: &str, with: &[Value]) -> Result<u64, StoreFault>;
}

/// What is done in one transaction.
pub type Work<'a> = dyn FnMut(&mut dyn Sql) -> Result<(), StoreFault> + 'a;

/// A database. It has nothing of SQLite's, and nothing of PostgreSQL's.
pub trait Engine: Send + Sync {
    /// Reads, at one moment.
    ///
    /// # Errors
    /// The engine's, or the work's own.
    fn read(&self, work: &mut Work<'_>) -> Result<(), StoreFault>;

    /// Changes all or nothing: an error undoes what was done. Writers follow one another.
    ///
    /// # Errors
    /// The engine's, or the work's own.
    fn write(&self, work: &mut Work<'_>) -> Result<(), StoreFault>;
}

/// A database, with what is the same for all of them.
#[derive(Clone)]
pub(crate) struct Database(Arc<dyn Engine>);

impl Database {
    pub(crate) fn on(engine: Arc<dyn Engine>) -> Self {
        Self(engine)
    }

    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        once(work, |work| self.0.read(work))
    }

    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        once(work, |work| self.0.write(work))
    }
}

/// Runs `work` once in a transaction and hands on what it found.
fn once<T>(
    work: impl FnOnce(&mut dyn Sql) -> Result<T, StoreFault>,
    transaction: impl FnOnce(&mut Work<'_>) -> Result<(), StoreFault>,
) -> Result<T, StoreFault> {
    let mut work = Some(work);
    let mut found = None;
    transaction(&mut |sql| {
        let work = work.take().expect("an engine does its work once");
        found = Some(work(sql)?);
        Ok(())
    })?;
    Ok(found.expect("an engine that succeeds has done its work"))
}

/// The store of one site.
pub struct Store {
    pub shelf: Shelf,
    pub desk: Desk,
}

impl Store {
    /// In a file of its own, made where there is none.
    ///
    /// # Errors
    /// The file cannot be opened, or is of a later version.
    pub fn open(file: &Path) -> Result<Self, StoreFault> {
        Self::on(Arc::new(sqlite::Sqlite::open(file)?))
    }

    /// In PostgreSQL, at `postgres://user:password@host:port/database`, with what libpq takes after a `?` and
    /// two more: `schema`, where the tables are, made when there is none of the name; and `sslrootcert`, a file
    /// of certificates to be believed. On another machine it is asked over TLS unless `sslmode` says
    /// otherwise, and its certificate is always verified.
    ///
    /// # Errors
    /// The address cannot be read, the database not reached, or its tables are of a later version.
    #[cfg(feature = "postgres")]
    pub fn postgres(url: &str) -> Result<Self, StoreFault> {
        Self::on(Arc::new(postgres::Postgres::open(url)?))
    }

    /// In memory alone, for tests and trials.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn in_memory() -> Result<Self, StoreFault> {
        Self::on(Arc::new(sqlite::Sqlite::in_memory()?))
    }

    /// On any engine.
    ///
    /// # Errors
    /// It fails, or its tables are of a later version.
    pub fn on(engine: Arc<dyn Engine>) -> Result<Self, StoreFault> {
        let database = Database(engine);
        database.write(|sql| migrations::apply(sql))?;
        Ok(Self {
            shelf: Shelf::new(database.clone()),
            desk: Desk::new(database),
        })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store(…)")
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf(…)")
    }
}
