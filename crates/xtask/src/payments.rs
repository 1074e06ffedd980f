//! `cargo xtask payments`: the store's client of Stripe against a stand-in that is somebody else's.
//!
//! localstripe speaks HTTP and keeps payments, refunds and customers as Stripe does. It has no payment page,
//! lists nothing by customer, and does not know a key again: that part of the client is not seen here.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::database::tests;
use crate::edge::free_port;
use crate::process::{Doing, Failure, end, root, run as run_command, wait_until_it_starts};
use crate::setup;

const BEGINS_WITHIN: Duration = Duration::from_secs(30);

/// # Errors
/// The stand-in could not be started, or a test failed on it.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let found = tests(arguments)?;
    let test = found
        .into_iter()
        .find(|(name, _)| name == "stripe")
        .ok_or_else(|| Failure::new("the store has no test of this name"))?;
    let at = free_port()?;
    let mut serve = Command::new("python3");
    serve
        .args(["-m", "localstripe", "--from-scratch", "--port"])
        .arg(at.port().to_string())
        .env("PYTHONPATH", setup::localstripe_path()?)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut server = serve.spawn().doing("starting localstripe")?;
    let listens = || TcpStream::connect(at).is_ok();
    let begins = wait_until_it_starts("localstripe", &mut server, BEGINS_WITHIN, listens);
    let done = begins.and_then(|()| {
        let mut run = Command::new(&test.1);
        run.args(["--quiet", "--include-ignored"])
            .current_dir(root().join("crates/site"))
            .env("SHIKIRI_TEST_STRIPE", at.to_string());
        run_command(&mut run)
    });
    end(&mut server);
    done
}
