//! The layers of `rbd` as data, and the check that an arrow points down only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::TokenTree;

use super::{parse, paths};
use crate::cmd;

/// Modules that lie side by side. They may use the layers below; whether they may use each other is said.
struct Layer {
    name: &'static str,
    modules: &'static [&'static str],
    among_themselves: bool,
    /// May name the raw crate `librbd_sys`.
    sys: bool,
}

/// Bottom to top. A module that is not listed is a fault: whoever adds one decides here where it lies.
const LAYERS: &[Layer] = &[
    // Plain values: no handle, no call into C.
    Layer {
        name: "values",
        modules: &[
            "errno", "error", "events", "features", "guide", "hints", "holder", "names", "progress", "spec",
            "sync", "version",
        ],
        among_themselves: true,
        sys: true,
    },
    // All unsafe code.
    Layer { name: "raw", modules: &["raw"], among_themselves: true, sys: true },
    Layer { name: "cluster", modules: &["cluster"], among_themselves: true, sys: false },
    Layer { name: "ioctx", modules: &["ioctx"], among_themselves: true, sys: false },
    Layer { name: "image", modules: &["image"], among_themselves: true, sys: false },
    // Futures, below the subjects that offer asynchronous calls of their own.
    Layer { name: "aio", modules: &["aio"], among_themselves: true, sys: false },
    // Whole subjects on top of images and pools. Each can be understood without the others.
    Layer {
        name: "subjects",
        modules: &["group", "krbd", "migration", "mirror", "queue", "rados", "trash"],
        among_themselves: false,
        sys: false,
    },
    // What is made of several subjects: what a node does for a container's volume, with images, file systems and mounts
    // together.
    Layer { name: "volume", modules: &["unblock", "volume"], among_themselves: false, sys: false },
];

/// Checks these files of the crate, named relative to its `src`; `facade` is the text of its `lib.rs`.
pub(super) fn check<'a>(facade: &str, files: impl Iterator<Item = &'a Path>) -> Result<Vec<String>> {
    let exports = exports(facade)?;
    let mut faults = Vec::new();
    for file in files.filter(|file| *file != Path::new("lib.rs")) {
        let path = cmd::root().join("rbd/src").join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        faults.extend(check_file(file, &text, &exports)?);
    }
    Ok(faults)
}

fn check_file(file: &Path, text: &str, exports: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let shown = format!("rbd/src/{}", file.display());
    let module = module_path(file);
    let own = &module[0];
    let Some((height, layer)) = layer_of(own) else {
        return Ok(vec![format!(
            "{shown}: the module `{own}` is in no layer; list it in xtask/src/tidy/layers.rs"
        )]);
    };
    let tokens = parse(&shown, text)?;
    let mut faults = Vec::new();
    for named in paths::from_root(tokens.clone(), &module) {
        // A name that the root re-exports counts as the module that it comes from.
        let target = exports.get(&named.name).unwrap_or(&named.name);
        if target == own {
            continue;
        }
        match layer_of(target) {
            Some((below, _)) if below < height => {}
            Some((level, _)) if level == height && layer.among_themselves => {}
            Some((_, other)) => faults.push(format!(
                "{shown}:{}: `{own}` (layer {}) uses `{target}` (layer {}); an arrow points down only",
                named.line, layer.name, other.name
            )),
            None => faults.push(format!(
                "{shown}:{}: `crate::{}` is in no layer and no re-export of one; name the module it comes from",
                named.line, named.name
            )),
        }
    }
    if !layer.sys {
        faults.extend(
            paths::of_crate(tokens, "librbd_sys")
                .into_iter()
                .map(|line| format!("{shown}:{line}: `{own}` names librbd_sys; only raw and the values may")),
        );
    }
    Ok(faults)
}

fn layer_of(module: &str) -> Option<(usize, &'static Layer)> {
    LAYERS.iter().enumerate().find(|(_, layer)| layer.modules.contains(&module))
}

/// `image/io.rs` is the module `image::io`; `image.rs` and `image/mod.rs` are `image`.
fn module_path(file: &Path) -> Vec<String> {
    let mut parts: Vec<_> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Which module each name comes from that the root re-exports by `pub use module::…;`.
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
            [
                "rbd/src/cluster/mod.rs:2: `cluster` (layer cluster) uses `image` (layer image); an arrow points down only"
            ]
        );
        assert_eq!(faults("error.rs", "use super::raw::x;").len(), 1);
    }

    #[test]
    fn re_exports_count_as_what_they_are() {
        assert_eq!(faults("cluster.rs", "fn f() -> crate::Result<crate::Image> {}").len(), 1);
    }

    #[test]
    fn subjects_do_not_know_each_other() {
        assert_eq!(faults("trash.rs", "use crate::group::Group;").len(), 1);
        assert_eq!(faults("volume.rs", "use crate::krbd::Device;"), [] as [&str; 0]);
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
        assert_eq!(faults("raw/image.rs", "use librbd_sys as sys;"), [] as [&str; 0]);
    }
}
