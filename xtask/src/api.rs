//! `cargo xtask api`: the checked-in list of all public items of `rbd`, which shows changes of the
//! interface in review. `cargo xtask features`: builds the crate without warnings with each of its
//! features alone, and with none.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::cmd;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare rbd/api.txt with the sources instead of writing it
    #[arg(long)]
    check: bool,
}

const LIST: &str = "rbd/api.txt";

pub(crate) fn run(args: &Args) -> Result<()> {
    let list = items()?;
    let path = cmd::root().join(LIST);
    if !args.check {
        fs::write(&path, &list).with_context(|| format!("cannot write {LIST}"))?;
        println!("{LIST}: {} lines", list.lines().count());
        return Ok(());
    }
    let recorded = fs::read_to_string(&path).with_context(|| format!("cannot read {LIST}"))?;
    let missing = |from: &str, other: &str, sign: char| {
        let other: std::collections::HashSet<&str> = other.lines().collect();
        let lines = from.lines().filter(|line| !other.contains(line));
        lines.fold(String::new(), |all, line| all + &format!("{sign} {line}\n"))
    };
    let change = missing(&recorded, &list, '-') + &missing(&list, &recorded, '+');
    if change.is_empty() {
        println!("{LIST} lists all {} lines of the interface", list.lines().count());
        return Ok(());
    }
    bail!(
        "{change}{LIST} is not what the sources say (`-` stands only in the file, `+` only in the sources)\n\
         to refresh it: cargo xtask api && git add {LIST}, and commit it with the change of the interface"
    )
}

/// Returns all public items. Stable rustdoc writes JSON only if unstable options are allowed.
fn items() -> Result<String> {
    let mut command = cmd::cargo(["rustdoc", "--quiet", "--package", "rbd", "--all-features", "--lib"]);
    command.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    // A separate directory, because each change of the environment makes cargo build everything
    // again.
    let target = cmd::root().join("target/api");
    command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", &target).env("DOCS_RS", "1");
    if !command.status().context("cannot start cargo")?.success() {
        bail!("rustdoc failed");
    }
    let api = public_api::Builder::from_rustdoc_json(target.join("doc/rbd.json"))
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    let mut lines: Vec<String> = api.items().map(ToString::to_string).collect();
    lines.sort_unstable();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// The features that a program may turn on. `bench-internals` is not part of the interface.
const FEATURES: [&str; 6] = ["", "krbd", "mirror", "rados", "tokio", "tracing"];

pub(crate) fn features() -> Result<()> {
    for feature in FEATURES {
        let mut command = cmd::cargo(["clippy", "--quiet", "--package", "rbd", "--no-default-features"]);
        command.args(["--features", feature, "--", "--deny", "warnings"]);
        println!("{}", cmd::line(&command));
        if !command.status().context("cannot start cargo")?.success() {
            bail!("rbd has warnings with the feature '{feature}' alone");
        }
    }
    Ok(())
}
