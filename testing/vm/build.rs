//! Compiles the guest agent: one static program, independent of the host's libraries, embedded into
//! the library.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=guest/main.rs");
    println!("cargo::rerun-if-changed=src/protocol.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("rbd-testvm-guest");
    // It needs only Rust's standard library, so the compiler is sufficient. A nested cargo would
    // need a lock, a target directory and a network, and would inherit the flags of sanitizer and
    // coverage builds.
    let status = Command::new(variable("RUSTC"))
        .args(["--edition=2024", "--crate-type=bin", "--crate-name=rbd_testvm_guest", "--cap-lints=allow"])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols", "-Ctarget-feature=+crt-static"])
        .arg(format!("--target={}", variable("TARGET")))
        .arg("-o")
        .arg(&out)
        .arg("guest/main.rs")
        .status();
    match status {
        Ok(status) if status.success() => println!("cargo::rustc-env=RBD_TESTVM_GUEST={}", out.display()),
        Ok(status) => println!("cargo::error=the guest agent does not compile: rustc ended with {status}"),
        Err(error) => println!("cargo::error=rustc cannot be run for the guest agent: {error}"),
    }
}
