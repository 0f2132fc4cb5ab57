//! Finds the library and its headers, says how to link, and passes the version on to the crates
//! that depend on us.

#[cfg(feature = "bindgen")]
mod bindings;
mod find;

use std::env;
use std::path::Path;

/// The releases of librbd that add functions, as values of the cfg `librbd`. All up to the header's
/// are set.
const MINORS: std::ops::RangeInclusive<u32> = 16..=20;

/// The advice for a missing package.
const INSTALL: &str =
    "install librbd-dev and librados-dev (Debian, Ubuntu) or librbd-devel and librados-devel (Fedora)";

fn main() {
    for name in ["DOCS_RS", "LIBRBD_LIB_DIR", "LIBRBD_INCLUDE_DIR", "LIBRARY_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/generated/symbols.rs");
    let values: Vec<_> = MINORS.map(|minor| format!("\"1.{minor}\"")).collect();
    println!("cargo::rustc-check-cfg=cfg(librbd, values({}))", values.join(", "));

    let outcome = if env::var_os("DOCS_RS").is_some() { documentation() } else { library() };
    if let Err(error) = outcome {
        println!("cargo::error={error}");
    }
}

/// Builds documentation from the checked-in bindings, without a library.
fn documentation() -> Result<(), String> {
    if cfg!(feature = "bindgen") {
        let to = out_dir().join("bindings.rs");
        std::fs::copy("src/generated/bindings.rs", to)
            .map_err(|error| format!("cannot copy the bindings: {error}"))?;
    }
    Ok(())
}

fn library() -> Result<(), String> {
    let library = find::library()?;
    let include = find::include(&library)?;
    let version = match &include {
        Some(include) => Some(find::header_version(include)?),
        None => library.version(),
    };
    if let Some(version) = version.filter(|version| *version < (1, *MINORS.start(), 0)) {
        return Err(format!(
            "librbd {} in {} is older than Ceph 16.2 (librbd 1.16), the oldest supported release",
            dotted(version),
            library.dir.display()
        ));
    }

    if !library.searched_by_linker {
        println!("cargo::rustc-link-search=native={}", library.dir.display());
    }
    for link in &library.links {
        println!("cargo::rustc-link-lib={link}");
    }
    println!("cargo::metadata=lib_dir={}", library.dir.display());
    if let Some(version) = version {
        println!("cargo::metadata=version={}", dotted(version));
        for minor in MINORS.filter(|minor| (1, *minor, 0) <= version) {
            println!("cargo::rustc-cfg=librbd=\"1.{minor}\"");
        }
    }
    if let Some(include) = &include {
        println!("cargo::metadata=include_dir={}", include.display());
        println!("cargo::rustc-env=LIBRBD_SYS_INCLUDE_DIR={}", include.display());
        for header in ["rbd/librbd.h", "rbd/features.h", "rados/librados.h", "rados/rados_types.h"] {
            println!("cargo::rerun-if-changed={}", include.join(header).display());
        }
    }
    generate(include.as_deref())
}

#[cfg(feature = "bindgen")]
fn generate(include: Option<&Path>) -> Result<(), String> {
    #[path = "../src/symbols.rs"]
    #[allow(unreachable_pub, dead_code)] // public where it is part of the library
    mod symbols;

    let include =
        include.ok_or_else(|| format!("the feature `bindgen` needs librbd's headers: {INSTALL}"))?;
    let functions = symbols::SYMBOLS.iter().filter(|symbol| symbol.needs.is_some()).map(|symbol| symbol.name);
    let late: Vec<_> = functions.chain(symbols::LATE_ITEMS.iter().copied()).collect();
    let text = bindings::generate(include, &late).map_err(|error| error.to_string())?;
    std::fs::write(out_dir().join("bindings.rs"), text)
        .map_err(|error| format!("cannot write the bindings: {error}"))
}

#[cfg(not(feature = "bindgen"))]
#[allow(clippy::unnecessary_wraps)] // the other one fails
fn generate(_include: Option<&Path>) -> Result<(), String> {
    Ok(())
}

fn out_dir() -> std::path::PathBuf {
    env::var_os("OUT_DIR").expect("cargo sets it").into()
}

fn dotted((major, minor, extra): (u32, u32, u32)) -> String {
    format!("{major}.{minor}.{extra}")
}
