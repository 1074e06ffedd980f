//! PostgreSQL as the engine: the same transactions as SQLite's, over a few connections.
//!
//! Writers follow one another, also those of other processes: each takes one lock of the database
//! before anything else, and reads what was committed by then. So nothing has to be tried again, and
//! what holds with one writer holds here. Readers see one moment and wait for nobody.
//!
//! It never waits without an end, and never keeps a connection of which it does not know how it stands:
//! one that failed in the middle, or whose work panicked, is closed, which undoes what was begun.
//!
//! Invariant: after a statement that failed nothing is committed. PostgreSQL answers a commit then as
//! if all were well.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Engine, Row, Sql, StoreFault, Value, Work};

const READERS: usize = 4;
/// Statements that a connection keeps prepared.
const STATEMENTS_MAX: usize = 256;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer is waited for; the server gives up before.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);
/// For every connection: how long a writer of another process is waited for, how long a statement may
/// take, and how long the server keeps what was begun by one that is gone.
const SETTINGS: &str = "SET lock_timeout = '5s'; SET statement_timeout = '30s'; \
                        SET idle_in_transaction_session_timeout = '60s'";
/// Begins to write. The lock is this store's: of the schema in which its tables are.
const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
                     SELECT pg_advisory_xact_lock(1936222571, hashtext(coalesce(current_schema(), '')))";
const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Where a database is. It does not print: a password may be in it.
#[derive(Clone)]
struct Place {
    config: Config,
    /// Where the tables are, made when there is none of the name; else wherever the server looks first.
    schema: Option<String>,
    tls: Option<MakeRustlsConnect>,
}

pub(crate) struct Postgres {
    place: Place,
    writer: Slot,
    readers: Vec<Slot>,
    /// Of the thread that drives the connections.
    driver: Handle,
    /// Dropped, that thread ends.
    _driven: oneshot::Sender<()>,
}

/// A connection, once there is one.
type Slot = Mutex<Option<Link>>;

struct Link {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Postgres {
    /// At `postgres://user:password@host:port/database`, with what libpq takes after a `?` and two of our
    /// own: `schema`, and `sslrootcert`, a file of certificates to be believed besides the system's.
    /// Without `sslmode`, what is on another machine is asked over TLS alone.
    ///
    /// # Errors
    /// The address cannot be read, or the database not reached.
    pub(crate) fn open(url: &str) -> Result<Self, StoreFault> {
        let place = Place::parse(url)?;
        let (driver, driven) = driver()?;
        let postgres = Self {
            place,
            writer: Slot::default(),
            readers: std::iter::repeat_with(Slot::default)
                .take(READERS)
                .collect(),
            driver,
            _driven: driven,
        };
        if let Some(schema) = postgres.place.schema.clone() {
            postgres.write(&mut |sql| {
                sql.run(&format!("CREATE SCHEMA IF NOT EXISTS {schema}"), &[])
                    .map(drop)
            })?;
        }
        Ok(postgres)
    }

    fn connect(&self) -> Result<Link, StoreFault> {
        let (config, tls) = (self.place.config.clone(), self.place.tls.clone());
        let driver = self.driver.clone();
        let connecting = self.driver.spawn(async move {
            match tls {
                None => {
                    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
                    drop(driver.spawn(connection));
                    Ok::<_, tokio_postgres::Error>(client)
                }
                Some(tls) => {
                    let (client, connection) = config.connect(tls).await?;
                    drop(driver.spawn(connection));
                    Ok(client)
                }
            }
        });
        // A host may have several addresses, and each its time.
        let client = wait(connecting, CONNECT_WITHIN.saturating_mul(4))?;
        let client =
            client.map_err(|_| StoreFault::Engine("the driver's thread is gone".into()))?;
        let client = client.map_err(fault)?;
        let mut settings = SETTINGS.to_owned();
        if let Some(schema) = &self.place.schema {
            settings.push_str(&format!("; SET search_path TO {schema}"));
        }
        let link = Link {
            client,
            statements: HashMap::new(),
        };
        link.batch(&settings)?;
        Ok(link)
    }

    /// A connection on which the transaction has begun. One that was lost while nobody used it is made anew,
    /// once.
    fn begun(&self, slot: &mut Option<Link>, how: &str) -> Result<Link, StoreFault> {
        if let Some(link) = slot.take() {
            match link.batch(how) {
                Ok(()) => return Ok(link),
                Err(_) if link.client.is_closed() => {}
                Err(fault) => return Err(fault),
            }
        }
        let link = self.connect()?;
        link.batch(how)?;
        Ok(link)
    }

    fn transaction(&self, slot: &Slot, how: &str, work: &mut Work<'_>) -> Result<(), StoreFault> {
        let mut slot = locked(slot);
        let mut running = Running {
            link: self.begun(&mut slot, how)?,
            failed: false,
        };
        // Where it panics, the connection is dropped with the transaction on it.
        let worked = work(&mut running);
        let Running { link, failed } = running;
        match worked {
            Ok(()) if failed => Err(StoreFault::OurRow(
                "a statement failed, and was gone on from",
            )),
            Ok(()) => {
                link.batch("COMMIT")?;
                *slot = Some(link);
                Ok(())
            }
            Err(fault) => {
                if link.batch("ROLLBACK").is_ok() {
                    *slot = Some(link);
                }
                Err(fault)
            }
        }
    }
}

impl Engine for Postgres {
    fn read(&self, work: &mut Work<'_>) -> Result<(), StoreFault> {
        let free = self.readers.iter().find(|it| it.try_lock().is_ok());
        let slot = free.or(self.readers.first()).unwrap_or(&self.writer);
        self.transaction(slot, READ, work)
    }

    fn write(&self, work: &mut Work<'_>) -> Result<(), StoreFault> {
        self.transaction(&self.writer, WRITE, work)
    }
}

/// A panic dropped the connection with what it had begun; there is none now.
fn locked(slot: &Slot) -> MutexGuard<'_, Option<Link>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    fn batch(&self, text: &str) -> Result<(), StoreFault> {
        wait(self.client.batch_execute(text), ANSWER_WITHIN)?.map_err(fault)
    }

    /// The types are those of the values: nothing is left to be guessed from where they stand.
    fn prepared(&mut self, text: &str, with: &[Value]) -> Result<Statement, StoreFault> {
        if let Some(known) = self.statements.get(text) {
            return Ok(known.clone());
        }
        let types: Vec<Type> = with
            .iter()
            .map(|value| match value {
                Value::Int(_) => Type::INT8,
                Value::Text(_) => Type::TEXT,
            })
            .collect();
        let made = wait(self.client.prepare_typed(text, &types), ANSWER_WITHIN)?.map_err(fault)?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(text.to_owned(), made.clone());
        Ok(made)
    }
}

struct Running {
    link: Link,
    failed: bool,
}

impl Running {
    fn noted<T>(&mut self, came: Result<T, StoreFault>) -> Result<T, StoreFault> {
        self.failed |= came.is_err();
        came
    }
}

impl Sql for Running {
    fn rows(&mut self, text: &str, with: &[Value]) -> Result<Vec<Row>, StoreFault> {
        let came = rows(&mut self.link, text, with);
        self.noted(came)
    }

    fn run(&mut self, text: &str, with: &[Value]) -> Result<u64, StoreFault> {
        let came = run(&mut self.link, text, with);
        self.noted(came)
    }
}

fn rows(link: &mut Link, text: &str, with: &[Value]) -> Result<Vec<Row>, StoreFault> {
    let statement = link.prepared(text, with)?;
    let with: Vec<_> = with.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
    let found = wait(link.client.query(&statement, &with), ANSWER_WITHIN)?.map_err(fault)?;
    let row = |row: &tokio_postgres::Row| {
        let values = (0..row.len()).map(|column| {
            row.try_get::<_, Value>(column)
                .map_err(|_| StoreFault::OurRow("a column of no type of ours"))
        });
        Ok(Row::new(values.collect::<Result<_, StoreFault>>()?))
    };
    found.iter().map(row).collect()
}

fn run(link: &mut Link, text: &str, with: &[Value]) -> Result<u64, StoreFault> {
    let statement = link.prepared(text, with)?;
    let with: Vec<_> = with.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
    wait(link.client.execute(&statement, &with), ANSWER_WITHIN)?.map_err(fault)
}

type Boxed = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match self {
            Self::Int(int) => int.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::TEXT)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        match *kind {
            Type::INT8 => i64::from_sql(kind, raw).map(Self::Int),
            Type::INT4 => i32::from_sql(kind, raw).map(|it| Self::Int(it.into())),
            _ => String::from_sql(kind, raw).map(Self::Text),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::TEXT | Type::VARCHAR)
    }
}

impl Place {
    fn parse(url: &str) -> Result<Self, StoreFault> {
        let cannot = |why: &str| StoreFault::Engine(format!("no address of a database: {why}"));
        let (before, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut schema, mut roots, mut is_said) = (None, None, false);
        let mut theirs = Vec::new();
        for part in query.split('&').filter(|it| !it.is_empty()) {
            let value = || {
                form_urlencoded::parse(part.as_bytes())
                    .next()
                    .map(|(_, it)| it)
            };
            match part.split('=').next() {
                Some("schema") => schema = value().map(std::borrow::Cow::into_owned),
                Some("sslrootcert") => roots = value().map(std::borrow::Cow::into_owned),
                name => {
                    is_said |= name == Some("sslmode");
                    theirs.push(part);
                }
            }
        }
        let is_schema = |name: &String| {
            name.len() <= 63
                && name.starts_with(|first: char| first.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
        };
        if schema.as_ref().is_some_and(|name| !is_schema(name)) {
            return Err(cannot("a schema is small letters, digits and _"));
        }
        // Its own words may quote the address.
        let mut config = Config::from_str(&format!("{before}?{}", theirs.join("&")))
            .map_err(|_| cannot("write postgres://user:password@host:port/database"))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(cannot("it names no host"));
        }
        if !is_said {
            let mode = if is_near(&config) {
                SslMode::Disable
            } else {
                SslMode::Require
            };
            config.ssl_mode(mode);
        }
        config
            .application_name("shikiri-site")
            .connect_timeout(CONNECT_WITHIN)
            .tcp_user_timeout(ANSWER_WITHIN);
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(tls(roots.as_deref())?),
        };
        Ok(Self {
            config,
            schema,
            tls,
        })
    }
}

/// On this machine alone: no other sees what is said.
fn is_near(config: &Config) -> bool {
    let near = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|it| it.is_loopback())
        }
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(near)
        && config
            .get_hostaddrs()
            .iter()
            .all(std::net::IpAddr::is_loopback)
}

/// Certificates are always verified.
fn tls(roots: Option<&str>) -> Result<MakeRustlsConnect, StoreFault> {
    let mut believed = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // What cannot be read is not believed.
        drop(believed.add(certificate));
    }
    if let Some(file) = roots {
        let cannot = |why: &dyn std::fmt::Display| StoreFault::Engine(format!("{file}: {why}"));
        let read = CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))?;
        for certificate in read {
            let certificate = certificate.map_err(|error| cannot(&error))?;
            believed.add(certificate).map_err(|error| cannot(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreFault::Engine(error.to_string()))?
        .with_root_certificates(believed)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// A thread on which connections live: callers may be on any, and block.
fn driver() -> Result<(Handle, oneshot::Sender<()>), StoreFault> {
    let cannot = |error: std::io::Error| StoreFault::Engine(format!("no thread: {error}"));
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let handle = runtime.handle().clone();
    let (driven, ends) = oneshot::channel();
    let drive = move || runtime.block_on(async { drop(ends.await) });
    thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(drive)
        .map_err(cannot)?;
    Ok((handle, driven))
}

/// Blocks until it is done. What is given up is dropped.
fn wait<F: Future>(future: F, within: Duration) -> Result<F::Output, StoreFault> {
    struct Parked(Thread);
    impl Wake for Parked {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Parked(thread::current())));
    let mut future = pin!(future);
    let until = Instant::now() + within;
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(done);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StoreFault::Engine("no answer came in time".to_owned()));
        }
        thread::park_timeout(left);
    }
}

/// The engine's message names tables and constraints; its details, and what it says of data, may hold
/// values.
fn fault(error: tokio_postgres::Error) -> StoreFault {
    let Some(theirs) = error.as_db_error() else {
        let why = std::error::Error::source(&error).map(|it| format!(": {it}"));
        return StoreFault::Engine(format!("{error}{}", why.unwrap_or_default()));
    };
    let code = theirs.code().code();
    if code.starts_with("22") {
        return StoreFault::Engine(format!("{code}: a value that it does not take"));
    }
    StoreFault::Engine(format!("{code}: {}", theirs.message()))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::store::Database;

    /// Several processes, as the server sees them, with a table `t` of their own.
    fn processes<const N: usize>(name: &str) -> [Database; N] {
        let url = std::env::var("SHIKIRI_TEST_DATABASE").expect("it names a PostgreSQL");
        let url = format!("{url}&schema=engine_{name}_{}", std::process::id());
        let all = std::array::from_fn(|_| Database::on(Arc::new(Postgres::open(&url).unwrap())));
        let make = "CREATE TABLE t (name TEXT PRIMARY KEY, n BIGINT NOT NULL)";
        all[0].write(|sql| sql.run(make, &[])).unwrap();
        all
    }

    fn put(sql: &mut dyn Sql, name: &str, n: i64) -> Result<u64, StoreFault> {
        let text = "INSERT INTO t (name, n) VALUES ($1, $2)";
        sql.run(text, &[name.into(), n.into()])
    }

    fn count(sql: &mut dyn Sql) -> Result<i64, StoreFault> {
        sql.rows("SELECT COUNT(*) FROM t", &[])?.remove(0).int()
    }

    #[test]
    #[ignore = "needs a PostgreSQL: cargo xtask database"]
    fn writers_of_two_processes_follow_one_another() {
        let both: [_; 2] = processes("writers");
        both[0].write(|sql| put(sql, "a", 0)).unwrap();
        // What is read is gone on from, by the program and not by the engine.
        let more = |sql: &mut dyn Sql| {
            let n = sql.rows("SELECT n FROM t", &[])?.remove(0).int()?;
            sql.run("UPDATE t SET n = $1", &[(n + 1).into()])
        };
        thread::scope(|scope| {
            for process in both.iter().cycle().take(6) {
                scope.spawn(move || {
                    for _ in 0..40 {
                        process.write(more).unwrap();
                    }
                });
            }
        });
        let n = both[1].read(|sql| sql.rows("SELECT n FROM t", &[])?.remove(0).int());
        assert_eq!(n.unwrap(), 240);
    }

    #[test]
    #[ignore = "needs a PostgreSQL: cargo xtask database"]
    fn a_reader_sees_one_moment_and_waits_for_no_writer() {
        let both: [_; 2] = processes("readers");
        both[0]
            .read(|sql| {
                assert_eq!(count(sql)?, 0);
                both[0].write(|sql| put(sql, "a", 1))?;
                both[1].write(|sql| put(sql, "b", 1))?;
                assert_eq!(count(sql)?, 0, "as it was when the reading began");
                Ok(())
            })
            .unwrap();
        assert_eq!(both[0].read(count).unwrap(), 2);
    }

    #[test]
    #[ignore = "needs a PostgreSQL: cargo xtask database"]
    fn what_failed_is_not_committed_and_not_told_with_its_values() {
        let [one] = processes("failed");
        one.write(|sql| put(sql, "a-secret-name", 1)).unwrap();
        let gone_on = one.write(|sql| {
            put(sql, "b", 1)?;
            let again = put(sql, "a-secret-name", 1).unwrap_err().to_string();
            assert!(
                again.contains("23505") && again.contains("t_pkey"),
                "{again}"
            );
            assert!(!again.contains("a-secret-name"), "{again}");
            Ok(())
        });
        assert!(gone_on.is_err());
        assert_eq!(one.read(count).unwrap(), 1, "the first is not there either");
        let ended = one.write(|sql| put(sql, "nul\0 here", 1)).unwrap_err();
        assert!(!ended.to_string().contains("here"), "{ended}");
        one.write(|sql| put(sql, "c", 1)).unwrap();
        assert_eq!(one.read(count).unwrap(), 2);
    }

    #[test]
    #[ignore = "needs a PostgreSQL: cargo xtask database"]
    fn what_panicked_is_undone() {
        let [one] = processes("panicked");
        let died = catch_unwind(AssertUnwindSafe(|| {
            one.write(|sql| -> Result<(), StoreFault> {
                put(sql, "a", 1)?;
                std::panic::resume_unwind(Box::new("died"))
            })
        }));
        assert!(died.is_err());
        one.write(|sql| put(sql, "b", 1)).unwrap();
        assert_eq!(one.read(count).unwrap(), 1);
    }

    #[test]
    #[ignore = "needs a PostgreSQL: cargo xtask database"]
    fn a_connection_that_was_lost_is_made_anew() {
        let both: [_; 2] = processes("lost");
        let own = |sql: &mut dyn Sql| {
            let own = sql.rows("SELECT pg_backend_pid()", &[])?.remove(0).int()?;
            Ok(own)
        };
        let end = "SELECT CAST(pg_terminate_backend(CAST($1 AS INTEGER), 5000) AS TEXT)";
        let lost = [both[0].write(own).unwrap(), both[0].read(own).unwrap()];
        for id in lost {
            let ended = both[1].write(|sql| sql.rows(end, &[id.into()])?.remove(0).text());
            assert_eq!(ended.unwrap(), "true");
        }
        both[0].write(|sql| put(sql, "a", 1)).unwrap();
        assert_eq!(both[0].read(count).unwrap(), 1);
        assert!(!lost.contains(&both[0].write(own).unwrap()));
        // In the middle of the work it is an error, and the next begins anew.
        let cut = both[0].write(|sql| {
            let id = own(sql)?;
            both[1].read(|other| other.rows(end, &[id.into()]))?;
            put(sql, "b", 1)
        });
        assert!(cut.is_err());
        assert_eq!(both[0].read(count).unwrap(), 1);
        both[0].write(|sql| put(sql, "c", 1)).unwrap();
    }

    #[test]
    #[ignore = "needs a PostgreSQL: cargo xtask database"]
    fn over_tls_the_server_shows_that_it_is_the_one() {
        let said = |name: &str| std::env::var(name).expect("`cargo xtask database` says it");
        let at = |host: &str, words: &str| {
            format!(
                "{}&{words}",
                said("SHIKIRI_TEST_DATABASE_TLS").replace("HOST", host)
            )
        };
        let host = said("SHIKIRI_TEST_DATABASE_HOST");
        let is_tls = |url: &str| {
            let database = Database::on(Arc::new(Postgres::open(url)?));
            database.read(|sql| {
                let text = "SELECT CAST(ssl AS TEXT) FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                sql.rows(text, &[])?.remove(0).text()
            })
        };
        let roots = said("SHIKIRI_TEST_DATABASE_ROOTS");
        let believed = format!("sslmode=require&sslrootcert={roots}");
        assert_eq!(is_tls(&at(&host, &believed)).unwrap(), "true");
        assert_eq!(is_tls(&at(&host, "sslmode=disable")).unwrap(), "false");
        for (host, words) in [(&*host, "sslmode=require"), ("other.test", &*believed)] {
            let why = is_tls(&at(host, words)).unwrap_err().to_string();
            assert!(why.contains("certificate"), "{host} {words}: {why}");
        }
    }

    #[test]
    fn another_machine_is_asked_over_tls_alone() {
        for (url, tls) in [
            ("postgres://shop@localhost/shop", Some(false)),
            (
                "postgres://shop@127.0.0.1:5433/shop?schema=shop",
                Some(false),
            ),
            ("postgresql:///shop?host=/var/run/postgresql", Some(false)),
            ("postgres://shop:secret@db.example.test/shop", Some(true)),
            ("postgres://shop@10.0.0.5/shop?sslmode=disable", Some(false)),
            ("postgres://shop@localhost/shop?sslmode=require", Some(true)),
            ("postgres://shop@localhost,10.0.0.5/shop", Some(true)),
            ("postgres://shop@localhost/shop?schema=a\"b", None),
            ("postgres://shop@localhost/shop?schema=", None),
            (
                "postgres://shop@localhost/shop?sslrootcert=/nowhere&sslmode=require",
                None,
            ),
            ("postgres:///shop", None),
            ("shop:secret.sqlite", None),
        ] {
            let place = Place::parse(url);
            let found = place.as_ref().ok().map(|it| it.tls.is_some());
            assert_eq!(found, tls, "{url}");
            if let Err(why) = place {
                assert!(!why.to_string().contains("secret"), "{why}");
            }
        }
    }
}
