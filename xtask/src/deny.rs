//! cargo-deny: licences, bans and sources of all dependencies.

use std::process::Command;

use anyhow::Result;

use crate::{cache, cmd, ui};

/// The version that is built, once, if it is not installed. This takes 100 s on two cores;
/// unoptimised code is fast enough for this graph.
const VERSION: &str = "0.20.2";

/// Returns the step `cargo deny check`, with the installed program, otherwise with one built in the
/// user's cache.
///
/// Advisories are left out, because their database is on a git host that a CI machine may not
/// reach. Run `cargo deny check advisories` on another machine.
pub(crate) fn plan() -> Result<Command> {
    let tools = cache::directory("rbd-tools")?.join(format!("cargo-deny-{VERSION}"));
    let own = tools.join("bin/cargo-deny");
    let program = if cmd::exists("cargo-deny") {
        "cargo-deny".to_owned()
    } else {
        if !own.is_file() {
            ui::step(&format!("building cargo-deny {VERSION} into {}", tools.display()));
            let mut install =
                cmd::cargo(["install", "--quiet", "--locked", "--debug", "--no-default-features"]);
            // It is not debugged.
            install.env("CARGO_PROFILE_DEV_DEBUG", "0");
            install.args(["--version", VERSION, "cargo-deny", "--root"]).arg(&tools);
            cmd::run(&mut install)?;
        }
        own.display().to_string()
    };
    Ok(cmd::command(&program, ["check", "licenses", "bans", "sources"]))
}
