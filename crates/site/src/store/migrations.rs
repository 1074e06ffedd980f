//! The tables, as a list of steps that only ever grows.
//!
//! The texts are in what SQLite and PostgreSQL have in common. Points are entries, never a number
//! that changes; an order's lines have states of their own. There is no column for a card.

use super::{Sql, StoreFault, Value};

/// Each step's statements. A step that has been released is never changed.
pub const MIGRATIONS: &[&[&str]] = &[&[
    "CREATE TABLE members (
        id TEXT PRIMARY KEY,
        mail TEXT NOT NULL UNIQUE,
        nickname TEXT NOT NULL,
        password TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('regular', 'monthly', 'withdrawn')),
        joined_ms BIGINT NOT NULL
    )",
    "CREATE TABLE deliveries (
        member TEXT PRIMARY KEY REFERENCES members (id),
        name TEXT NOT NULL,
        postcode TEXT NOT NULL,
        address TEXT NOT NULL,
        phone TEXT NOT NULL
    )",
    "CREATE TABLE sessions (
        digest TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        begun_ms BIGINT NOT NULL,
        confirmed_ms BIGINT NOT NULL,
        ends_ms BIGINT NOT NULL
    )",
    "CREATE INDEX sessions_of ON sessions (member)",
    "CREATE TABLE products (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('stream', 'download', 'monthly', 'disc')),
        price_yen BIGINT NOT NULL CHECK (price_yen >= 0),
        year BIGINT NOT NULL,
        minutes BIGINT NOT NULL CHECK (minutes >= 0),
        title_ja TEXT NOT NULL,
        title_en TEXT NOT NULL,
        about_ja TEXT NOT NULL,
        about_en TEXT NOT NULL,
        words TEXT NOT NULL
    )",
    "CREATE TABLE orders (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        placed_ms BIGINT NOT NULL
    )",
    "CREATE INDEX orders_of ON orders (member, placed_ms)",
    "CREATE TABLE order_lines (
        order_id TEXT NOT NULL REFERENCES orders (id),
        line BIGINT NOT NULL,
        product TEXT NOT NULL REFERENCES products (id),
        price_yen BIGINT NOT NULL CHECK (price_yen >= 0),
        state TEXT NOT NULL CHECK (state IN ('bought', 'shipping', 'delivered', 'cancelled')),
        PRIMARY KEY (order_id, line)
    )",
    // An entry without `of_grant` grants; one with it spends or takes back a part of that grant.
    "CREATE TABLE points (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        of_grant TEXT REFERENCES points (id),
        amount BIGINT NOT NULL CHECK (amount <> 0),
        reason TEXT NOT NULL,
        at_ms BIGINT NOT NULL,
        usable_from_ms BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL,
        CHECK ((of_grant IS NULL AND amount > 0) OR (of_grant IS NOT NULL AND amount < 0))
    )",
    "CREATE INDEX points_of ON points (member, at_ms)",
    "CREATE TABLE reviews (
        member TEXT NOT NULL REFERENCES members (id),
        product TEXT NOT NULL REFERENCES products (id),
        stars BIGINT NOT NULL CHECK (stars BETWEEN 1 AND 5),
        text TEXT NOT NULL,
        written_ms BIGINT NOT NULL,
        PRIMARY KEY (member, product)
    )",
    "CREATE INDEX reviews_on ON reviews (product, written_ms)",
    "CREATE TABLE viewings (
        member TEXT NOT NULL REFERENCES members (id),
        product TEXT NOT NULL REFERENCES products (id),
        last_ms BIGINT NOT NULL,
        PRIMARY KEY (member, product)
    )",
]];

/// Brings the tables to the present version.
pub(super) fn apply(sql: &mut dyn Sql) -> Result<(), StoreFault> {
    sql.run(
        "CREATE TABLE IF NOT EXISTS versions (version BIGINT PRIMARY KEY)",
        &[],
    )?;
    let found = sql.rows("SELECT COALESCE(MAX(version), 0) FROM versions", &[])?;
    let found = found
        .into_iter()
        .next()
        .ok_or(StoreFault::OurRow("no version"))?
        .int()?;
    let known = i64::try_from(MIGRATIONS.len()).expect("there are few steps");
    if found > known {
        return Err(StoreFault::TooNew { found, known });
    }
    for (version, step) in (1..)
        .zip(MIGRATIONS)
        .filter(|(version, _)| *version > found)
    {
        for statement in *step {
            sql.run(statement, &[])?;
        }
        sql.run(
            "INSERT INTO versions (version) VALUES ($1)",
            &[Value::Int(version)],
        )?;
    }
    Ok(())
}
