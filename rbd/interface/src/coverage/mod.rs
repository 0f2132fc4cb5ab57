//! Which item of `rbd` wraps each C function, or where it is called, or why it is not. Also checks
//! that docs of public functions begin with a verb.
//!
//! ``Implements: `rbd_x` `` on a public item is accepted if some code calls `rbd_x`. The compiler
//! warns of code that no user can reach (dead code).

mod data;
mod source;
#[path = "../../../../librbd-sys/src/symbols.rs"]
#[allow(dead_code, unreachable_pub)]
mod symbols;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, bail};

use self::data::{LEFT_OUT, SUPERSEDED, means};
use self::source::Source;
use self::symbols::{SYMBOLS, Symbol};
use crate::root;

const TABLE: &str = "docs/coverage.md";

/// A guide that names items of this crate, which must exist.
const ITEMS: &str = "docs/coming-from.md";

/// Returns the `Type::function` in the last columns of tables that are no public functions.
fn strangers<'a>(source: &Source, text: &'a str) -> impl Iterator<Item = &'a str> {
    let public: BTreeSet<&str> =
        source.functions.iter().filter(|f| f.public).map(|f| f.title.as_str()).collect();
    text.lines()
        .filter_map(|line| line.strip_suffix(" |")?.rsplit_once("| ").map(|(_, last)| last))
        .flat_map(|last| last.split('`').skip(1).step_by(2))
        .filter(move |word| word.contains("::") && !public.contains(*word))
}

/// The state of a C function.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The public items that claim it.
    Wrapped(Vec<String>),
    /// The files that call it, for cleanup or intermediate steps.
    Called(Vec<String>),
    Superseded(&'static str),
    LeftOut(&'static str),
}

pub(crate) fn run(write: bool) -> Result<()> {
    let source = Source::read()?;
    let (fates, mut faults) = judge(&source, SYMBOLS);
    let text = fs::read_to_string(root().join(ITEMS)).with_context(|| format!("cannot read {ITEMS}"))?;
    faults.extend(strangers(&source, &text).map(|item| format!("{ITEMS}: there is no public `{item}`")));
    let table = render(&fates);
    let path = root().join(TABLE);
    if write {
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

/// Returns the state of each function, and the faults.
fn judge<'a>(source: &Source, all: &'a [Symbol]) -> (Fates<'a>, Vec<String>) {
    let known: BTreeSet<&str> = all.iter().map(|symbol| symbol.name).collect();
    let mut faults = Vec::new();
    let mut claimed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for function in &source.functions {
        if function.public && !function.first.is_empty() && !is_verb(&function.first) {
            faults.push(format!(
                "rbd/src/{}: docs of `{}` begin with a verb, as \"Returns\", not \"{}\"",
                function.file.display(),
                function.title,
                function.first
            ));
        }
        for claim in &function.claims {
            let at = format!("rbd/src/{}: `{}`", function.file.display(), function.title);
            if !function.public {
                faults.push(format!("{at} implements {claim} but is not public"));
            } else if !known.contains(claim.as_str()) {
                faults.push(format!("{at} implements {claim}, which no header declares"));
            } else if source.named.contains_key(claim) {
                claimed.entry(claim).or_default().push(function.title.clone());
            } else {
                faults.push(format!("{at} implements {claim}, but nothing calls it"));
            }
        }
    }
    let mut fates = Vec::new();
    for symbol in all {
        let name = symbol.name;
        let superseded = SUPERSEDED.iter().find(|entry| entry.symbol == name);
        let exactly = LEFT_OUT.iter().find(|entry| entry.symbols.contains(&name));
        let fate = if let Some(items) = claimed.remove(name) {
            Some(Fate::Wrapped(items))
        } else if let Some(files) = source.named.get(name) {
            Some(Fate::Called(files.iter().cloned().collect()))
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
        let called = matches!(fate, Some(Fate::Wrapped(_) | Fate::Called(_)));
        if called && (superseded.is_some() || exactly.is_some()) {
            faults.push(format!(
                "{name} is called, but listed as not to be; take it out of rbd/interface/src/coverage/data.rs"
            ));
        }
        if fate.is_none() {
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

/// Returns whether a word has the form of a verb in the third person.
fn is_verb(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ',', ':', ';']);
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.ends_with('s')
        && !["This", "Its"].contains(&word)
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
                Some(Fate::Wrapped(_) | Fate::Called(_)) => counts.called += 1,
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
        Written by `cargo xtask coverage --write`, which reads the sources; CI fails when this is out\n\
        of date, or when a function is neither called, nor superseded by another one, nor left out for a\n\
        reason.\n"
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
                Some(Fate::Called(files)) => format!("called in {}", code(files)),
                Some(Fate::Superseded(by)) => format!("superseded by `{by}`"),
                Some(Fate::LeftOut(why)) => format!("left out: {why}"),
                None => "**no decision**".to_owned(),
            };
            let _ = writeln!(text, "| `{}`{needs} | {here} |", symbol.name);
        }
    }
    text
}

/// Returns the first three items as Markdown.
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

    /// Returns states and faults for this raw and this public code.
    fn faults(raw: &str, public: &str) -> (Vec<Option<Fate>>, Vec<String>) {
        const ALL: &[Symbol] = &[
            Symbol { name: "rbd_begin", header: "rbd/librbd.h", needs: None },
            Symbol { name: "rbd_grind", header: "rbd/librbd.h", needs: None },
            Symbol { name: "rbd_end", header: "rbd/librbd.h", needs: None },
        ];
        let mut source = Source::default();
        source.add(Path::new("raw/image.rs"), raw).unwrap();
        source.add(Path::new("image.rs"), public).unwrap();
        let (fates, mut faults) = judge(&source, ALL);
        faults.retain(|fault| !fault.contains("is listed as superseded"));
        (fates.into_iter().map(|(_, fate)| fate).collect(), faults)
    }

    const FLATTEN: &str = "impl Image {
        /// Implements: `rbd_grind`.
        pub fn flatten(&self) -> Result<()> { self.call(|raw| raw.flatten()) }
    }";

    #[test]
    fn a_claim_is_believed_where_the_function_is_called() {
        let (fates, none) = faults(RAW, FLATTEN);
        let called = || Some(Fate::Called(vec!["raw/image.rs".to_owned()]));
        assert_eq!(fates, [called(), Some(Fate::Wrapped(vec!["Image::flatten".to_owned()])), called()]);
        assert_eq!(none, [""; 0]);
        let (_, found) = faults(&RAW.replace("rbd_grind", "rbd_begin"), FLATTEN);
        let claim = "rbd/src/image.rs: `Image::flatten` implements rbd_grind, but nothing calls it";
        assert_eq!(
            found,
            [claim, "rbd_grind (rbd/librbd.h) is neither called, nor superseded, nor left out"]
        );
    }

    #[test]
    fn a_claim_is_of_something_public_and_declared() {
        let hidden = FLATTEN.replace("pub fn", "pub(crate) fn");
        assert_eq!(
            faults(RAW, &hidden).1,
            ["rbd/src/image.rs: `Image::flatten` implements rbd_grind but is not public"]
        );
        let unknown = FLATTEN.replace("`rbd_grind`", "`rbd_grind`, `rbd_mill`");
        let claim = "rbd/src/image.rs: `Image::flatten` implements rbd_mill, which no header declares";
        assert_eq!(faults(RAW, &unknown).1, [claim]);
    }

    #[test]
    fn docs_of_public_functions_begin_with_a_verb() {
        let docs =
            |first: &str| format!("impl Image {{ #[doc(alias = \"a\")] /// {first}\n pub fn a() {{}} }}");
        for first in ["Returns the size.", "Connects. Blocks."] {
            assert_eq!(faults(RAW, &docs(first)).1.len(), faults(RAW, "").1.len(), "{first}");
        }
        for first in
            ["The size.", "Whether it is open.", "This opens it.", "Opening.", "Its size.", "returns it."]
        {
            let (_, found) = faults(RAW, &docs(first));
            assert!(found[0].contains("docs of `Image::a` begin with a verb"), "{found:?}");
            let hidden = docs(first).replace("pub fn", "fn");
            assert_eq!(faults(RAW, &hidden).1.len(), faults(RAW, "").1.len(), "{first}");
        }
    }

    #[test]
    fn tests_call_nothing() {
        let tests = format!("#[cfg(test)] mod tests {{ {RAW} }}");
        assert_eq!(faults(&tests, "").1.len(), 3);
    }

    #[test]
    fn a_document_names_what_there_is() {
        let mut source = Source::default();
        source
            .add(Path::new("image.rs"), "impl Image { pub fn size(&self) {} fn secret(&self) {} }")
            .unwrap();
        let text = "| `Image.Old` | `Image::size`, `Image::bulk` |\n| x | `Image::secret` or \
            `None` |\n`Image::free`";
        assert_eq!(strangers(&source, text).collect::<Vec<_>>(), ["Image::bulk", "Image::secret"]);
    }
}
