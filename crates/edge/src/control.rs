//! The control socket: purge, reload, counts. A Unix socket that only its owner can open.
//!
//! HTTP over it, so that `curl --unix-socket` works too. It can make the node ask origins again and
//! read the policy file again; it cannot loosen anything.

use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use shikiri_partition::Rules;
use tokio::net::UnixListener;

use crate::node::Node;

/// What a reload does: reads and compiles the policy again, or says why not.
pub type Reload = Arc<dyn Fn() -> Result<Rules, String> + Send + Sync>;

/// Puts the policy in force again from its source; the old one stays when the new one is no policy.
///
/// # Errors
/// What is wrong with the new policy.
pub fn reload(node: &Node, read: &Reload) -> Result<String, String> {
    match read() {
        Ok(rules) => {
            let digest = rules.digest();
            node.reload(rules);
            tracing::info!(%digest, "rules in force");
            Ok(format!("rules in force: {digest}\n"))
        }
        Err(why) => {
            tracing::error!("the new policy is refused and the old one stays in force:\n{why}");
            Err(format!(
                "the new policy is refused, the old one stays in force:\n{why}\n"
            ))
        }
    }
}

/// Binds the control socket. A stale one is replaced; a live one is not.
///
/// # Errors
/// When the path is taken by a live socket or by something else, or cannot be made.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::FileTypeExt;
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it exists and is no socket",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another node answers there",
            ));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the control socket for ever.
pub async fn serve(listener: UnixListener, node: Arc<Node>, read: Reload) {
    let owner = std::fs::metadata("/proc/self")
        .ok()
        .map(|m| std::os::unix::fs::MetadataExt::uid(&m));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        // The mode of the file keeps others out; this holds also while it was being set.
        let peer = stream.peer_cred().ok().map(|cred| cred.uid());
        if peer.is_none() || (peer != owner && peer != Some(0)) {
            tracing::warn!("a control connection of another user was refused");
            continue;
        }
        let (node, read) = (Arc::clone(&node), Arc::clone(&read));
        let service = service_fn(move |request| {
            let (node, read) = (Arc::clone(&node), Arc::clone(&read));
            async move { Ok::<_, Infallible>(answer(&node, &read, request).await) }
        });
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
            {
                tracing::debug!(%error, "a control connection ended");
            }
        });
    }
}

async fn answer(
    node: &Arc<Node>,
    read: &Reload,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    const BODY_BYTES_MAX: usize = 1 << 20;
    let (parts, body) = request.into_parts();
    match (parts.method, parts.uri.path()) {
        (Method::GET, "/status") => text(StatusCode::OK, status(node)),
        (Method::POST, "/purge-all") => {
            let epoch = node.purge_all();
            tracing::info!(%epoch, "everything purged");
            text(
                StatusCode::OK,
                format!("everything is purged; epoch {epoch}\n"),
            )
        }
        (Method::POST, "/purge") => {
            let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "at most 1 MiB of URLs\n".into(),
                );
            };
            match purge(node, &String::from_utf8_lossy(&body.to_bytes())) {
                Ok(said) => text(StatusCode::OK, said),
                Err(why) => text(StatusCode::BAD_REQUEST, why),
            }
        }
        (Method::POST, "/reload") => match reload(node, read) {
            Ok(said) => text(StatusCode::OK, said),
            Err(why) => text(StatusCode::CONFLICT, why),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "GET /status, POST /purge (URLs, one a line), POST /purge-all, POST /reload\n".into(),
        ),
    }
}

/// Purges URLs, one a line; all of them, or none when one cannot be read.
fn purge(node: &Node, lines: &str) -> Result<String, String> {
    let stance = node.stance();
    let mut said = String::new();
    let mut all = Vec::new();
    for (n, line) in lines
        .lines()
        .map(str::trim)
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        let uris = stance
            .rules
            .purge_uris(line)
            .map_err(|why| format!("line {}: {why}\n", n + 1))?;
        all.extend(uris);
    }
    if all.is_empty() {
        return Err("no URL was given\n".into());
    }
    let freed = node.purge(&all);
    for uri in &all {
        writeln!(said, "purged {uri} (every variant)").expect("a string can be written to");
    }
    writeln!(said, "{freed} stored objects freed").expect("a string can be written to");
    tracing::info!(uris = all.len(), freed, "purged");
    Ok(said)
}

fn status(node: &Node) -> String {
    let stance = node.stance();
    let c = node.counts();
    format!(
        "rules {}\nepoch {}\nrequests {}\nrunning {}\nhits {}\nstale {}\ncollapsed {}\nfills {}\nrelays {}\n\
         passes {}\nrefused {}\nfailures {}\ninvalidations-dropped {}\nobjects {}\nbytes {}\nfilling {}\n",
        stance.rules.digest(),
        stance.epoch,
        c.requests,
        c.running,
        c.hits,
        c.stale,
        c.collapsed,
        c.fills,
        c.relays,
        c.passes,
        c.refused,
        c.failures,
        c.invalidations_dropped,
        c.objects,
        c.bytes,
        c.filling,
    )
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
