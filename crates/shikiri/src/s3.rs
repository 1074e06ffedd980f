//! Object storage that speaks S3, as a place for the archive.
//!
//! Signing is rusty-s3's; the connection is hyper's, one for each request, since there are few and they
//! are large. Never prints a credential or a signed URL. Invariant: what does not end with the status
//! that means success is a failure, and is told with what the storage said.

use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use rusty_s3::actions::{GetObject, PutObject, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use shikiri_archive::ArchivePlace;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::ArchiveSection;
use crate::secret_file;

/// How long a signature holds.
const SIGNED: Duration = Duration::from_secs(60 * 60);

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the storage may be silent.
const SILENT: Duration = Duration::from_secs(60);

/// How long to wait before each further try.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How much of what the storage says of a failure is read.
const SAID_BYTES_MAX: usize = 4 << 10;

/// A bucket, and where in it.
pub(crate) struct S3 {
    bucket: Bucket,
    prefix: String,
    credentials: Option<Credentials>,
    tls: Arc<ClientConfig>,
    runtime: Runtime,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3({})", self.shown())
    }
}

impl S3 {
    /// Of `s3://BUCKET/PREFIX`.
    ///
    /// # Errors
    /// In words for the operator: it is none, or the credentials cannot be read.
    pub(crate) fn open(
        to: &str,
        section: &ArchiveSection,
        credentials: Option<&Path>,
    ) -> Result<Self, String> {
        let rest = to.strip_prefix("s3://").unwrap_or(to);
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let region = section.region.clone();
        let region = region.or_else(|| std::env::var("AWS_REGION").ok());
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        let endpoint = section.endpoint.clone();
        let endpoint = endpoint.or_else(|| std::env::var("AWS_ENDPOINT_URL").ok());
        // Storage that is not the inventor's seldom has a name for each bucket.
        let style = match endpoint {
            Some(_) => UrlStyle::Path,
            None => UrlStyle::VirtualHost,
        };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let wrong = |why: String| format!("`{to}` at {endpoint}: {why}");
        let url: url::Url = endpoint.parse().map_err(|_| {
            wrong("the endpoint is no URL: write https://HOST[:PORT] or http://HOST[:PORT]".into())
        })?;
        let bucket = Bucket::new(url, style, name.to_owned(), region);
        let bucket = bucket.map_err(|error| wrong(error.to_string()))?;
        let credentials = match credentials {
            Some(file) => Some(read(file)?),
            None => Credentials::from_env(),
        };
        if credentials.is_none() {
            return Err(
                "there are no credentials for object storage: set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY, or name a file with `credentials` in `[archive]`"
                    .into(),
            );
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            bucket,
            prefix: prefix.trim_matches('/').to_owned(),
            credentials,
            tls: tls(),
            runtime: runtime.map_err(|error| format!("cannot start: {error}"))?,
        })
    }

    fn object(&self, name: &str) -> String {
        match &*self.prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }

    /// Asks, again where it may help, and takes what is answered.
    fn ask(
        &self,
        method: Method,
        object: &str,
        file: Option<&Path>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut pauses = PAUSES.iter();
        loop {
            // A file that has been taken in part cannot be asked for again.
            let mut taken = false;
            let mut took = |piece: &[u8]| {
                taken = true;
                take(piece)
            };
            let asked = self.once(method.clone(), object, file, &mut took);
            let failed = match self.runtime.block_on(asked) {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            match (failed, pauses.next()) {
                (Failed::Again(_), Some(pause)) if !taken => std::thread::sleep(*pause),
                (Failed::Again(why) | Failed::ForGood(why), _) => {
                    return Err(format!("{} of {}: {why}", method, self.named(object)));
                }
            }
        }
    }

    fn named(&self, object: &str) -> String {
        format!("s3://{}/{object}", self.bucket.name())
    }

    async fn once(
        &self,
        method: Method,
        object: &str,
        file: Option<&Path>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), Failed> {
        let credentials = self.credentials.as_ref();
        let url = if method == Method::PUT {
            PutObject::new(&self.bucket, credentials, object).sign(SIGNED)
        } else {
            GetObject::new(&self.bucket, credentials, object).sign(SIGNED)
        };
        let (body, bytes) = match file {
            None => (FileBody::empty(), 0),
            Some(path) => FileBody::of(path).map_err(|error| {
                Failed::ForGood(format!("cannot read {}: {error}", path.display()))
            })?,
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("shikiri/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_LENGTH, bytes)
            .body(body)
            .map_err(|error| Failed::ForGood(error.to_string()))?;
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let connect = TcpStream::connect((bare.clone(), port));
        let stream = within(CONNECT, "cannot connect", connect).await?;
        if url.scheme() == "https" {
            let name = ServerName::try_from(bare)
                .map_err(|_| Failed::ForGood(format!("`{host}` is no server's name")))?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let stream = within(CONNECT, "no TLS", connector.connect(name, stream)).await?;
            exchange(stream, request, take).await
        } else {
            exchange(stream, request, take).await
        }
    }
}

impl ArchivePlace for S3 {
    fn put(&self, name: &str, file: &Path) -> Result<(), String> {
        self.ask(Method::PUT, &self.object(name), Some(file), &mut |_| Ok(()))
    }

    fn get(
        &self,
        name: &str,
        take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.ask(Method::GET, &self.object(name), None, take)
    }

    fn shown(&self) -> String {
        self.named(&self.prefix)
    }
}

/// Why it did not work, and whether it may later.
enum Failed {
    Again(String),
    ForGood(String),
}

async fn exchange<S>(
    stream: S,
    request: Request<FileBody>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let again = |error: hyper::Error| Failed::Again(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(again)?;
    let connection = tokio::spawn(connection);
    // A slow line is no silence: so much more for each MiB.
    let size = request.body().left;
    let patient = SILENT + Duration::from_secs(size / (1 << 20) * 10);
    let response = within(patient, "no answer", sender.send_request(request)).await?;
    let status = response.status();
    let mut body = response.into_body();
    let done = if status.is_success() {
        pieces(&mut body, take).await
    } else {
        Err(refused(status, &mut body).await)
    };
    connection.abort();
    done
}

async fn pieces(
    body: &mut Incoming,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), Failed> {
    loop {
        let Ok(frame) = timeout(SILENT, body.frame()).await else {
            return Err(Failed::Again("it fell silent".into()));
        };
        match frame {
            None => return Ok(()),
            Some(Err(error)) => return Err(Failed::Again(error.to_string())),
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    take(piece).map_err(Failed::ForGood)?;
                }
            }
        }
    }
}

/// What the storage says of a failure: its status, and the code and message of its XML.
async fn refused(status: StatusCode, body: &mut Incoming) -> Failed {
    let mut said = Vec::new();
    while said.len() < SAID_BYTES_MAX {
        match timeout(SILENT, body.frame()).await {
            Ok(Some(Ok(frame))) => said.extend(frame.into_data().unwrap_or_default()),
            _ => break,
        }
    }
    let said = String::from_utf8_lossy(&said);
    let part = |name: &str| {
        let (_, rest) = said.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    let words = [part("Code"), part("Message")];
    let words: Vec<String> = words.into_iter().flatten().collect();
    let why = format!("{status} {}", words.join(": "));
    let may_help = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    if may_help {
        Failed::Again(why)
    } else {
        Failed::ForGood(why)
    }
}

async fn within<T, E: std::fmt::Display>(
    limit: Duration,
    what: &str,
    done: impl Future<Output = Result<T, E>>,
) -> Result<T, Failed> {
    match timeout(limit, done).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failed::Again(format!("{what}: {error}"))),
        Err(_) => Err(Failed::Again(format!(
            "{what} within {} s",
            limit.as_secs()
        ))),
    }
}

/// A file as a request's body, piece by piece.
struct FileBody {
    file: Option<File>,
    left: u64,
}

impl FileBody {
    const PIECE_BYTES: u64 = 256 << 10;

    const fn empty() -> Self {
        Self {
            file: None,
            left: 0,
        }
    }

    fn of(path: &Path) -> std::io::Result<(Self, u64)> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let body = Self {
            file: Some(file),
            left,
        };
        Ok((body, left))
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let length = self.left.min(Self::PIECE_BYTES);
        let Some(file) = self.file.as_mut().filter(|_| length > 0) else {
            return Poll::Ready(None);
        };
        let mut piece = vec![0; usize::try_from(length).expect("a piece is small")];
        // Nothing else waits for this thread.
        if let Err(error) = file.read_exact(&mut piece) {
            return Poll::Ready(Some(Err(error)));
        }
        self.left -= length;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What the machine trusts; `SSL_CERT_FILE` names others.
fn tls() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for root in rustls_native_certs::load_native_certs().certs {
        // One that cannot be read vouches for nobody.
        drop(roots.add(root));
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Credentials in a file: lines `aws_access_key_id = …`, `aws_secret_access_key = …` and perhaps
/// `aws_session_token = …`, as other programs have them.
fn read(path: &Path) -> Result<Credentials, String> {
    const BYTES_MAX: usize = 16 << 10;
    let shown = path.display();
    let since = "with them anybody can read the archive, and destroy it";
    let found = secret_file::read(path, "credentials", since, BYTES_MAX)?;
    let found = found.ok_or_else(|| format!("there are no credentials {shown}"))?;
    let text = String::from_utf8_lossy(&found);
    let value = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let mut found = lines.filter(|(key, _)| key.trim() == name);
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(key), Some(secret)) => Ok(match value("aws_session_token") {
            Some(token) => Credentials::new_with_token(key, secret, token),
            None => Credentials::new(key, secret),
        }),
        _ => Err(format!(
            "the credentials {shown} have no lines `aws_access_key_id = …` and \
             `aws_secret_access_key = …`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn credentials_are_read_from_a_file_that_nobody_else_may_read() {
        let path = std::env::temp_dir().join(format!("shikiri-s3-{}", std::process::id()));
        fs::write(
            &path,
            "[default]\naws_access_key_id = A\naws_secret_access_key=B\n",
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).unwrap_err().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let found = read(&path).unwrap();
        assert_eq!(
            (found.key(), found.secret(), found.token()),
            ("A", "B", None)
        );
        fs::write(&path, "aws_access_key_id = A\n").unwrap();
        assert!(read(&path).unwrap_err().contains("aws_secret_access_key"));
        fs::remove_file(&path).unwrap();
    }
}
