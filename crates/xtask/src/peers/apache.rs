//! Apache httpd with mod_cache and mod_cache_disk.
//!
//! Never loads a module that the package does not bring.
//!
//! Invariant: a reload is over when the workers of before have ended.

use std::path::PathBuf;
use std::process::Command;

use super::{Peer, packaged as file_of, place::Place};
use crate::process::{Failure, output};

pub(super) const APACHE: Peer = Peer {
    name: "apache",
    program: "usr/sbin/apache2",
    loads: &[
        "usr/lib/apache2/modules/mod_cache_disk.so",
        "usr/lib/apache2/modules/mod_proxy_http.so",
    ],
    version: &["-v"],
    packaged: include_str!("apache/packaged.conf"),
    hurried: include_str!("apache/hurried.conf"),
    expert: include_str!("apache/expert.conf"),
    prepare,
    reload,
};

/// Debian's `apache2.conf` without what names the machine's folders and users, and the modules of
/// `a2enmod proxy_http cache_disk headers`.
const FRAME: &str = "\
ServerRoot @FOLDER@
DefaultRuntimeDir @FOLDER@
PidFile @FOLDER@/apache.pid
ErrorLog @FOLDER@/error.log
LogLevel warn
Mutex file:@FOLDER@ default
ServerName peer.test
Listen @LISTEN@
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
HostnameLookups Off
LoadModule mpm_event_module @MODULES@/mod_mpm_event.so
LoadModule authz_core_module @MODULES@/mod_authz_core.so
LoadModule env_module @MODULES@/mod_env.so
LoadModule setenvif_module @MODULES@/mod_setenvif.so
LoadModule headers_module @MODULES@/mod_headers.so
LoadModule proxy_module @MODULES@/mod_proxy.so
LoadModule proxy_http_module @MODULES@/mod_proxy_http.so
LoadModule cache_module @MODULES@/mod_cache.so
LoadModule cache_disk_module @MODULES@/mod_cache_disk.so
StartServers 1
ThreadsPerChild 25
MinSpareThreads 25
MaxSpareThreads 75
<Directory />
    Options FollowSymLinks
    AllowOverride None
    Require all denied
</Directory>
CacheRoot @FOLDER@/cache
CacheDirLevels 2
CacheDirLength 1
";

fn write(place: &Place, configuration: &str) -> Result<PathBuf, Failure> {
    let modules = file_of("usr/lib/apache2/modules")?;
    let frame = FRAME.replace("@MODULES@", &modules.to_string_lossy());
    place.write("apache2.conf", &format!("{frame}{configuration}"))
}

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    place.make("cache")?;
    let text = write(place, configuration)?;
    let mut command = place.command(APACHE.program)?;
    command.args(["-D", "FOREGROUND", "-f"]).arg(text);
    Ok(command)
}

/// As `apachectl graceful`, which sends this signal.
fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    let text = write(place, configuration)?;
    output(place.command(APACHE.program)?.args(["-t", "-f"]).arg(text))?;
    place.replace_children("USR1")
}
