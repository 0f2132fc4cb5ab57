//! `cargo xtask tidy`: checks of the tree that no compiler makes.
//!
//! - `rbd` is layered, and imports only point down ([`layers`]);
//! - `unsafe` is in few places, so that a reviewer knows where to look;
//! - a file is short, because it has one concept;
//! - lines of text wrap, and prose has no idioms ([`prose`]);
//! - messages of new commits have the agreed form ([`commits`]).

mod commits;
mod layers;
mod paths;
mod prose;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use proc_macro2::TokenStream;
use walkdir::{DirEntry, WalkDir};

use crate::cmd;

#[derive(clap::Args)]
pub(crate) struct Args {}

/// The longest file. A longer one has more than one concept.
const MAX_LINES: usize = 400;

/// Files written by a program. Their length and `unsafe` are not checked.
const GENERATED: &[&str] = &["librbd-sys/src/generated/", "librbd-sys/tests/generated/", "docs/coverage.md"];

/// Where `unsafe` may be, and why it is needed there.
const UNSAFE: &[(&str, &str)] = &[
    ("rbd/src/raw/", "the one place where the safe crate meets C"),
    ("rbd/src/queue/foreign.rs", "an interface whose promises are the caller's"),
    ("librbd-sys/", "the C interface itself"),
    ("testing/cluster/src/raw/", "daemons that die with their owner: prctl between fork and exec"),
    ("benches/raw/", "the C twin of the benchmarks"),
    ("tests/it/queue/foreign.rs", "the test of that interface"),
    ("tests/it/played_owner/raw.rs", "a client that sends and answers notifications of librbd"),
    ("tests/it/support/luks.rs", "a function of libcryptsetup's that makes headers cheap"),
    ("tests/it/sound/fork.rs", "forks the test's process"),
    ("tests/allocations/raw.rs", "a function of librbd's whose calls are counted"),
];

pub(crate) fn run(_args: &Args) -> Result<()> {
    let mut faults = Vec::new();
    let (files, guides) = (files(cmd::root(), ".rs")?, files(cmd::root(), ".md")?);
    let mut texts = Vec::new();
    for file in files.iter().chain(&guides) {
        let text = fs::read_to_string(cmd::root().join(file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.to_string_lossy().into_owned();
        if file.extension().is_some_and(|kind| kind == "rs") {
            check(&name, &text, &mut faults)?;
        }
        if !is_generated(&name) {
            texts.push((name, text));
        }
    }
    faults.extend(texts.iter().flat_map(|(name, text)| prose::check(name, text)));
    match commits::check(cmd::root()) {
        Some((count, wrong)) => {
            println!("{count} new commits: their messages were read");
            faults.extend(wrong);
        }
        None => println!("messages of commits: not checked, because the history is not here"),
    }
    let facade =
        fs::read_to_string(cmd::root().join("rbd/src/lib.rs")).context("cannot read rbd/src/lib.rs")?;
    faults.extend(layers::check(&facade, files.iter().filter_map(|file| in_rbd(file)))?);
    if !faults.is_empty() {
        bail!("{} faults:\n  {}", faults.len(), faults.join("\n  "));
    }
    println!("{} source files: layers, places of unsafe, lengths and lines are in order", files.len());
    Ok(())
}

/// Checks a single file.
fn check(file: &str, text: &str, faults: &mut Vec<String>) -> Result<()> {
    if is_generated(file) {
        return Ok(());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        faults.push(format!("{file}: {lines} lines; split it by concept (at most {MAX_LINES})"));
    }
    if !UNSAFE.iter().any(|(prefix, _)| file.starts_with(prefix)) {
        let tokens = parse(file, text)?;
        faults.extend(paths::lines_of(tokens, "unsafe").into_iter().map(|line| {
            let places: Vec<_> = UNSAFE.iter().map(|(place, _)| *place).collect();
            format!("{file}:{line}: unsafe outside its places ({})", places.join(", "))
        }));
    }
    Ok(())
}

fn is_generated(file: &str) -> bool {
    GENERATED.iter().any(|prefix| file.starts_with(prefix))
}

fn parse(file: &str, text: &str) -> Result<TokenStream> {
    text.parse().map_err(|error| anyhow::anyhow!("{file}: not Rust: {error}"))
}

/// Returns the path of a file of the safe crate, relative to its `src`.
fn in_rbd(file: &Path) -> Option<&Path> {
    file.strip_prefix("rbd/src").ok()
}

/// Returns the files of the tree whose names have this end, relative to the root, sorted.
fn files(root: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let visible = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || name != "target" && !name.starts_with('.')
    };
    for entry in WalkDir::new(root).into_iter().filter_entry(visible) {
        let entry = entry?;
        if entry.file_type().is_file() && entry.file_name().to_string_lossy().ends_with(end) {
            found.push(entry.path().strip_prefix(root)?.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(file, text, &mut faults).unwrap();
        faults
    }

    #[test]
    fn unsafe_is_found_in_code_only() {
        let text = "// unsafe\n/// unsafe\nconst A: &str = \"unsafe\";\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(faults("rbd/src/image.rs", text).len(), 1);
        assert!(faults("rbd/src/image.rs", text)[0].starts_with("rbd/src/image.rs:5: unsafe"));
        assert_eq!(faults("rbd/src/raw/image.rs", text), [] as [&str; 0]);
        assert_eq!(faults("rbd/src/image.rs", "#![deny(unsafe_code)]"), [] as [&str; 0]);
    }

    #[test]
    fn long_files_are_found_unless_generated() {
        let text = "\n".repeat(MAX_LINES + 1);
        assert_eq!(faults("rbd/src/image.rs", &text).len(), 1);
        assert_eq!(faults("librbd-sys/src/generated/bindings.rs", &text), [] as [&str; 0]);
        assert_eq!(faults("rbd/src/image.rs", &"\n".repeat(MAX_LINES)), [] as [&str; 0]);
    }
}
