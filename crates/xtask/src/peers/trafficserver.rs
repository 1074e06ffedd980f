//! Apache Traffic Server.
//!
//! Never changes Debian's own files: they are copied, and the texts' lines of `records.config` come
//! after the package's, where the last one holds.
//!
//! Invariant: it runs under its manager, as its service does, since only the manager can reload.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::place::{Place, wait_until};
use super::{Peer, files, make_folder, packaged as file_of};
use crate::process::{Doing, Failure, output};

pub(super) const TRAFFIC_SERVER: Peer = Peer {
    name: "trafficserver",
    program: "usr/bin/traffic_manager",
    loads: &[
        "usr/bin/traffic_server",
        "usr/bin/traffic_ctl",
        "usr/lib/trafficserver/modules/header_rewrite.so",
    ],
    version: &["--version"],
    packaged: include_str!("trafficserver/packaged.config"),
    hurried: include_str!("trafficserver/hurried.config"),
    expert: include_str!("trafficserver/expert.config"),
    prepare,
    reload,
};

/// Lines for `records.config` that make it run here. The first has the client's `Host` reach the
/// origin, as it does with every other peer: it is a site's own, not an address of ours.
const FRAME: &str = "
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.http.server_ports STRING @PORT@:ip-in=127.0.0.1
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.body_factory.template_sets_dir STRING @FOLDER@/etc/body_factory
CONFIG proxy.config.http.wait_for_cache INT 1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 2
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.config_update_interval_ms INT 100
CONFIG proxy.config.diags.debug.tags STRING generation@GENERATION@
";

/// What it says when it has taken over what each text changes. Of the records it speaks only where
/// those of its diagnosis have changed: the frame's name for the generation has.
const RELOADED: [&str; 3] = [
    "updated diags config",
    "remap.config finished loading",
    "cache.config finished loading",
];

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    for folder in ["run", "log", "cache"] {
        place.make(folder)?;
    }
    copy_folder(&file_of("etc/trafficserver")?, &place.make("etc")?)?;
    place.write("etc/storage.config", "@FOLDER@/cache 32M\n")?;
    place.write("runroot.yaml", &run_root()?)?;
    write(place, configuration)?;
    manager(place, "usr/bin/traffic_manager")
}

/// Where it finds its programs and files: below the packages and below its folder.
fn run_root() -> Result<String, Failure> {
    let binaries = file_of("usr/bin")?;
    let libraries = file_of("usr/lib/trafficserver")?;
    let plugins = file_of("usr/lib/trafficserver/modules")?;
    Ok(format!(
        "prefix: @FOLDER@\nexec_prefix: @FOLDER@\nbindir: {0}\nsbindir: {0}\n\
         sysconfdir: @FOLDER@/etc\ndatadir: @FOLDER@/cache\nincludedir: @FOLDER@\nlibdir: {1}\n\
         libexecdir: {2}\nlocalstatedir: @FOLDER@/run\nruntimedir: @FOLDER@/run\n\
         logdir: @FOLDER@/log\nmandir: @FOLDER@\ninfodir: @FOLDER@\ncachedir: @FOLDER@/cache\n",
        binaries.display(),
        libraries.display(),
        plugins.display(),
    ))
}

/// A text's first lines are for `records.config`, the others for the files that it names.
fn write(place: &Place, configuration: &str) -> Result<(), Failure> {
    let records = file_of("etc/trafficserver/records.config")?;
    let records = fs::read_to_string(&records).doing("reading records.config")?;
    // What an earlier text said of them does not outlast it.
    place.write("etc/cache.config", "")?;
    place.write("etc/remap.config", "map / http://@ORIGIN@/\n")?;
    for (name, content) in files(configuration, "records.config") {
        let content = match name {
            "records.config" => format!("{records}\n{content}{FRAME}"),
            _ => content,
        };
        place.write(&format!("etc/{name}"), &content)?;
    }
    Ok(())
}

fn manager(place: &Place, program: &str) -> Result<Command, Failure> {
    let mut command = place.command(program)?;
    let run_root = place.folder.join("runroot.yaml");
    command.arg(format!("--run-root={}", run_root.display()));
    Ok(command)
}

fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    write(place, configuration)?;
    let loaded = || RELOADED.map(|line| place.read("log/diags.log").matches(line).count());
    let before = loaded();
    let mut command = manager(place, "usr/bin/traffic_ctl")?;
    output(command.args(["config", "reload"]))?;
    wait_until("trafficserver to load its files", || {
        before
            .iter()
            .zip(loaded())
            .all(|(before, now)| now > *before)
    })
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    make_folder(to)?;
    let doing = || format!("copying {}", from.display());
    for entry in fs::read_dir(from).doing(doing())? {
        let path = entry.doing(doing())?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).doing(doing())?;
        }
    }
    Ok(())
}
