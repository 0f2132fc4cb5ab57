//! Writes the checked-in bindings of librbd-sys: `cargo xtask bindgen [--check]`.
//!
//! Items of the oldest supported release become plain `extern` declarations. Later functions become
//! statics that are resolved at run time. Both take their text from the newest release, and the
//! older ones are checked against it.
//!
//! Debian replaces packages. The versions from which the bindings were made are recorded, and
//! `--check` fetches these headers if they are still available. Otherwise it takes their
//! replacements without new items: declarations that Ceph adds are no drift, but one that it
//! changes or drops is, and so is a change of the bindings or of this program.

#[path = "../../build/bindings.rs"]
mod bindings;
mod headers;
mod items;
mod render;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use headers::Headers;
use items::{Items, VERSION_CONSTANTS};

/// The suites from the oldest supported release to the newest available one.
const SUITES: [&str; 3] = ["bookworm", "trixie", "forky"];

/// The releases from which the checked-in bindings were made, one line `suite version` each.
const VERSIONS: &str = "src/generated/headers.txt";

/// Regenerates the checked-in bindings from the newest headers.
#[derive(Parser)]
struct Args {
    /// Write nothing; fail if the checked-in bindings differ from their headers
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let recorded = fs::read_to_string(dir.join(VERSIONS)).unwrap_or_default();

    let mut releases = Vec::new();
    for suite in SUITES {
        let wanted = recorded.lines().find_map(|line| line.strip_prefix(suite)).map(str::trim);
        releases.push(Headers::fetch(suite, wanted.filter(|_| args.check))?);
    }
    if args.check {
        return check(&dir, &releases);
    }
    let files = generate(&releases, &[])?;
    for (name, text) in &files {
        fs::write(dir.join(name), text)?;
    }
    let versions: Vec<_> =
        releases.iter().map(|headers| format!("{} {}\n", headers.suite, headers.version)).collect();
    fs::write(dir.join(VERSIONS), versions.concat())?;
    print!("bindings written from\n{}", versions.concat());
    Ok(())
}

/// Returns the generated files, by their path below librbd-sys, without the items in `hidden`.
fn generate(releases: &[Headers], hidden: &[&str]) -> Result<Vec<(&'static str, String)>> {
    let mut items = Vec::new();
    for headers in releases {
        let found = bind(headers, hidden)?;
        if hidden.is_empty() {
            found.check_complete(&headers.include)?;
        }
        items.push((headers.release(), found));
    }
    let split = items::split(items)?;
    let late: Vec<&str> = split.late().chain(hidden.iter().copied()).collect();
    for headers in releases {
        // The feature `bindgen` binds the headers of one release, and must give the same items as
        // the checked-in bindings.
        split.check_baseline(&bind(headers, &late)?).with_context(|| {
            format!("the feature `bindgen` on the headers of {} {}", headers.suite, headers.version)
        })?;
    }
    render::render(&split)
}

fn bind(headers: &Headers, hidden: &[&str]) -> Result<Items> {
    let text = bindings::generate(&headers.include, hidden)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("cannot bind the headers of {} {}", headers.suite, headers.version))?;
    Items::parse(&text)
}

/// Fails with the first lines that differ.
fn check(dir: &Path, releases: &[Headers]) -> Result<()> {
    let mut present = Vec::new();
    for name in render::FILES {
        let path = dir.join(name);
        present.push(fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let news = news(releases, &present)?;
    let newcomers: Vec<_> = releases.iter().filter(|headers| headers.instead_of.is_some()).collect();
    for headers in &newcomers {
        println!(
            "Debian {} carries Ceph's headers {}, no longer {}, of which the bindings were made",
            headers.suite,
            headers.version,
            headers.instead_of.as_deref().unwrap_or_default()
        );
    }

    let files = generate(releases, &news.iter().map(String::as_str).collect::<Vec<_>>())?;
    for ((name, text), present) in files.iter().zip(&present) {
        let (present, text) = (comparable(present, &newcomers), comparable(text, &newcomers));
        if present != text {
            let line = present.iter().zip(&text).take_while(|(a, b)| a == b).count();
            let at = |text: &[&str]| text.get(line).map_or("(end of file)", |line| *line).to_owned();
            bail!(
                "librbd-sys/{name} drifted from the headers at line {}:\n  is:     {}\n  should: \
                 {}\nrun `cargo xtask bindgen`",
                line + 1,
                at(&present),
                at(&text),
            );
        }
    }
    if newcomers.is_empty() {
        println!("the checked-in bindings are what the headers give");
    } else if news.is_empty() {
        println!("the checked-in bindings are what these headers give, too");
    } else {
        println!(
            "the checked-in bindings are right for these headers, which have more: {}\n\
             to take that up, run `cargo xtask bindgen`",
            news.join(", ")
        );
    }
    Ok(())
}

/// Returns the items that only replacement headers have, and the checked-in files do not mention.
fn news(releases: &[Headers], present: &[String]) -> Result<Vec<String>> {
    if releases.iter().all(|headers| headers.instead_of.is_none()) {
        return Ok(Vec::new());
    }
    let mut known: BTreeSet<String> = BTreeSet::new();
    for text in present {
        known.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
    }
    let mut news = BTreeSet::new();
    for headers in releases {
        let items = bind(headers, &[])?;
        if headers.instead_of.is_some() {
            news.extend(items.names().map(str::to_owned));
        } else {
            known.extend(items.names().map(str::to_owned));
        }
    }
    Ok(news.difference(&known).cloned().collect())
}

/// Returns the lines to compare. With replacement headers, without the lines that contain the
/// headers' own version.
fn comparable<'a>(text: &'a str, newcomers: &[&Headers]) -> Vec<&'a str> {
    let version = |line: &&str| VERSION_CONSTANTS.iter().any(|name| line.contains(name));
    text.lines().filter(|line| newcomers.is_empty() || !version(line)).collect()
}
