//! Writes the checked-in bindings of librbd-sys: `cargo xtask bindgen [--check]`.
//!
//! What the oldest supported release has becomes plain `extern` declarations, what came later becomes statics that are
//! resolved at run time. Both take their text from the newest release; that the older ones agree with it is checked.

#[path = "../../build/bindings.rs"]
mod bindings;
mod headers;
mod items;
mod render;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use headers::Headers;
use items::Items;

/// From the oldest supported release to the newest that can be had.
const SUITES: [&str; 3] = ["bookworm", "trixie", "forky"];

/// The releases that the checked-in bindings were made from: a line `suite version` each.
const VERSIONS: &str = "src/generated/headers.txt";

/// Regenerates the checked-in bindings from the newest headers.
#[derive(Parser)]
struct Args {
    /// Write nothing; fail if the checked-in bindings differ from what their headers give
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
    let files = generate(&releases)?;

    if args.check {
        return check(&dir, &files);
    }
    for (name, text) in &files {
        fs::write(dir.join(name), text)?;
    }
    let versions: Vec<_> =
        releases.iter().map(|headers| format!("{} {}\n", headers.suite, headers.version)).collect();
    fs::write(dir.join(VERSIONS), versions.concat())?;
    print!("bindings written from\n{}", versions.concat());
    Ok(())
}

/// The generated files, by their path below librbd-sys.
fn generate(releases: &[Headers]) -> Result<Vec<(&'static str, String)>> {
    let mut items = Vec::new();
    for headers in releases {
        let found = bind(headers, &[])?;
        found.check_complete(&headers.include)?;
        items.push((headers.release(), found));
    }
    let split = items::split(items)?;
    let late: Vec<&str> = split.late().collect();
    for headers in releases {
        // The feature `bindgen` binds one release's headers and must give what the checked-in bindings give.
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
fn check(dir: &Path, files: &[(&str, String)]) -> Result<()> {
    for (name, text) in files {
        let path: PathBuf = dir.join(name);
        let present = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if present != *text {
            let line = present.lines().zip(text.lines()).take_while(|(a, b)| a == b).count();
            let at = |text: &str| text.lines().nth(line).unwrap_or("(end of file)").to_owned();
            bail!(
                "librbd-sys/{name} drifted from the headers at line {}:\n  is:     {}\n  should: {}\nrun `cargo xtask bindgen`",
                line + 1,
                at(&present),
                at(text),
            );
        }
    }
    println!("the checked-in bindings are what the headers give");
    Ok(())
}
