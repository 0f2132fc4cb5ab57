//! The layers of `rbd` as data, and the check that imports only point down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::TokenTree;

use super::{parse, paths};
use crate::cmd;

/// A layer: modules that may use the layers below. A field says whether they may use each other.
struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    among_themselves: bool,
    /// May name the raw crate `librbd_sys`.
    sys: bool,
}

/// The layers from bottom to top. A module that is not listed is a fault: add a new module to its
/// layer.
const LAYERS: &[Layer] = &[
    // Plain values: no handles, no calls of C.
    Layer {
        name: "values",
        modules: &[
            "address", "buffer", "compare", "errno", "error", "events", "features", "guide", "hints",
            "holder", "names", "progress", "spec", "version",
        ],
        among_themselves: true,
        sys: true,
    },
    // All unsafe code.
    Layer { name: "raw", modules: &["raw"], among_themselves: true, sys: true },
    Layer { name: "cluster", modules: &["cluster"], among_themselves: true, sys: false },
    Layer { name: "ioctx", modules: &["ioctx"], among_themselves: true, sys: false },
    Layer { name: "image", modules: &["image"], among_themselves: true, sys: false },
    // Futures, below the subjects with asynchronous calls.
    Layer { name: "aio", modules: &["aio"], among_themselves: true, sys: false },
    // Whole subjects on top of images and pools. Each can be understood without the others.
    Layer {
        name: "subjects",
        modules: &["batch", "group", "krbd", "migration", "mirror", "queue", "rados", "survey"],
        among_themselves: false,
        sys: false,
    },
    // Modules that use several subjects.
    Layer { name: "top", modules: &["fuzzing", "unblock"], among_themselves: false, sys: false },
];

/// The folders of `rbd/src/raw`, bottom to top.
const RAW: &[Layer] = &[
    Layer { name: "ffi", modules: &["ffi", "kernel"], among_themselves: false, sys: true },
    Layer { name: "thread", modules: &["thread"], among_themselves: false, sys: true },
    Layer { name: "op", modules: &["op"], among_themselves: false, sys: true },
    Layer { name: "cluster", modules: &["cluster"], among_themselves: false, sys: true },
    Layer { name: "ioctx", modules: &["ioctx"], among_themselves: false, sys: true },
    Layer { name: "image", modules: &["image"], among_themselves: false, sys: true },
    Layer {
        name: "subjects",
        modules: &["group", "migration", "mirror", "queue", "rados"],
        among_themselves: false,
        sys: true,
    },
];

/// Checks these files of the crate, given relative to its `src`. `facade` is the text of its
/// `lib.rs`.
pub(super) fn check<'a>(facade: &str, files: impl Iterator<Item = &'a Path>) -> Result<Vec<String>> {
    let exports = exports(facade)?;
    let mut faults = Vec::new();
    let mut raw = BTreeMap::new();
    let mut modules = Vec::new();
    for file in files.filter(|file| *file != Path::new("lib.rs")) {
        let path = cmd::root().join("rbd/src").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        faults.extend(check_file(file, &text, &exports)?);
        let module = module_path(file);
        if module[0] == "raw" {
            raw.insert(module.clone(), named(file, &text)?);
        }
        modules.push(module);
    }
    faults.extend(missing(LAYERS, modules.iter().filter_map(|module| module.first())));
    faults.extend(missing(RAW, raw.keys().filter_map(|module| module.get(1))));
    faults.extend(circles(&raw));
    Ok(faults)
}

fn check_file(file: &Path, text: &str, exports: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let shown = format!("rbd/src/{}", file.display());
    let module = module_path(file);
    let named = named(file, text)?;
    let from_root = named.iter().map(|named| {
        // A name that the root re-exports counts as its original module.
        (named.line, exports.get(&named.path[0]).unwrap_or(&named.path[0]).as_str())
    });
    let mut faults = arrows(LAYERS, &shown, &module[0], from_root);
    if let (Some(own), "raw") = (module.get(1), module[0].as_str()) {
        let inside = named.iter().filter_map(|named| match named.path.as_slice() {
            // In capitals: a type of `raw` itself.
            [root, target, ..] if root == "raw" && !target.starts_with(char::is_uppercase) => {
                Some((named.line, target.as_str()))
            }
            _ => None,
        });
        faults.extend(arrows(RAW, &shown, own, inside));
    }
    let own = &module[0];
    if layer_of(LAYERS, own).is_some_and(|(_, layer)| !layer.sys) {
        faults.extend(
            paths::of_crate(parse(&shown, text)?, "librbd_sys")
                .into_iter()
                .map(|line| format!("{shown}:{line}: `{own}` names librbd_sys; only raw and the values may")),
        );
    }
    Ok(faults)
}

fn named(file: &Path, text: &str) -> Result<Vec<paths::Named>> {
    Ok(paths::from_root(parse(&format!("rbd/src/{}", file.display()), text)?, &module_path(file)))
}

/// Returns the uses that point up, by line and module, from a file of the module `own`.
fn arrows<'a>(
    layers: &[Layer],
    shown: &str,
    own: &str,
    targets: impl Iterator<Item = (usize, &'a str)>,
) -> Vec<String> {
    let Some((height, layer)) = layer_of(layers, own) else {
        return vec![format!(
            "{shown}: the module `{own}` is in no layer; list it in xtask/src/tidy/layers.rs"
        )];
    };
    let mut faults = Vec::new();
    for (line, target) in targets.filter(|(_, target)| *target != own) {
        match layer_of(layers, target) {
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
    faults
}

/// Returns the modules of the table that do not exist.
fn missing<'a>(layers: &[Layer], exist: impl Iterator<Item = &'a String>) -> Vec<String> {
    let exist: BTreeSet<_> = exist.map(String::as_str).collect();
    layers
        .iter()
        .flat_map(|layer| layer.modules)
        .filter(|module| !exist.contains(*module))
        .map(|module| {
            format!("xtask/src/tidy/layers.rs: there is no module `{module}`; remove it from the table")
        })
        .collect()
}

/// Returns the files of `raw` that import each other in a circle.
fn circles(files: &BTreeMap<Vec<String>, Vec<paths::Named>>) -> Vec<String> {
    // The file of a path is its longest part that names one.
    let file_of = |path: &[String]| (2..=path.len()).rev().find_map(|len| files.get_key_value(&path[..len]));
    let targets = |from: &Vec<String>| -> BTreeSet<&Vec<String>> {
        files[from]
            .iter()
            .filter_map(|named| file_of(&named.path))
            .map(|(to, _)| to)
            .filter(|to| *to != from)
            .collect()
    };
    let arrows: BTreeMap<_, _> = files.keys().map(|from| (from, targets(from))).collect();
    // Remove files without imports and files that nothing imports, until only circles remain.
    let mut left: BTreeSet<_> = files.keys().collect();
    loop {
        let before = left.len();
        let in_circle = |file: &&Vec<String>| {
            arrows[*file].iter().any(|to| left.contains(to))
                && left.iter().any(|from| arrows[*from].contains(file))
        };
        left = left.iter().copied().filter(in_circle).collect();
        if left.len() == before {
            break;
        }
    }
    let names: Vec<_> = left.iter().map(|module| module.join("::")).collect();
    if names.is_empty() {
        Vec::new()
    } else {
        vec![format!("files import each other in a circle: {}", names.join(", "))]
    }
}

fn layer_of<'a>(layers: &'a [Layer], module: &str) -> Option<(usize, &'a Layer)> {
    layers.iter().enumerate().find(|(_, layer)| layer.modules.contains(&module))
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
    let mut exports = BTreeMap::new();
    let tokens: Vec<_> = parse("rbd/src/lib.rs", facade)?.into_iter().collect();
    for statement in tokens.split(|token| matches!(token, TokenTree::Punct(end) if end.as_char() == ';')) {
        let Some(at) = statement.iter().position(|token| matches!(token, TokenTree::Ident(w) if w == "use"))
        else {
            continue;
        };
        if let Some(TokenTree::Ident(module)) = statement.get(at + 1) {
            words(&statement[at + 2..], &mut |name| {
                exports.insert(name, module.to_string());
            });
        }
    }
    Ok(exports)
}

fn words(tokens: &[TokenTree], each: &mut impl FnMut(String)) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => each(word.to_string()),
            TokenTree::Group(group) => words(&group.stream().into_iter().collect::<Vec<_>>(), each),
            _ => {}
        }
    }
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
            assert!(fault.len() == 1 && fault[0].contains("`op` (layer op) uses"), "{fault:?}");
        }
        assert_eq!(faults("raw/group.rs", "use crate::raw::mirror::x;").len(), 1, "side by side");
        assert_eq!(faults("raw/novelty.rs", "").len(), 1, "in no layer");
        assert_eq!(faults("raw/op/slot.rs", "use crate::raw::novelty::x;").len(), 1, "unknown");
    }

    #[test]
    fn a_module_of_the_table_must_exist() {
        let layers = [Layer { name: "one", modules: &["there", "gone"], among_themselves: true, sys: true }];
        let faults = missing(&layers, [String::from("there")].iter());
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
        assert_eq!(graph(&[image, io, ("raw/image/handle.rs", "use super::io::x;")]).len(), 1);
        assert_eq!(graph(&[image, io, ("raw/image/handle.rs", "use std::io::x;")]), [] as [&str; 0]);
    }
}
