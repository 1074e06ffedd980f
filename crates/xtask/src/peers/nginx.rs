//! nginx.
//!
//! Never sets anything about caching but what the texts say; the frame is Debian's `nginx.conf`
//! without what names the machine's folders, users and log files.
//!
//! Invariant: a reload is over when the workers of before have ended: only then is no connection
//! judged by the old text.

use std::process::Command;

use super::{Peer, place::Place};
use crate::process::{Failure, output};

pub(super) const NGINX: Peer = Peer {
    name: "nginx",
    program: "usr/sbin/nginx",
    loads: &[],
    version: &["-v"],
    packaged: include_str!("nginx/packaged.conf"),
    hurried: include_str!("nginx/hurried.conf"),
    expert: include_str!("nginx/expert.conf"),
    prepare,
    reload,
};

/// One whose log has the order in which it worked: several processes read the same clock at times of their own.
pub(crate) const NGINX_OF_ONE_PROCESS: Peer = Peer {
    prepare: prepare_one_process,
    ..NGINX
};

const FRAME: &str = "\
daemon off;
worker_processes 2;
pid @FOLDER@/nginx.pid;
error_log @FOLDER@/error.log;
events {
    worker_connections 768;
}
http {
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    include @PACKAGES@/etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log off;
    gzip on;

    client_body_temp_path @FOLDER@/body;
    proxy_temp_path @FOLDER@/proxy;
    fastcgi_temp_path @FOLDER@/fastcgi;
    uwsgi_temp_path @FOLDER@/uwsgi;
    scgi_temp_path @FOLDER@/scgi;

    # Here and not in the texts: nginx refuses a reload that says anything else of a store.
    proxy_cache_path @FOLDER@/cache levels=1:2 keys_zone=pages:10m use_temp_path=off;

    include @FOLDER@/policy.conf;
}
";

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    place.write("policy.conf", configuration)?;
    place.write("nginx.conf", FRAME)?;
    command(place)
}

fn prepare_one_process(place: &Place, configuration: &str) -> Result<Command, Failure> {
    place.write("policy.conf", configuration)?;
    place.write(
        "nginx.conf",
        &FRAME.replace("worker_processes 2", "worker_processes 1"),
    )?;
    command(place)
}

fn command(place: &Place) -> Result<Command, Failure> {
    let mut command = place.command(NGINX.program)?;
    command.arg("-p").arg(&place.folder);
    command.arg("-c").arg(place.folder.join("nginx.conf"));
    command.arg("-e").arg(place.folder.join("error.log"));
    Ok(command)
}

/// As `nginx -s reload`, which sends this signal.
fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    place.write("policy.conf", configuration)?;
    output(command(place)?.arg("-t"))?;
    place.replace_children("HUP")
}
