//! Who takes money for the member store: the processor for trials, or Stripe.
//!
//! Invariant: Stripe's secret is read from a file of its owner's alone, and never printed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shikiri_site::pay::Processor;
use shikiri_site::pay::stripe::{STRIPE, Stripe};
use shikiri_site::pay::trial::Trial;

use crate::shop_secrets;

#[derive(clap::Args)]
pub(crate) struct Chosen {
    /// Take payments by Stripe, with the secret in this file, which nobody but its owner can read. Without
    /// it the processor for trials is used, which moves no money (docs/site.md).
    #[arg(long, value_name = "FILE")]
    stripe: Option<PathBuf>,
    /// A stand-in for Stripe on this machine.
    #[arg(long, value_name = "URL", default_value = STRIPE, requires = "stripe", hide = true)]
    stripe_at: String,
}

impl Chosen {
    /// Stripe, if it was chosen.
    ///
    /// # Errors
    /// The secret cannot be read.
    pub(crate) fn stripe(&self) -> Result<Option<Stripe>, String> {
        let Some(file) = &self.stripe else {
            return Ok(None);
        };
        let secret = String::from_utf8(shop_secrets::read(file)?)
            .map_err(|_| format!("{} is no secret of Stripe's", file.display()))?;
        let stripe = Stripe::at(&self.stripe_at, &secret);
        stripe
            .map(Some)
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// The one that was chosen, for what is done beside the store that serves.
    ///
    /// # Errors
    /// The secret, or the books of trials, cannot be read.
    pub(crate) fn open(&self, data: &Path) -> Result<Arc<dyn Processor>, String> {
        if let Some(stripe) = self.stripe()? {
            return Ok(Arc::new(stripe));
        }
        let books = books(data);
        let trial = Trial::open(&books, "http://localhost");
        Ok(Arc::new(trial.map_err(|fault| {
            format!("{}: {fault}", books.display())
        })?))
    }
}

/// Where the processor for trials keeps its books.
pub(crate) fn books(data: &Path) -> PathBuf {
    data.join("processor.sqlite")
}
