//! `shikiri site`: the member store, and what follows from its declarations.
//!
//! Assembly alone: files, addresses and signals; what is served is decided in the crate `site`, which
//! knows nothing of the edge.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::future::Future;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shikiri_site::delivery::{Delivery, EdgeKey};
use shikiri_site::media::MediaBase;
use shikiri_site::pay::Processor;
use shikiri_site::pay::trial::Trial;
use shikiri_site::rest::{MESSAGE_BYTES_MAX, Rest};
use shikiri_site::router::Router;
use shikiri_site::serve::{Before, serve};
use shikiri_site::spool::Spool;
use shikiri_site::store::{Store, fill_with_samples};
use shikiri_site::ticket::Tickets;
use shikiri_site::{
    Around, Place, Places, Shop, control, jobs, pages_json, pages_text, policy, shop, shop_within,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::database::Database;
use crate::log::{Format, Levels};
use crate::processor::{self, Chosen};
use crate::{desk, log, parent, say, seed, shop_secrets};

#[derive(clap::Subcommand)]
#[command(after_help = "Examples:
  shikiri up                                        the store, its films and the edge, all at once
  shikiri site serve --data shop --sample           the store alone, with a sample catalogue
  shikiri site pages                                every page: class, method, path, whose data
  shikiri site deliver --data shop-media --tickets shop/tickets.secret
  shikiri site pages --policy > shop.toml           the policy that follows from the declarations
  shikiri edge --policy shop.toml \\
      --on-mode 'shikiri site told --data shop'     the edge before it, which tells it of its mode")]
pub(crate) enum Command {
    /// Serve the member store.
    Serve(ServeArgs),
    /// Serve its pictures and films, on another host: the delivery server.
    Deliver(DeliverArgs),
    /// Say what pages there are, as text, JSON or a policy for the edge.
    Pages(PagesArgs),
    /// Tell the store what an edge's hook was told, on standard input.
    Told(ToldArgs),
    /// What members are told and asked after an incident.
    #[command(subcommand)]
    Notices(desk::Notices),
    /// Videos that members posted.
    #[command(subcommand)]
    Posts(desk::Posts),
    /// Discs that leave and arrive.
    #[command(subcommand)]
    Orders(desk::Orders),
    /// Answer a member's enquiry.
    Answer(desk::AnswerArgs),
    /// Hold the store's books against the processor's statement.
    Books(desk::BooksArgs),
    /// Make a plausible store of any size, whose members are nobody.
    Seed(seed::Args),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri site serve --data shop --sample
      Listens on 127.0.0.1:8081 with a sample catalogue and two demo members.
  shikiri site serve --data shop --listen 127.0.0.1:0
      On a free port, which is printed.
  SHIKIRI_DATABASE=postgres://shop:…@db.example.test/shop shikiri site serve --data shop
      In PostgreSQL, over TLS (docs/site.md). The folder still holds the secret of tickets and what edges said.")]
pub(crate) struct ServeArgs {
    /// The data folder: the database, unless it is elsewhere, and what edges said last. Made when it is not
    /// there; one store at a time holds it.
    #[arg(long, value_name = "DIR", default_value = "shikiri-site")]
    data: PathBuf,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    processor: Chosen,
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Where members reach the store: the processor's payment page leads back there.
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080")]
    url: String,
    /// Where the payment page of the processor for trials listens, a site of its own. A free port of this
    /// machine when not given.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pay: SocketAddr,
    /// Where browsers find pictures and films: the delivery server, as the edge shows it.
    #[arg(long, value_name = "ORIGIN", default_value_t = MediaBase::of_trials())]
    media: MediaBase,
    /// The secret that the store has in common with the delivery server: `tickets.secret` in the data
    /// folder when not given. Made when it is not there.
    #[arg(long, value_name = "FILE")]
    tickets: Option<PathBuf>,
    /// Hand the store's mails over as files in DIR/new, as in a Maildir, for a mail server to pick up. They are
    /// written into the database and stay there when not given.
    #[arg(long, value_name = "DIR", requires = "mail_from")]
    mail_to: Option<PathBuf>,
    /// Who they are from.
    #[arg(long, value_name = "ADDRESS", requires = "mail_to")]
    mail_from: Option<String>,
    /// Fill an empty store with a sample catalogue and two demo members, whose password is known to
    /// everybody.
    #[arg(long)]
    sample: bool,
    /// Clients connect by themselves: there is no edge whose `X-Forwarded-For` is to be believed.
    #[arg(long)]
    direct: bool,
    #[command(flatten)]
    served: Served,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri site deliver --data shop-media --tickets shop/tickets.secret
      Listens on 127.0.0.1:8082. Films are answered to who has a ticket of the store in the path, and to an
      edge that shows the secret in shop-media/edge.secret as X-Edge-Key.")]
pub(crate) struct DeliverArgs {
    /// The data folder: its secrets. Made when it is not there.
    #[arg(long, value_name = "DIR", default_value = "shikiri-media")]
    data: PathBuf,
    /// Where to listen. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082")]
    listen: SocketAddr,
    /// Where browsers find it, through the edge.
    #[arg(long, value_name = "ORIGIN", default_value_t = MediaBase::of_trials())]
    media: MediaBase,
    /// The secret that it has in common with the store. Made when it is not there.
    #[arg(long, value_name = "FILE")]
    tickets: PathBuf,
    /// The secret that edges show: `edge.secret` in the data folder when not given. Made when it is not
    /// there.
    #[arg(long, value_name = "FILE")]
    edge_key: Option<PathBuf>,
    #[command(flatten)]
    served: Served,
}

/// Flags of whatever serves.
#[derive(clap::Args)]
pub(crate) struct Served {
    /// What to log to standard error: `error`, `warn`, `info` (when not given), `debug`, `trace`.
    #[arg(long, value_name = "LEVELS", default_value = "info")]
    log: Levels,
    /// The form of the log: `text` (when not given) or `json`.
    #[arg(long, value_name = "FORM")]
    log_format: Option<Format>,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri site pages
  shikiri site pages --policy > shop.toml
      For a store on 127.0.0.1:8081 and a delivery server on 127.0.0.1:8082, at localhost and media.localhost.
  shikiri site pages --policy --host shop.example.test --media https://media.example.test \\
      --store http://10.0.0.5:8081 --delivery http://10.0.0.6:8082 > shop.toml")]
pub(crate) struct PagesArgs {
    /// As a policy for the edge.
    #[arg(long, conflicts_with = "json")]
    policy: bool,
    /// Of the policy: the store's hosts, as browsers say them, without ports. May be given several times.
    #[arg(long, value_name = "HOST", default_values = HOSTS)]
    host: Vec<String>,
    /// Of the policy: where browsers find pictures and films.
    #[arg(long, value_name = "ORIGIN", default_value_t = MediaBase::of_trials())]
    media: MediaBase,
    /// Of the policy: where the edge reaches the store.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    store: String,
    /// Of the policy: where the edge reaches the delivery server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8082")]
    delivery: String,
    /// Of the policy: the file with the secret of tickets, for the edge to read.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "shikiri-site/tickets.secret"
    )]
    tickets: PathBuf,
    /// Of the policy: the file with what the edge shows to the delivery server.
    #[arg(long, value_name = "FILE", default_value = "shikiri-media/edge.secret")]
    edge_key: PathBuf,
    /// As JSON: for checks that crawl, and for who must know what personal data is where.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  shikiri edge --origin http://127.0.0.1:8081 --on-mode 'shikiri site told --data shop'
      While the edge is closed, the store charges no renewal and its jobs rest.")]
pub(crate) struct ToldArgs {
    /// The data folder of the running store.
    #[arg(long, value_name = "DIR", default_value = "shikiri-site")]
    data: PathBuf,
}

/// The hosts of a store on this machine.
pub(crate) const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// The socket in the data folder where edges tell their modes.
const TOLD: &str = "told.sock";

pub(crate) fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Serve(args) => serve_store(args),
        Command::Deliver(args) => serve_delivery(args),
        Command::Pages(args) => pages(args),
        Command::Told(args) => told(args),
        Command::Notices(command) => desk::notices(command),
        Command::Posts(command) => desk::posts(command),
        Command::Orders(command) => desk::orders(command),
        Command::Answer(args) => desk::answer(args),
        Command::Books(args) => desk::books(args),
        Command::Seed(args) => seed::run(args),
    }
}

fn serve_store(args: &ServeArgs) -> Result<(), String> {
    args.served.begin()?;
    let folder = Folder::open(&args.data)?;
    let store = args.database.open(&args.data)?;
    if args.sample {
        fill_with_samples(&store).map_err(|fault| format!("the samples: {fault}"))?;
    }
    let rest = Rest::kept_in(&folder.join("rest.json"));
    let (processor, trial) = match args.processor.stripe()? {
        Some(stripe) => (Arc::new(stripe) as Arc<dyn Processor>, None),
        None => {
            let page = PaymentPage::open(args)?;
            (
                Arc::<Trial>::clone(&page.trial) as Arc<dyn Processor>,
                Some(page),
            )
        }
    };
    let tickets = args.tickets.clone();
    let tickets = tickets.unwrap_or_else(|| folder.join("tickets.secret"));
    let around = Around {
        rest: rest.clone(),
        processor,
        url: args.url.clone(),
        media: args.media.clone(),
        tickets: Tickets::of(&shop_secrets::read_or_make(&tickets)?),
        mails: args.mails()?,
    };
    let shop = shop_within(around, store).map_err(|fault| fault.to_string())?;
    let shop = Arc::new(shop);
    let before = if args.direct {
        Before::Nobody
    } else {
        Before::Edge
    };
    runtime()?.block_on(async {
        let socket = folder.join(TOLD);
        let told = control::open(&socket)
            .map_err(|error| format!("cannot listen on {}: {error}", socket.display()))?;
        let telling = tokio::spawn(control::listen(told, rest));
        let listener = listener(args.listen).await?;
        let paying = trial.map(PaymentPage::serve).transpose()?;
        let working = tokio::spawn(jobs(Arc::clone(&shop)));
        let served = serve(listener, shop, before, stop()?).await;
        telling.abort();
        working.abort();
        if let Some(paying) = paying {
            paying.abort();
        }
        drop(fs::remove_file(&socket));
        served.map_err(|error| format!("cannot serve: {error}"))
    })?;
    tracing::info!("stopped");
    Ok(())
}

impl ServeArgs {
    fn mails(&self) -> Result<Option<Arc<Spool>>, String> {
        let (Some(folder), Some(from)) = (&self.mail_to, &self.mail_from) else {
            return Ok(None);
        };
        let spool = Spool::open(folder.clone(), from);
        spool
            .map(|it| Some(Arc::new(it)))
            .map_err(|why| format!("{}: {why}", folder.display()))
    }
}

/// The page of the processor for trials, a site of its own.
struct PaymentPage {
    trial: Arc<Trial>,
    at: SocketAddr,
    listener: std::net::TcpListener,
}

impl PaymentPage {
    fn open(args: &ServeArgs) -> Result<Self, String> {
        let listener = std::net::TcpListener::bind(args.pay)
            .and_then(|it| it.set_nonblocking(true).map(|()| it))
            .and_then(|it| Ok((it.local_addr()?, it)));
        let (at, listener) =
            listener.map_err(|error| format!("cannot listen on {}: {error}", args.pay))?;
        let books = processor::books(&args.data);
        let trial = Trial::open(&books, &format!("http://{at}"));
        let trial = Arc::new(trial.map_err(|fault| format!("{}: {fault}", books.display()))?);
        Ok(Self {
            trial,
            at,
            listener,
        })
    }

    fn serve(self) -> Result<JoinHandle<std::io::Result<()>>, String> {
        say(&format!("payments on http://{}\n", self.at))?;
        let listener = TcpListener::from_std(self.listener)
            .map_err(|error| format!("cannot listen on {}: {error}", self.at))?;
        Ok(tokio::spawn(serve(
            listener,
            self.trial,
            Before::Nobody,
            stop()?,
        )))
    }
}

fn serve_delivery(args: &DeliverArgs) -> Result<(), String> {
    args.served.begin()?;
    let folder = Folder::open(&args.data)?;
    let tickets = shop_secrets::read_or_make(&args.tickets)?;
    let edge = args.edge_key.clone();
    let edge = edge.unwrap_or_else(|| folder.join("edge.secret"));
    let edge = EdgeKey::of(&shop_secrets::read_or_make(&edge)?);
    let delivery = Delivery::new(args.media.clone(), edge, Tickets::of(&tickets))
        .map_err(|fault| fault.to_string())?;
    runtime()?.block_on(async {
        let listener = listener(args.listen).await?;
        let served = serve(listener, Arc::new(delivery), Before::Edge, stop()?).await;
        served.map_err(|error| format!("cannot serve: {error}"))
    })?;
    tracing::info!("stopped");
    Ok(())
}

/// The policy that follows from the declarations.
///
/// # Errors
/// The declarations contradict each other.
pub(crate) fn written_policy(
    hosts: &[String],
    media: &MediaBase,
    store: &str,
    delivery: &str,
    [tickets, edge_key]: [&Path; 2],
) -> Result<String, String> {
    let whole = |file: &Path| {
        let whole =
            std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let text = whole.to_str().map(str::to_owned);
        text.ok_or_else(|| format!("{} is no UTF-8", whole.display()))
    };
    let places = Places {
        store: Place {
            hosts: hosts.to_vec(),
            url: store.to_owned(),
        },
        delivery: Place {
            hosts: vec![media.host().to_owned()],
            url: delivery.to_owned(),
        },
        tickets: whole(tickets)?,
        edge_key: whole(edge_key)?,
    };
    declared(|shop, films| policy(shop.pages(), films.pages(), Some(&places)))
}

/// What is made from the declarations, of a store with nothing in it.
fn declared<T>(make: impl FnOnce(&Router<Shop>, &Delivery) -> T) -> Result<T, String> {
    let store = Store::in_memory().map_err(|fault| fault.to_string())?;
    let shop = shop(store).map_err(|fault| fault.to_string())?;
    let around = Around::nothing().map_err(|fault| fault.to_string())?;
    let delivery = Delivery::new(around.media, EdgeKey::of(b""), around.tickets)
        .map_err(|fault| fault.to_string())?;
    Ok(make(&shop, &delivery))
}

fn pages(args: &PagesArgs) -> Result<(), String> {
    let text = if args.policy {
        let secrets = [&*args.tickets, &*args.edge_key];
        written_policy(
            &args.host,
            &args.media,
            &args.store,
            &args.delivery,
            secrets,
        )?
    } else if args.json {
        let list = declared(|shop, films| pages_json(shop.pages(), films.pages()))?;
        format!("{list:#}\n")
    } else {
        declared(|shop, films| pages_text(shop.pages(), films.pages()))?
    };
    say(&text)
}

fn told(args: &ToldArgs) -> Result<(), String> {
    let mut message = Vec::new();
    let most = u64::try_from(MESSAGE_BYTES_MAX + 1).expect("it is a small number");
    std::io::stdin()
        .lock()
        .take(most)
        .read_to_end(&mut message)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    let socket = args.data.join(TOLD);
    let telling = control::tell(&socket, &message);
    runtime()?.block_on(telling).map_err(|error| {
        let socket = socket.display();
        format!("the store at {socket} has not heard it: {error}")
    })
}

/// A data folder that this process alone holds, for as long as it lives.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Opens it for its owner alone, and makes it where there is none.
    ///
    /// # Errors
    /// It cannot be made, or another process holds it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let cannot = |error| format!("cannot use the folder {}: {error}", path.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(cannot)?;
        let lock = File::create(path.join("lock")).map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "another process holds the folder {}: stop it, or choose another with --data",
                path.display()
            )),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
        }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Served {
    fn begin(&self) -> Result<(), String> {
        log::start(&self.log, self.log_format.unwrap_or_default());
        if self.until_stdin_ends {
            parent::stop_with_stdin()?;
        }
        Ok(())
    }
}

/// Listens, and says where on standard output.
async fn listener(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let address = listener
        .local_addr()
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    say(&format!("listening on http://{address}\n"))?;
    Ok(listener)
}

/// Done when this process is told to stop.
fn stop() -> Result<impl Future<Output = ()>, String> {
    let handler = |kind| signal(kind).map_err(|error| format!("cannot handle signals: {error}"));
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

pub(crate) fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}
