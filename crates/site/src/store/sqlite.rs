//! SQLite as the engine: one writer, a few readers, one file.
//!
//! Readers see the last commit and wait for no writer (WAL). Queries that are too slow are not the
//! engine's to cut: each is bounded by its own `LIMIT`.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, ToSql, Transaction, TransactionBehavior};

use super::{Engine, Row, Sql, StoreFault, Value, Work};

const READERS: usize = 4;
/// How long a writer of another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

pub(crate) struct Sqlite {
    writer: Mutex<Connection>,
    /// None in memory, where a second connection would be a second database.
    readers: Vec<Mutex<Connection>>,
}

impl Sqlite {
    pub(crate) fn open(file: &Path) -> Result<Self, StoreFault> {
        let writer = Connection::open(file)?;
        prepare(&writer)?;
        writer.pragma_update(None, "journal_mode", "wal")?;
        // An order that was confirmed is on the disk.
        writer.pragma_update(None, "synchronous", "full")?;
        let reader = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let reader = Connection::open_with_flags(file, flags)?;
            prepare(&reader)?;
            Ok::<_, StoreFault>(Mutex::new(reader))
        };
        let readers = (0..READERS).map(|_| reader()).collect::<Result<_, _>>()?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers,
        })
    }

    pub(crate) fn in_memory() -> Result<Self, StoreFault> {
        let writer = Connection::open_in_memory()?;
        prepare(&writer)?;
        Ok(Self {
            writer: Mutex::new(writer),
            readers: Vec::new(),
        })
    }

    /// Whichever reader is free; else the first that becomes so.
    fn reader(&self) -> MutexGuard<'_, Connection> {
        let free = self.readers.iter().find_map(|it| it.try_lock().ok());
        free.unwrap_or_else(|| locked(self.readers.first().unwrap_or(&self.writer)))
    }
}

/// A panic within a transaction rolled it back; the connection is as before.
fn locked(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare(connection: &Connection) -> Result<(), StoreFault> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

impl Engine for Sqlite {
    fn read(&self, work: &mut Work<'_>) -> Result<(), StoreFault> {
        let mut connection = self.reader();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
        work(&mut Running(&transaction))?;
        Ok(transaction.commit()?)
    }

    fn write(&self, work: &mut Work<'_>) -> Result<(), StoreFault> {
        let mut connection = locked(&self.writer);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Dropped without a commit it is rolled back.
        work(&mut Running(&transaction))?;
        Ok(transaction.commit()?)
    }
}

struct Running<'a>(&'a Transaction<'a>);

impl Sql for Running<'_> {
    fn rows(&mut self, text: &str, with: &[Value]) -> Result<Vec<Row>, StoreFault> {
        let mut statement = self.0.prepare_cached(text)?;
        bind(&mut statement, with)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| value(row.get_ref(column)?));
            found.push(Row::new(values.collect::<Result<_, StoreFault>>()?));
        }
        Ok(found)
    }

    fn run(&mut self, text: &str, with: &[Value]) -> Result<u64, StoreFault> {
        let mut statement = self.0.prepare_cached(text)?;
        bind(&mut statement, with)?;
        let changed = statement.raw_execute()?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }
}

/// SQLite takes `$1` for a name, not a place, and numbers names as they come; so each is looked up.
fn bind(statement: &mut rusqlite::Statement<'_>, with: &[Value]) -> Result<(), StoreFault> {
    if statement.parameter_count() != with.len() {
        return Err(StoreFault::OurRow(
            "a query with other parameters than it was given",
        ));
    }
    for (nth, value) in (1..).zip(with) {
        let place = statement.parameter_index(&format!("${nth}"))?;
        let place = place.ok_or(StoreFault::OurRow(
            "a query whose parameters are not $1, $2, …",
        ))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Self::Int(int) => int.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}

fn value(read: ValueRef<'_>) -> Result<Value, StoreFault> {
    match read {
        ValueRef::Integer(int) => Ok(Value::Int(int)),
        ValueRef::Text(text) => {
            let text =
                std::str::from_utf8(text).map_err(|_| StoreFault::OurRow("a text is not UTF-8"))?;
            Ok(Value::Text(text.to_owned()))
        }
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => {
            Err(StoreFault::OurRow("a column of no type of ours"))
        }
    }
}

/// The engine's own words name tables and constraints, never values.
impl From<rusqlite::Error> for StoreFault {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::SqliteFailure(code, words) => {
                Self::Engine(words.unwrap_or_else(|| code.to_string()))
            }
            // The other texts may quote what was bound.
            _ => Self::Engine("a query that cannot be run".to_owned()),
        }
    }
}
