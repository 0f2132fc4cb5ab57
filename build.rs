//! Compiles the C twin of the benchmarks, and links it into them only.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=benches/twin.c");
    println!("cargo::rerun-if-changed=build.rs");
    let mut build = cc::Build::new();
    // librbd-sys has found the headers; without it (documentation) there is nothing to measure.
    let Some(include) = env::var_os("DEP_RBD_INCLUDE_DIR") else { return };
    build
        .file("benches/twin.c")
        .include(include)
        .warnings(true)
        .opt_level(2)
        .cargo_metadata(false)
        .compile("twin");
    let archive = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("libtwin.a");
    println!("cargo::rustc-link-arg-benches={}", archive.display());
}
