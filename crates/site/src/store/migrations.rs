//! The tables, as a list of steps that only ever grows.
//!
//! The texts are in what SQLite and PostgreSQL have in common. Points are entries, never a number
//! that changes; an order's lines have states of their own. There is no column for a card.

use super::{Sql, StoreFault, Value};

/// Each step's statements. A step that has been released is never changed.
pub const MIGRATIONS: &[&[&str]] = &[MEMBERS, TRADE, MEMBERSHIPS, DESKS];

const MEMBERS: &[&str] = &[
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
];

/// Carts, checkouts, payments. A payment is known by the processor's name for it and never by a card's.
const TRADE: &[&str] = &[
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE carts (
        member TEXT NOT NULL REFERENCES members (id),
        product TEXT NOT NULL REFERENCES products (id),
        added_ms BIGINT NOT NULL,
        PRIMARY KEY (member, product)
    )",
    // `form` is minted with the page that is sent: sent twice, it is one checkout. Once it is paid for,
    // a checkout is the order of the same id.
    "CREATE TABLE checkouts (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        form TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'ordered', 'failed')),
        begun_ms BIGINT NOT NULL,
        UNIQUE (member, form)
    )",
    "CREATE TABLE checkout_lines (
        checkout TEXT NOT NULL REFERENCES checkouts (id),
        line BIGINT NOT NULL,
        product TEXT NOT NULL REFERENCES products (id),
        kind TEXT NOT NULL,
        price_yen BIGINT NOT NULL CHECK (price_yen >= 0),
        points_yen BIGINT NOT NULL CHECK (points_yen >= 0 AND points_yen <= price_yen),
        PRIMARY KEY (checkout, line)
    )",
    // `whole_at_once` is 0 when it is captured as discs are sent.
    "CREATE TABLE payments (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        amount_yen BIGINT NOT NULL CHECK (amount_yen > 0),
        state TEXT NOT NULL CHECK (state IN ('planned', 'opened', 'authorised', 'captured', 'refused', 'voided')),
        reference TEXT NOT NULL,
        page TEXT NOT NULL,
        lang TEXT NOT NULL CHECK (lang IN ('ja', 'en')),
        mandate TEXT NOT NULL,
        whole_at_once BIGINT NOT NULL,
        captured_yen BIGINT NOT NULL CHECK (captured_yen >= 0 AND captured_yen <= amount_yen),
        refunded_yen BIGINT NOT NULL CHECK (refunded_yen >= 0 AND refunded_yen <= captured_yen),
        planned_ms BIGINT NOT NULL,
        authorised_ms BIGINT NOT NULL
    )",
    "CREATE INDEX payments_of ON payments (member, planned_ms)",
    "CREATE INDEX payments_in ON payments (state, planned_ms)",
    // What is asked of the processor: written before it is asked, under an id that follows from what it is for.
    "CREATE TABLE moves (
        id TEXT PRIMARY KEY,
        payment TEXT NOT NULL REFERENCES payments (id),
        kind TEXT NOT NULL CHECK (kind IN ('charge', 'capture', 'void', 'refund')),
        line BIGINT NOT NULL,
        amount_yen BIGINT NOT NULL CHECK (amount_yen >= 0),
        state TEXT NOT NULL CHECK (state IN ('planned', 'called', 'done', 'refused')),
        tries BIGINT NOT NULL,
        planned_ms BIGINT NOT NULL,
        called_ms BIGINT NOT NULL
    )",
    "CREATE INDEX moves_of ON moves (payment)",
    "CREATE INDEX moves_in ON moves (state, called_ms)",
    "ALTER TABLE order_lines ADD COLUMN points_yen BIGINT NOT NULL DEFAULT 0",
    "CREATE TABLE cancellations (
        order_id TEXT NOT NULL REFERENCES orders (id),
        line BIGINT NOT NULL,
        asked_ms BIGINT NOT NULL,
        PRIMARY KEY (order_id, line)
    )",
    "CREATE TABLE shipments (
        order_id TEXT NOT NULL REFERENCES orders (id),
        line BIGINT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('preparing', 'held', 'leaving', 'sent', 'delivered', 'stopped')),
        changed_ms BIGINT NOT NULL,
        PRIMARY KEY (order_id, line)
    )",
    "CREATE INDEX shipments_in ON shipments (state, changed_ms)",
    // What an entry of the ledger was spent for.
    "CREATE TABLE points_spent (
        entry TEXT PRIMARY KEY REFERENCES points (id),
        order_id TEXT NOT NULL,
        line BIGINT NOT NULL
    )",
    "CREATE INDEX points_spent_on ON points_spent (order_id, line)",
    // Grants that begin when the store reopens: until then nobody knows the day.
    "CREATE TABLE points_promised (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        amount BIGINT NOT NULL CHECK (amount > 0),
        reason TEXT NOT NULL,
        lasts_ms BIGINT NOT NULL,
        promised_ms BIGINT NOT NULL,
        granted BIGINT NOT NULL
    )",
    "CREATE INDEX points_promised_to ON points_promised (member)",
    // Mail that is to be sent; the address is the member's at the time of sending.
    "CREATE TABLE outbox (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        subject TEXT NOT NULL,
        body TEXT NOT NULL,
        written_ms BIGINT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('planned', 'handed'))
    )",
    "CREATE INDEX outbox_in ON outbox (state, written_ms)",
];

/// By the month. A membership has the id of the order by which it was joined.
const MEMBERSHIPS: &[&str] = &[
    "CREATE TABLE memberships (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        product TEXT NOT NULL REFERENCES products (id),
        state TEXT NOT NULL CHECK (state IN ('active', 'leaving', 'due', 'ended')),
        price_yen BIGINT NOT NULL CHECK (price_yen > 0),
        mandate TEXT NOT NULL,
        since_ms BIGINT NOT NULL,
        anchor_ms BIGINT NOT NULL,
        months BIGINT NOT NULL,
        paid_until_ms BIGINT NOT NULL,
        next_ms BIGINT NOT NULL,
        tries BIGINT NOT NULL
    )",
    "CREATE INDEX memberships_of ON memberships (member, since_ms)",
    "CREATE INDEX memberships_due ON memberships (state, next_ms)",
    "CREATE TABLE renewals (
        payment TEXT PRIMARY KEY REFERENCES payments (id),
        membership TEXT NOT NULL REFERENCES memberships (id)
    )",
];

/// What members post and ask, and what they are told and asked after an incident.
const DESKS: &[&str] = &[
    "CREATE TABLE posts (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        title TEXT NOT NULL,
        video TEXT NOT NULL CHECK (video IN ('webm', 'mp4')),
        digest TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('waiting', 'published', 'refused', 'taken_back')),
        why TEXT NOT NULL,
        posted_ms BIGINT NOT NULL
    )",
    "CREATE INDEX posts_of ON posts (member, posted_ms)",
    "CREATE INDEX posts_in ON posts (state, posted_ms)",
    "CREATE TABLE post_bytes (
        post TEXT NOT NULL REFERENCES posts (id),
        nth BIGINT NOT NULL,
        hex TEXT NOT NULL,
        PRIMARY KEY (post, nth)
    )",
    "CREATE TABLE enquiries (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        topic TEXT NOT NULL,
        subject TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'answered')),
        opened_ms BIGINT NOT NULL
    )",
    "CREATE INDEX enquiries_of ON enquiries (member, opened_ms)",
    "CREATE TABLE said (
        id TEXT PRIMARY KEY,
        enquiry TEXT NOT NULL REFERENCES enquiries (id),
        by_member BIGINT NOT NULL,
        text TEXT NOT NULL,
        at_ms BIGINT NOT NULL
    )",
    "CREATE INDEX said_in ON said (enquiry, at_ms)",
    "CREATE TABLE notices (
        code TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        text_ja TEXT NOT NULL,
        text_en TEXT NOT NULL,
        kinds TEXT NOT NULL,
        issued_ms BIGINT NOT NULL
    )",
    "CREATE INDEX notices_to ON notices (member, issued_ms)",
    "CREATE TABLE choices (
        id TEXT PRIMARY KEY,
        member TEXT NOT NULL REFERENCES members (id),
        notice TEXT NOT NULL REFERENCES notices (code),
        question TEXT NOT NULL CHECK (question IN ('disc', 'payment', 'payout')),
        about_ja TEXT NOT NULL,
        about_en TEXT NOT NULL,
        amount_yen BIGINT NOT NULL,
        order_id TEXT NOT NULL,
        line BIGINT NOT NULL,
        answer TEXT NOT NULL,
        answered_ms BIGINT NOT NULL,
        answer_by_ms BIGINT NOT NULL,
        done BIGINT NOT NULL,
        link_used BIGINT NOT NULL,
        linked_until_ms BIGINT NOT NULL
    )",
    "CREATE INDEX choices_of ON choices (member, answer_by_ms)",
    // Where money is to be sent: to an account, never to a payment instrument of the member's.
    "CREATE TABLE payouts (
        choice TEXT PRIMARY KEY REFERENCES choices (id),
        bank TEXT NOT NULL,
        branch TEXT NOT NULL,
        number TEXT NOT NULL,
        holder TEXT NOT NULL
    )",
];

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
