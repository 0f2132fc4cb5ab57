//! The layers of `rbd` as data, and the check that imports only point down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{parse, paths};
use crate::cmd;

/// Modules that may use the layers below.
struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    among_themselves: bool,
}

const fn layer(name: &'static str, modules: &'static [&'static str]) -> Layer {
    Layer { name, modules, among_themselves: false }
}

/// The layers from bottom to top. A module that is not listed is a fault: add a new module to its
/// layer. The folders of `raw` are modules of this list.
const LAYERS: &[Layer] = &[
    // Plain values: no handles, no calls of C.
    Layer {
        name: "values",
        modules: &[
            "address", "buffer", "compare", "errno", "error", "events", "features", "guide", "hints",
            "holder", "names", "progress", "spec", "time", "version",
        ],
        among_themselves: true,
    },
    // All unsafe code.
    layer("raw", &["raw"]),
    layer("raw ffi", &["raw::ffi", "raw::kernel"]),
    layer("raw thread", &["raw::thread"]),
    layer("raw op", &["raw::op"]),
    layer("raw cluster", &["raw::cluster"]),
    layer("raw ioctx", &["raw::ioctx"]),
    layer("raw image", &["raw::image"]),
    layer("raw subjects", &["raw::group", "raw::migration", "raw::mirror", "raw::queue", "raw::rados"]),
    layer("cluster", &["cluster"]),
    layer("ioctx", &["ioctx"]),
    layer("image", &["image"]),
    // Futures, below the subjects with asynchronous calls.
    layer("aio", &["aio"]),
    // Whole subjects on top of images and pools. Each can be understood without the others.
    layer("subjects", &["batch", "group", "krbd", "migration", "mirror", "queue", "rados", "survey"]),
    // Modules that use several subjects.
    layer("top", &["fuzzing", "unblock"]),
];

/// Checks these files of the crate, given relative to its `src`. `facade` is the text of its
/// `lib.rs`.
pub(super) fn check<'a>(facade: &str, files: impl Iterator<Item = &'a Path>) -> Result<Vec<String>> {
    let exports = exports(facade)?;
    let mut faults = Vec::new();
    let mut imports = BTreeMap::new();
    for file in files.filter(|file| *file != Path::new("lib.rs")) {
        let path = cmd::root().join("rbd/src").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        faults.extend(check_file(file, &text, &exports)?);
        imports.insert(module_path(file), named(file, &text)?);
    }
    let exist: BTreeSet<_> = imports.keys().map(|module| listed(module)).collect();
    faults.extend(missing(LAYERS, &exist));
    imports.retain(|module, _| module[0] == "raw");
    faults.extend(circles(&imports));
    Ok(faults)
}

fn check_file(file: &Path, text: &str, exports: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let shown = format!("rbd/src/{}", file.display());
    let own = listed(&module_path(file));
    let Some((height, layer)) = layer_of(&own) else {
        let fault =
            format!("{shown}: the module `{own}` is in no layer; list it in xtask/src/tidy/layers.rs");
        return Ok(vec![fault]);
    };
    let mut faults = Vec::new();
    for paths::Named { line, path } in named(file, text)? {
        // A name that the root re-exports counts as its original module.
        let target = exports.get(&path[0]).cloned().unwrap_or_else(|| listed(&path));
        match layer_of(&target) {
            _ if target == own => {}
            Some((below, _)) if below < height => {}
            Some((level, _)) if level == height && layer.among_themselves => {}
            Some((_, other)) => faults.push(format!(
                "{shown}:{line}: `{own}` (layer {}) uses `{target}` (layer {}); an arrow points down only",
                layer.name, other.name
            )),
            None => faults.push(format!(
                "{shown}:{line}: `{target}` is in no layer and no re-export of one; name the \
                 module it comes from"
            )),
        }
    }
    if height > 0 && !own.starts_with("raw") {
        faults.extend(
            paths::lines_of(parse(&shown, text)?, "librbd_sys")
                .into_iter()
                .map(|line| format!("{shown}:{line}: `{own}` names librbd_sys; only raw and the values may")),
        );
    }
    Ok(faults)
}

fn named(file: &Path, text: &str) -> Result<Vec<paths::Named>> {
    Ok(paths::from_root(parse(&format!("rbd/src/{}", file.display()), text)?, &module_path(file)))
}

/// Returns the module of a path as the list of layers names it: the first one, or a folder of
/// `raw`. In capitals, the second word is a type of `raw` itself.
fn listed(path: &[String]) -> String {
    match path {
        [raw, inner, ..] if raw == "raw" && inner.starts_with(char::is_lowercase) => format!("raw::{inner}"),
        _ => path[0].clone(),
    }
}

/// Returns the modules of the list that do not exist.
fn missing(layers: &[Layer], exist: &BTreeSet<String>) -> Vec<String> {
    let modules = layers.iter().flat_map(|layer| layer.modules);
    modules
        .filter(|module| !exist.contains(**module))
        .map(|module| {
            format!("xtask/src/tidy/layers.rs: there is no module `{module}`; remove it from the list")
        })
        .collect()
}

/// Returns the files that import each other in a circle.
fn circles(files: &BTreeMap<Vec<String>, Vec<paths::Named>>) -> Option<String> {
    // The file of a path is its longest part that names one.
    let file_of = |path: &[String]| (2..=path.len()).rev().find_map(|len| files.get_key_value(&path[..len]));
    let mut arrows: BTreeSet<(&Vec<String>, &Vec<String>)> = files
        .iter()
        .flat_map(|(from, named)| named.iter().map(move |named| (from, named)))
        .filter_map(|(from, named)| Some((from, file_of(&named.path)?.0)))
        .filter(|(from, to)| from != to)
        .collect();
    // Remove arrows that come from nowhere or lead nowhere, until only circles remain.
    loop {
        let before = arrows.len();
        let (from, to): (BTreeSet<_>, BTreeSet<_>) = arrows.iter().copied().unzip();
        arrows.retain(|(start, end)| to.contains(start) && from.contains(end));
        if arrows.len() == before {
            let names: BTreeSet<_> = arrows.iter().map(|(from, _)| from.join("::")).collect();
            let names: Vec<_> = names.into_iter().collect();
            return (!names.is_empty())
                .then(|| format!("files import each other in a circle: {}", names.join(", ")));
        }
    }
}

fn layer_of(module: &str) -> Option<(usize, &'static Layer)> {
    LAYERS.iter().enumerate().find(|(_, layer)| layer.modules.contains(&module))
}

/// Returns the module of a file: `image/io.rs` is `image::io`, `image.rs` and `image/mod.rs` are
/// `image`.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<_> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Returns the module of each name that the root re-exports by `pub use module::…;`.
fn exports(facade: &str) -> Result<BTreeMap<String, String>> {
    let named = paths::from_root(parse("rbd/src/lib.rs", facade)?, &[]);
    let entry = |named: paths::Named| Some((named.path.last()?.clone(), named.path.first()?.clone()));
    Ok(named.into_iter().filter(|named| named.path.len() > 1).filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACADE: &str = "mod image; pub use error::{Error, Result}; pub use image::Image; pub use crate::x;";

    fn faults(file: &str, text: &str) -> Vec<String> {
        check_file(Path::new(file), text, &exports(FACADE).unwrap()).unwrap()
    }

    #[test]
    fn an_arrow_down_is_fine_and_one_up_is_not() {
        assert_eq!(faults("image/mod.rs", "use crate::{ioctx::IoCtx, raw, error::Error};"), [] as [&str; 0]);
        assert_eq!(faults("image/io.rs", "use super::Image; use crate::image::x;"), [] as [&str; 0]);
        let fault = faults("cluster/mod.rs", "\nuse crate::image::Image;");
        assert_eq!(
            fault,
            ["rbd/src/cluster/mod.rs:2: `cluster` (layer cluster) uses `image` (layer image); \
                 an arrow points down only"]
        );
        assert_eq!(faults("error.rs", "use super::raw::x;").len(), 1);
    }

    #[test]
    fn re_exports_count_as_what_they_are() {
        assert_eq!(faults("cluster.rs", "fn f() -> crate::Result<crate::Image> {}").len(), 1);
    }

    #[test]
    fn subjects_do_not_know_each_other() {
        assert_eq!(faults("mirror.rs", "use crate::group::Group;").len(), 1);
        assert_eq!(faults("fuzzing.rs", "use crate::krbd::Device;"), [] as [&str; 0]);
    }

    #[test]
    fn unknown_modules_and_names_are_faults() {
        assert_eq!(faults("novelty.rs", "").len(), 1);
        assert_eq!(faults("image.rs", "use crate::novelty::X;").len(), 1);
        assert_eq!(faults("image.rs", "use crate::*;").len(), 1);
    }

    #[test]
    fn only_raw_and_values_meet_the_sys_crate() {
        assert_eq!(faults("image.rs", "fn f() { librbd_sys::rbd_open() }").len(), 1);
        assert_eq!(faults("raw/image/mod.rs", "use librbd_sys as sys;"), [] as [&str; 0]);
    }

    #[test]
    fn raw_has_layers_of_its_own() {
        let text = "use crate::raw::{RawResult, ffi::late::need}; use super::sync::Ordering; use \
            crate::errno::Errno;";
        assert_eq!(faults("raw/op/operation.rs", text), [] as [&str; 0]);
        for up in [
            "use crate::raw::image::Image;",
            "use super::super::queue::Queue;",
            "use crate::raw::{ffi, image};",
        ] {
            let fault = faults("raw/op/operation.rs", up);
            assert!(fault.len() == 1 && fault[0].contains("`raw::op` (layer raw op) uses"), "{fault:?}");
        }
        assert_eq!(faults("raw/group.rs", "use crate::raw::mirror::x;").len(), 1, "side by side");
        assert_eq!(faults("raw/novelty.rs", "").len(), 1, "in no layer");
        assert_eq!(faults("raw/op/slot.rs", "use crate::raw::novelty::x;").len(), 1, "unknown");
    }

    #[test]
    fn a_module_of_the_table_must_exist() {
        let faults = missing(&[layer("one", &["there", "gone"])], &[String::from("there")].into());
        assert!(faults.len() == 1 && faults[0].contains("`gone`"), "{faults:?}");
    }

    #[test]
    fn circles_of_files_are_found() {
        let graph = |texts: &[(&str, &str)]| {
            let file = |(file, text): &(&str, &str)| {
                (module_path(Path::new(file)), named(Path::new(file), text).unwrap())
            };
            circles(&texts.iter().map(file).collect())
        };
        let image = ("raw/image/mod.rs", "mod handle; mod io; use handle::Handle;");
        let io = ("raw/image/io.rs", "use crate::raw::image::Image; mod tests { use super::*; }");
        assert!(graph(&[image, io, ("raw/image/handle.rs", "use super::io::x;")]).is_some());
        assert_eq!(graph(&[image, io, ("raw/image/handle.rs", "use std::io::x;")]), None);
    }
}
