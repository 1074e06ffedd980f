//! Where the member store's database is: a file in its data folder, or a PostgreSQL.
//!
//! Invariant: an address is never printed, since a password may be in it.

use std::path::Path;

use shikiri_site::store::Store;

#[derive(clap::Args)]
pub(crate) struct Database {
    /// Keep the store in this PostgreSQL instead of a file in the data folder:
    /// `postgres://user:password@host:port/database?schema=shop` (docs/site.md). What is on a command line can
    /// be read by everybody on the machine: give an address with a password by the environment.
    #[arg(
        long,
        value_name = "URL",
        env = VARIABLE,
        hide_env_values = true
    )]
    database: Option<String>,
}

pub(crate) const VARIABLE: &str = "SHIKIRI_DATABASE";

const FILE: &str = "store.sqlite";

impl Database {
    /// Opens it, and makes its tables where there are none.
    ///
    /// # Errors
    /// It cannot be opened, or this program was built without PostgreSQL.
    pub(crate) fn open(&self, data: &Path) -> Result<Store, String> {
        if let Some(url) = &self.database {
            return postgres(url);
        }
        let file = data.join(FILE);
        Store::open(&file).map_err(|fault| format!("{}: {fault}", file.display()))
    }

    /// Opens the store of a folder that is there.
    ///
    /// # Errors
    /// There is no store in it; and those of [`Self::open`].
    pub(crate) fn open_existing(&self, data: &Path) -> Result<Store, String> {
        let needed = match self.database {
            Some(_) => data.to_owned(),
            None => data.join(FILE),
        };
        if !needed.exists() {
            return Err(format!(
                "there is no store in {}: give its folder with --data",
                data.display()
            ));
        }
        self.open(data)
    }
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<Store, String> {
    Store::postgres(url).map_err(|fault| format!("the store in PostgreSQL: {fault}"))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Result<Store, String> {
    Err("this program was built without PostgreSQL: build it with `--features postgres`, or leave out --database \
         for a file in the data folder"
        .to_owned())
}
