//! The items of bindings by name, and which of them are late.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use quote::ToTokens;
use syn::{ForeignItem, ForeignItemFn, Item};

/// The constants that contain the version of the header.
pub(crate) const VERSION_CONSTANTS: [&str; 1] = ["LIBRBD_VER_MINOR"];

/// Macros without a value, or with one that bindgen cannot express; src/lib.rs has the latter.
const MACROS_BY_HAND: [&str; 12] = [
    "CEPH_LIBRBD_H",
    "CEPH_LIBRADOS_H",
    "CEPH_RADOS_TYPES_H",
    "CEPH_RBD_FEATURES_H",
    "CEPH_RBD_API",
    "CEPH_RADOS_API",
    "CEPH_RBD_DEPRECATED",
    "VOIDPTR_RADOS_T",
    "LIBRADOS_SNAP_HEAD",
    "LIBRADOS_VERSION_CODE",
    "LIBRBD_VERSION_CODE",
    "LIBRADOS_SNAP_DIR",
];

/// The declarations of a release, in the order of the header.
pub(crate) struct Items {
    pub(crate) uses: Vec<Item>,
    pub(crate) consts: Vec<(String, Item)>,
    /// A type with the assertions of its layout.
    pub(crate) types: Vec<(String, Vec<Item>)>,
    pub(crate) functions: Vec<(String, ForeignItemFn)>,
}

impl Items {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut items =
            Self { uses: Vec::new(), consts: Vec::new(), types: Vec::new(), functions: Vec::new() };
        for item in syn::parse_file(text).context("bindgen's output is not Rust")?.items {
            match item {
                Item::Use(_) => items.uses.push(item),
                Item::Const(ref value) if value.ident == "_" => {
                    let (_, last) = items.types.last_mut().context("a layout assertion before any type")?;
                    last.push(item);
                }
                Item::Const(ref value) => items.consts.push((value.ident.to_string(), item)),
                Item::Struct(ref value) => items.types.push((value.ident.to_string(), vec![item])),
                Item::Type(ref value) => items.types.push((value.ident.to_string(), vec![item])),
                Item::ForeignMod(block) => {
                    for item in block.items {
                        match item {
                            ForeignItem::Fn(function) => {
                                items.functions.push((function.sig.ident.to_string(), function));
                            }
                            other => bail!("no place for `{}`", other.to_token_stream()),
                        }
                    }
                }
                other => bail!("no place for `{}`", other.to_token_stream()),
            }
        }
        Ok(items)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let (consts, types, functions) = (self.consts.iter(), self.types.iter(), self.functions.iter());
        consts
            .map(|(name, _)| name)
            .chain(types.map(|(name, _)| name))
            .chain(functions.map(|(name, _)| name))
            .map(String::as_str)
    }

    /// Returns the declarations as text, by name.
    fn texts(&self) -> HashMap<&str, String> {
        let consts =
            self.consts.iter().map(|(name, item)| (name.as_str(), item.to_token_stream().to_string()));
        let types = self.types.iter().map(|(name, items)| {
            (name.as_str(), items.iter().map(|item| item.to_token_stream().to_string()).collect::<String>())
        });
        let functions =
            self.functions.iter().map(|(name, item)| (name.as_str(), item.to_token_stream().to_string()));
        consts.chain(types).chain(functions).collect()
    }

    /// Fails if the header has an API function or a constant macro that did not become an item.
    pub(crate) fn check_complete(&self, include: &Path) -> Result<()> {
        let bound: BTreeSet<_> = self.names().collect();
        for header in ["rados/librados.h", "rados/rados_types.h", "rbd/librbd.h", "rbd/features.h"] {
            let text = fs::read_to_string(include.join(header)).with_context(|| header.to_owned())?;
            let missing: Vec<_> = functions_of(&text)
                .into_iter()
                .chain(macros_of(&text))
                .filter(|name| !bound.contains(name.as_str()) && !MACROS_BY_HAND.contains(&name.as_str()))
                .collect();
            if !missing.is_empty() {
                bail!("{header} has what the bindings lack: {}", missing.join(", "));
            }
        }
        Ok(())
    }
}

/// Returns the names after `CEPH_RBD_API` and `CEPH_RADOS_API`, before the first parenthesis.
fn functions_of(header: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, marker) in header.match_indices("CEPH_RBD_API").chain(header.match_indices("CEPH_RADOS_API")) {
        let line_start = header[..at].rfind('\n').map_or(0, |newline| newline + 1);
        if header[line_start..at].trim_start().starts_with('#') {
            continue;
        }
        let before_parenthesis = header[at + marker.len()..].split('(').next().unwrap_or_default();
        let name = before_parenthesis
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .rfind(|word| !word.is_empty());
        names.extend(name.map(str::to_owned));
    }
    names
}

/// Returns the macros without parameters.
fn macros_of(header: &str) -> BTreeSet<String> {
    let defines = header
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("define"));
    let names = defines.filter_map(|rest| {
        let rest = rest.trim_start();
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
        (!rest[name.len()..].starts_with('(')).then(|| name.to_owned())
    });
    names.collect()
}

/// The declarations of the newest release, each with the release that added it, if that is not the
/// oldest.
pub(crate) struct Split {
    pub(crate) newest: Items,
    since: BTreeMap<String, String>,
}

impl Split {
    /// Returns the first release that has `name`, or `None` for the oldest one.
    pub(crate) fn since(&self, name: &str) -> Option<&str> {
        self.since.get(name).map(String::as_str)
    }

    /// Returns all items that the oldest release lacks.
    pub(crate) fn late(&self) -> impl Iterator<Item = &str> {
        self.since.keys().map(String::as_str)
    }

    /// Fails if `items` are not exactly what the oldest release has.
    pub(crate) fn check_baseline(&self, items: &Items) -> Result<()> {
        let baseline: BTreeSet<_> = self.newest.names().filter(|name| self.since(name).is_none()).collect();
        let found: BTreeSet<_> = items.names().collect();
        let differing: Vec<_> = baseline.symmetric_difference(&found).copied().collect();
        if !differing.is_empty() {
            bail!("differs in {}", differing.join(", "));
        }
        Ok(())
    }
}

/// Compares the releases, oldest first. Fails if one contradicts the newest, because one
/// declaration cannot serve both.
pub(crate) fn split(mut releases: Vec<(String, Items)>) -> Result<Split> {
    let (newest_release, newest) = releases.pop().context("no release")?;
    let mut since: BTreeMap<String, String> = BTreeMap::new();
    let texts = newest.texts();
    for name in newest.names() {
        let first = releases.iter().position(|(_, items)| items.names().any(|candidate| candidate == name));
        if first != Some(0) {
            let release = first.map_or(&newest_release, |first| &releases[first].0);
            since.insert(name.to_owned(), release.clone());
        }
    }
    for (release, items) in &releases {
        for (name, text) in items.texts() {
            if VERSION_CONSTANTS.contains(&name) {
                continue;
            }
            match texts.get(name) {
                None => bail!("Ceph {newest_release} has lost {name} of Ceph {release}"),
                Some(newest) if *newest != text => {
                    bail!("Ceph {release} declares\n  {text}\nbut Ceph {newest_release}\n  {newest}")
                }
                Some(_) => {}
            }
        }
    }
    drop(texts);
    Ok(Split { newest, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(text: &str) -> Items {
        Items::parse(text).unwrap()
    }

    #[test]
    fn what_only_a_newer_release_has_is_late() {
        let old = "pub const A: u32 = 1; unsafe extern \"C\" { pub fn f(); }";
        let new =
            "pub const A: u32 = 1; pub const B: u32 = 2; unsafe extern \"C\" { pub fn f(); pub fn g(); }";
        let split = split(vec![("16.2".into(), items(old)), ("20.2".into(), items(new))]).unwrap();
        assert_eq!((split.since("A"), split.since("f")), (None, None));
        assert_eq!((split.since("B"), split.since("g")), (Some("20.2"), Some("20.2")));
    }

    #[test]
    fn releases_that_disagree_are_refused() {
        let old = "unsafe extern \"C\" { pub fn f(a: u32); }";
        let new = "unsafe extern \"C\" { pub fn f(a: u64); }";
        assert!(split(vec![("16.2".into(), items(old)), ("20.2".into(), items(new))]).is_err());
        assert!(split(vec![("16.2".into(), items(old)), ("20.2".into(), items(""))]).is_err());
    }

    #[test]
    fn the_header_text_tells_functions_and_macros() {
        let header = "#define CEPH_RBD_API __attribute__((x))\n  #define ONE 1\n# define TWO(x) x\n\
                      CEPH_RBD_API const char *\n  rbd_name(int a);\nCEPH_RBD_API int rbd_f(void);";
        assert_eq!(functions_of(header).into_iter().collect::<Vec<_>>(), ["rbd_f", "rbd_name"]);
        assert_eq!(macros_of(header).into_iter().collect::<Vec<_>>(), ["CEPH_RBD_API", "ONE"]);
    }
}
