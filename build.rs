//! Compiles what the benchmarks have in C: the twin that is linked into them, and the counter of
//! allocations.

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // librbd-sys has found the headers; without it (documentation) there is nothing to measure.
    let Some(include) = env::var_os("DEP_RBD_INCLUDE_DIR") else { return };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    cc::Build::new()
        .file(source("benches/twin.c"))
        .include(include)
        .warnings(true)
        .opt_level(2)
        .cargo_metadata(false)
        .compile("twin");
    println!("cargo::rustc-link-arg-benches={}", out.join("libtwin.a").display());

    // librbd finds this function of the tests only if the program exports it.
    println!("cargo::rustc-link-arg-tests=-Wl,--export-dynamic-symbol=crypt_init");

    // Preloaded by `compare` into the processes whose allocations it counts.
    let counter = out.join("liballocations.so");
    let mut compiler = cc::Build::new().warnings(true).opt_level(2).pic(true).get_compiler().to_command();
    compiler.arg("-shared").arg("-o").arg(&counter).arg(source("benches/allocations.c"));
    let status = compiler.status().expect("the C compiler has just been used");
    assert!(status.success(), "{compiler:?}: {status}");
    println!("cargo::rustc-env=ALLOCATIONS_LIBRARY={}", counter.display());
}

/// A file of this package, which cargo watches.
fn source(path: &str) -> &Path {
    println!("cargo::rerun-if-changed={path}");
    Path::new(path)
}
