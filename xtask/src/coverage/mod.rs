//! `cargo xtask coverage`: which C function is called by what of `rbd`, and why not where it is
//! not.
//!
//! Nothing is believed: ``Implements: `rbd_x` `` on a public item must be borne out by a chain of
//! calls down to code that names the function. The chain is found by names, receivers and numbers
//! of arguments, not by a type checker: it can take one method for another of the same name, but it
//! cannot overlook that nothing calls a function.

mod data;
mod graph;
mod source;
#[path = "../../../librbd-sys/src/symbols.rs"]
#[allow(dead_code, unreachable_pub)]
mod symbols;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use self::data::{EVERYWHERE, LEFT_OUT, SUPERSEDED, means};
use self::graph::Graph;
use self::source::{Function, Source};
use self::symbols::{SYMBOLS, Symbol};
use crate::cmd;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write docs/coverage.md; otherwise it is compared
    #[arg(long)]
    write: bool,
    /// Print the table
    #[arg(long)]
    print: bool,
}

const TABLE: &str = "docs/coverage.md";

/// Names items of ours, which must exist.
const ITEMS: &str = "docs/coming-from.md";

/// The `Type::function` in the last columns of tables that are no public functions.
fn strangers<'a>(source: &Source, text: &'a str) -> impl Iterator<Item = &'a str> {
    let public: BTreeSet<String> = source.functions.iter().filter(|f| f.public).map(title).collect();
    text.lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| ").map(|(_, last)| last))
        .flat_map(|last| last.split('`').skip(1).step_by(2))
        .filter(move |word| word.contains("::") && !public.contains(*word))
}

/// What became of a C function.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Public items that claim it, and lead to it.
    Wrapped(Vec<String>),
    /// Called on the way of public items: cleanup, and steps in between.
    Within(Vec<String>),
    Superseded(&'static str),
    LeftOut(&'static str),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let source = Source::read()?;
    let (fates, mut faults) = judge(&source, SYMBOLS);
    let text = fs::read_to_string(cmd::root().join(ITEMS)).with_context(|| format!("cannot read {ITEMS}"))?;
    faults.extend(strangers(&source, &text).map(|item| format!("{ITEMS}: there is no public `{item}`")));
    let table = render(&fates);
    if args.print {
        print!("{table}");
    }
    let path = cmd::root().join(TABLE);
    if args.write {
        fs::write(&path, &table).with_context(|| format!("cannot write {TABLE}"))?;
    }
    for header in ["rbd/librbd.h", "rados/librados.h"] {
        println!("{header}: {}", Counts::of(&fates, header));
    }
    if !faults.is_empty() {
        bail!("{} faults:\n  {}", faults.len(), faults.join("\n  "));
    }
    if fs::read_to_string(&path).unwrap_or_default() != table {
        bail!("{TABLE} is not what the sources give; run `cargo xtask coverage --write`");
    }
    Ok(())
}

type Fates<'a> = Vec<(&'a Symbol, Option<Fate>)>;

/// Finds out what became of each function, and what is wrong with that.
fn judge<'a>(source: &Source, all: &'a [Symbol]) -> (Fates<'a>, Vec<String>) {
    let known: BTreeSet<&str> = all.iter().map(|symbol| symbol.name).collect();
    let graph = Graph::new(source);
    let mut faults = Vec::new();
    let mut claimed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (number, function) in source.functions.iter().enumerate().filter(|(_, f)| !f.claims.is_empty()) {
        let (name, led_to) = (title(function), graph.symbols_of(number));
        let at = format!("rbd/src/{}: `{name}`", function.file.display());
        if !function.public {
            faults.push(format!("{at} implements something but is not public"));
        }
        for claim in &function.claims {
            if !known.contains(claim.as_str()) {
                faults.push(format!("{at} implements {claim}, which no header declares"));
            } else if led_to.contains(claim.as_str()) {
                claimed.entry(claim).or_default().push(name.clone());
            } else {
                faults.push(format!("{at} implements {claim}, but no call leads there"));
            }
        }
    }
    let users = graph.users();
    let named: BTreeSet<&str> =
        source.functions.iter().flat_map(|f| &f.symbols).map(String::as_str).collect();
    let mut fates = Vec::new();
    for symbol in all {
        let name = symbol.name;
        let superseded = SUPERSEDED.iter().find(|entry| entry.symbol == name);
        let exactly = LEFT_OUT.iter().find(|entry| entry.symbols.contains(&name));
        let fate = if let Some(items) = claimed.remove(name) {
            Some(Fate::Wrapped(items))
        } else if let Some(numbers) = users.get(name) {
            let items: BTreeSet<String> =
                numbers.iter().map(|number| title(&source.functions[*number])).collect();
            Some(Fate::Within(items.into_iter().collect()))
        } else if named.contains(name) {
            faults.push(format!("{name} is called, but by nothing that a user can reach"));
            None
        } else if let Some(entry) = superseded {
            if !known.contains(entry.by) {
                faults.push(format!("{name} is superseded by {}, which no header declares", entry.by));
            }
            Some(Fate::Superseded(entry.by))
        } else {
            let family =
                || LEFT_OUT.iter().find(|entry| entry.symbols.iter().any(|pattern| means(pattern, name)));
            exactly.or_else(family).map(|entry| Fate::LeftOut(entry.why))
        };
        let called = matches!(fate, Some(Fate::Wrapped(_) | Fate::Within(_)));
        if called && (superseded.is_some() || exactly.is_some()) {
            faults.push(format!(
                "{name} is called, but listed as not to be; take it out of xtask/src/coverage/data.rs"
            ));
        }
        if fate.is_none() && !named.contains(name) {
            faults
                .push(format!("{name} ({}) is neither called, nor superseded, nor left out", symbol.header));
        }
        fates.push((symbol, fate));
    }
    for entry in SUPERSEDED.iter().filter(|entry| !known.contains(entry.symbol)) {
        faults.push(format!("{} is listed as superseded, but no header declares it", entry.symbol));
    }
    (fates, faults)
}

/// `Image::flatten`.
fn title(function: &Function) -> String {
    match &function.of {
        Some(of) => format!("{of}::{}", function.name),
        None => function.name.clone(),
    }
}

#[derive(Default)]
struct Counts {
    called: usize,
    superseded: usize,
    left_out: usize,
    all: usize,
}

impl Counts {
    fn of(fates: &Fates<'_>, header: &str) -> Counts {
        let mut counts = Counts::default();
        for (_, fate) in fates.iter().filter(|(symbol, _)| symbol.header == header) {
            counts.all += 1;
            match fate {
                Some(Fate::Wrapped(_) | Fate::Within(_)) => counts.called += 1,
                Some(Fate::Superseded(_)) => counts.superseded += 1,
                Some(Fate::LeftOut(_)) => counts.left_out += 1,
                None => {}
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { called, superseded, left_out, all } = self;
        write!(f, "{all} functions: {called} called, {superseded} superseded, {left_out} left out")?;
        match all - called - superseded - left_out {
            0 => Ok(()),
            rest => write!(f, ", {rest} without a decision"),
        }
    }
}

fn render(fates: &Fates<'_>) -> String {
    let mut text = "# Coverage of Ceph's C interface\n\n\
        Written by `cargo xtask coverage --write`, which finds the calls in the sources; CI fails when this is out of date, or\n\
        when a function is neither called, nor superseded by another one, nor left out for a reason.\n"
        .to_owned();
    for header in ["rbd/librbd.h", "rados/librados.h"] {
        let _ = write!(
            text,
            "\n## {header}\n\n{}.\n\n| C function | here |\n| --- | --- |\n",
            Counts::of(fates, header)
        );
        for (symbol, fate) in fates.iter().filter(|(symbol, _)| symbol.header == header) {
            let needs = symbol.needs.map(|needs| format!(" ({needs})")).unwrap_or_default();
            let here = match fate {
                Some(Fate::Wrapped(items)) => code(items),
                Some(Fate::Within(items)) => {
                    let everywhere = EVERYWHERE.iter().find(|(name, _)| *name == symbol.name);
                    format!(
                        "within {}",
                        everywhere.map_or_else(|| code(items), |(_, what)| (*what).to_owned())
                    )
                }
                Some(Fate::Superseded(by)) => format!("superseded by `{by}`"),
                Some(Fate::LeftOut(why)) => format!("left out: {why}"),
                None => "**no decision**".to_owned(),
            };
            let _ = writeln!(text, "| `{}`{needs} | {here} |", symbol.name);
        }
    }
    text
}

/// The first three items.
fn code(items: &[String]) -> String {
    let mut words: Vec<String> = items.iter().take(3).map(|item| format!("`{item}`")).collect();
    if items.len() > words.len() {
        words.push("…".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const RAW: &str = "impl Image {
        pub(crate) fn open(name: &CStr) -> Image { Image(unsafe { sys::rbd_begin(name.as_ptr()) }) }
        pub(crate) fn flatten(&self) { with_progress(|f, a| unsafe { sys::rbd_grind(self.as_ptr(), f, a) }) }
    }
    impl Drop for Image { fn drop(&mut self) { unsafe { sys::rbd_end(self.0) } } }";

    const OPEN: &str = "impl IoCtx {
        /// Implements: `rbd_begin`.
        pub fn open(&self, name: &str) -> Image { Image { raw: raw::image::Image::open(&c_string(name)) } }
    }";

    /// What is said about `rbd_grind`, when the public functions are these and that which opens.
    fn faults(public: &str) -> Vec<String> {
        const ALL: &[Symbol] = &[
            Symbol { name: "rbd_begin", header: "rbd/librbd.h", needs: None },
            Symbol { name: "rbd_grind", header: "rbd/librbd.h", needs: None },
            Symbol { name: "rbd_end", header: "rbd/librbd.h", needs: None },
        ];
        let mut source = Source::default();
        source.add(Path::new("raw/image.rs"), RAW).unwrap();
        source.add(Path::new("image/open.rs"), OPEN).unwrap();
        source.add(Path::new("image.rs"), public).unwrap();
        let (fates, mut faults) = judge(&source, ALL);
        assert_eq!(fates[0].1, Some(Fate::Wrapped(vec!["IoCtx::open".to_owned()])));
        assert_eq!(fates[2].1, Some(Fate::Within(vec!["IoCtx::open".to_owned()])));
        faults.retain(|fault| !fault.contains("is listed as superseded"));
        faults
    }

    const UNREACHED: &str = "rbd_grind is called, but by nothing that a user can reach";

    #[test]
    fn a_claim_that_a_call_bears_out_is_believed() {
        let text = "impl Image {
            /// Implements: `rbd_grind`.
            pub fn flatten(&self) -> Result<()> { self.call(|raw| raw.flatten()) }
        }";
        assert_eq!(faults(text), [""; 0]);
    }

    #[test]
    fn a_claim_alone_is_not_believed() {
        let text = "impl Image {
            /// Implements: `rbd_grind`.
            pub fn flatten(&self) -> Result<()> { self.list().iter().flatten() }
        }";
        let claim = "rbd/src/image.rs: `Image::flatten` implements rbd_grind, but no call leads there";
        assert_eq!(faults(text), [claim, UNREACHED]);
    }

    #[test]
    fn what_no_header_declares_is_not_implemented() {
        let text = "impl Image {
            /// Implements: `rbd_grind`, `rbd_mill`.
            pub fn flatten(&self) { self.raw.flatten() }
        }";
        let claim = "rbd/src/image.rs: `Image::flatten` implements rbd_mill, which no header declares";
        assert_eq!(faults(text), [claim]);
    }

    #[test]
    fn a_builder_does_what_its_run_does() {
        let text = "#[must_use] pub struct Flatten<'a>(&'a Image);
        impl Image {
            /// Implements: `rbd_grind`.
            pub fn flatten(&self) -> Flatten<'_> { Flatten(self) }
        }
        impl Flatten<'_> { pub fn run(self) -> Result<()> { self.0.raw.flatten() } }";
        assert_eq!(faults(text), [""; 0]);
        assert_eq!(faults(&text.replace("self.0.raw.flatten()", "Ok(())")).len(), 2);
    }

    #[test]
    fn a_document_names_what_there_is() {
        let mut source = Source::default();
        source
            .add(Path::new("image.rs"), "impl Image { pub fn size(&self) {} fn secret(&self) {} }")
            .unwrap();
        let text = "| `Image.Old` | `Image::size`, `Image::bulk` |\n| x | `Image::secret` or `None` |\n`Image::free`";
        assert_eq!(strangers(&source, text).collect::<Vec<_>>(), ["Image::bulk", "Image::secret"]);
    }

    #[test]
    fn tests_do_not_count_as_callers() {
        let text = "#[cfg(test)] mod tests { impl Image {
            /// Implements: `rbd_grind`.
            pub fn flatten(&self) { self.raw.flatten() }
        } }";
        assert_eq!(faults(text), [UNREACHED]);
    }
}
