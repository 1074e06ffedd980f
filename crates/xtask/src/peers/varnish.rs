//! Varnish.
//!
//! Never replaces the built-in rules: Varnish appends them to every subroutine of a text that does
//! not return, and whether it returns is the text's affair.
//!
//! Invariant: a text is compiled before it is used, and compiled texts have names of their own, so a
//! reload either puts the new text in force or leaves the old one.

use std::process::Command;

use super::{Peer, place::Place};
use crate::process::{Failure, output};

pub(crate) const VARNISH: Peer = Peer {
    name: "varnish",
    program: "usr/sbin/varnishd",
    loads: &["usr/bin/varnishadm"],
    version: &["-V"],
    packaged: include_str!("varnish/packaged.vcl"),
    hurried: include_str!("varnish/hurried.vcl"),
    expert: include_str!("varnish/expert.vcl"),
    prepare,
    reload,
};

fn prepare(place: &Place, configuration: &str) -> Result<Command, Failure> {
    // It compiles its configuration to C and that to a library.
    if output(Command::new("gcc").arg("--version")).is_err() {
        return Err(Failure::new(
            "varnish needs a C compiler at run time: install gcc",
        ));
    }
    let text = place.write("0.vcl", configuration)?;
    let work = place.make("work")?;
    let mut command = place.command(VARNISH.program)?;
    // In the foreground, and without changing users: it is no root's process to begin with.
    command.args(["-F", "-j", "none", "-n"]).arg(work);
    command.arg("-a").arg(place.listen.to_string());
    command.arg("-f").arg(text);
    command.args(["-s", "malloc,64m", "-l", "8m"]);
    // The same code, translated in a third of the time: hundreds of them start in one run.
    let compiler = "exec gcc -O0 -pthread -fpic -shared -Wl,-x -o %o %s";
    command.args(["-p", &format!("cc_command={compiler}")]);
    Ok(command)
}

/// Its manager does one thing after another, and compiles; five seconds, varnishadm's own limit, are
/// too few while other caches compile too.
const ANSWER_TIME_MAX_S: &str = "60";

fn reload(place: &Place, configuration: &str) -> Result<(), Failure> {
    let name = format!("generation{}", place.generation);
    let text = place.write(&format!("{}.vcl", place.generation), configuration)?;
    let manage = |words: &[&str]| {
        let mut command = place.command("usr/bin/varnishadm")?;
        command.arg("-n").arg(place.folder.join("work"));
        command.args(["-t", ANSWER_TIME_MAX_S]).args(words);
        output(&mut command).map(drop)
    };
    manage(&["vcl.load", &name, &text.to_string_lossy()])?;
    manage(&["vcl.use", &name])
}
