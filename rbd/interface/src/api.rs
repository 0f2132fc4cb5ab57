//! The checked-in list of all public items of `rbd`, which shows changes of the interface in
//! review.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::root;

const LIST: &str = "rbd/api.txt";

pub(crate) fn run(check: bool) -> Result<()> {
    let list = items()?;
    let path = root().join(LIST);
    if !check {
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
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.current_dir(root()).args(["rustdoc", "--quiet", "--package", "rbd", "--all-features", "--lib"]);
    command.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    // A separate directory, because each change of the environment makes cargo build everything
    // again.
    let target = root().join("target/api");
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
