//! Runs the build script on directories that look like installations.

#![allow(missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Returns the compiled build script. Without the feature `bindgen` it has no dependencies.
fn script() -> &'static Path {
    static SCRIPT: OnceLock<(TempDir, std::path::PathBuf)> = OnceLock::new();
    let (_, path) = SCRIPT.get_or_init(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = dir.path().join("script");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/build/main.rs");
        let status = Command::new(rustc).args(["--edition=2024", "-o"]).arg(&path).arg(source).status();
        assert!(status.unwrap().success());
        (dir, path)
    });
    path
}

/// Makes a directory tree with these files. The headers contain the version.
fn installation(files: &[&str], version: &str) -> TempDir {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut parts = version.split('.');
    let mut part = || parts.next().unwrap();
    let header = format!(
        "#define LIBRBD_VER_MAJOR {}\n#define LIBRBD_VER_MINOR {}\n#define LIBRBD_VER_EXTRA {}\n",
        part(),
        part(),
        part()
    );
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, if file.starts_with("lib/") { "" } else { &header }).unwrap();
    }
    root
}

const DEVELOPMENT: [&str; 4] =
    ["lib/librbd.so", "lib/librados.so", "include/rbd/librbd.h", "include/rados/librados.h"];

/// Returns the script's output, with `ROOT` instead of the installation's directory.
fn run(root: &TempDir, environment: &[(&str, &str)]) -> Vec<String> {
    let target = "x86_64-unknown-linux-gnu";
    let mut command = Command::new(script());
    command.env_clear().env("TARGET", target).env("HOST", target).env("OUT_DIR", root.path());
    for (name, value) in environment {
        command.env(name, value.replace("ROOT", root.path().to_str().unwrap()));
    }
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap().replace(root.path().to_str().unwrap(), "ROOT");
    text.lines().map(str::to_owned).collect()
}

/// Returns the one error line, which must be the only output.
fn error(lines: &[String]) -> &str {
    let errors: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("cargo::error=")).collect();
    assert_eq!(errors.len(), 1, "{lines:#?}");
    assert!(lines.iter().all(|line| line.starts_with("cargo::")), "{lines:#?}");
    errors[0]
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|candidate| candidate == line)
}

#[test]
fn a_development_package_is_linked_and_its_version_passed_on() {
    let root = installation(&DEVELOPMENT, "1.18.0");
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib")]);
    for line in [
        "cargo::rustc-link-search=native=ROOT/lib",
        "cargo::rustc-link-lib=dylib=rbd",
        "cargo::rustc-link-lib=dylib=rados",
        "cargo::metadata=version=1.18.0",
        "cargo::metadata=lib_dir=ROOT/lib",
        "cargo::metadata=include_dir=ROOT/include",
        "cargo::rustc-cfg=librbd=\"1.16\"",
        "cargo::rustc-cfg=librbd=\"1.18\"",
        "cargo::rerun-if-changed=ROOT/include/rbd/librbd.h",
        "cargo::rerun-if-env-changed=LIBRBD_LIB_DIR",
    ] {
        assert!(has(&lines, line), "{line} is not in {lines:#?}");
    }
    assert!(!has(&lines, "cargo::rustc-cfg=librbd=\"1.19\""));
    assert!(!lines.iter().any(|line| line.starts_with("cargo::error")));
}

#[test]
fn a_runtime_package_is_linked_by_file_name() {
    let root = installation(&["lib/librbd.so.1.16.0", "lib/librados.so.2"], "1.16.0");
    std::os::unix::fs::symlink("librbd.so.1.16.0", root.path().join("lib/librbd.so.1")).unwrap();
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib")]);
    assert!(has(&lines, "cargo::rustc-link-lib=dylib:+verbatim=librbd.so.1"), "{lines:#?}");
    assert!(has(&lines, "cargo::rustc-link-lib=dylib:+verbatim=librados.so.2"));
    assert!(has(&lines, "cargo::metadata=version=1.16.0"));
    assert!(!lines.iter().any(|line| line.starts_with("cargo::metadata=include_dir")));
}

#[test]
fn headers_beside_a_multiarch_directory_are_found() {
    let files = ["usr/lib/a-linux-gnu/librbd.so", "usr/lib/a-linux-gnu/librados.so"];
    let headers = ["usr/include/rbd/librbd.h", "usr/include/rados/librados.h"];
    let root = installation(&[files, headers].concat(), "1.20.0");
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/usr/lib/a-linux-gnu")]);
    assert!(has(&lines, "cargo::metadata=include_dir=ROOT/usr/include"), "{lines:#?}");
    assert!(has(&lines, "cargo::rustc-cfg=librbd=\"1.20\""));
}

#[test]
fn the_named_include_directory_wins() {
    let root = installation(&DEVELOPMENT, "1.16.0");
    let other = installation(&["rbd/librbd.h", "rados/librados.h"], "1.19.0");
    let include = other.path().to_str().unwrap();
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib"), ("LIBRBD_INCLUDE_DIR", include)]);
    assert!(has(&lines, "cargo::metadata=version=1.19.0"), "{lines:#?}");
}

#[test]
fn a_missing_library_names_the_packages() {
    let root = installation(&["lib/librbd.so"], "1.16.0");
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib")]);
    assert_eq!(
        error(&lines),
        "LIBRBD_LIB_DIR=ROOT/lib does not hold librbd.so and librados.so; install librbd-dev and \
         librados-dev (Debian, Ubuntu) or librbd-devel and librados-devel (Fedora)"
    );
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/nowhere")]);
    assert_eq!(error(&lines), "LIBRBD_LIB_DIR=ROOT/nowhere is not a directory");
}

#[test]
fn a_system_without_the_library_is_told_where_it_was_looked_for() {
    // Nothing is installed for this target, and compilers are not asked about a foreign one.
    let root = installation(&[], "1.16.0");
    let lines = run(&root, &[("TARGET", "s390x-unknown-linux-gnu"), ("LIBRARY_PATH", "ROOT")]);
    assert_eq!(
        error(&lines),
        "librbd and librados are not in any of [ROOT]; install librbd-dev and librados-dev \
         (Debian, Ubuntu) or librbd-devel and librados-devel (Fedora), or set LIBRBD_LIB_DIR"
    );
}

#[test]
fn a_missing_header_is_named_when_it_was_asked_for() {
    let root = installation(&DEVELOPMENT, "1.16.0");
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib"), ("LIBRBD_INCLUDE_DIR", "ROOT/lib")]);
    let error = error(&lines);
    assert!(error.starts_with("LIBRBD_INCLUDE_DIR=ROOT/lib does not hold rbd/librbd.h"), "{error}");
    assert!(error.contains("librbd-dev"), "{error}");
}

#[test]
fn a_header_without_a_version_is_refused() {
    let root = installation(&DEVELOPMENT, "1.16.0");
    fs::write(root.path().join("include/rbd/librbd.h"), "#define LIBRBD_VER_MAJOR one\n").unwrap();
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib")]);
    assert!(error(&lines).contains("defines no LIBRBD_VER_MAJOR"));
}

#[test]
fn a_library_older_than_the_oldest_supported_is_refused() {
    let root = installation(&DEVELOPMENT, "1.12.0");
    let lines = run(&root, &[("LIBRBD_LIB_DIR", "ROOT/lib")]);
    assert_eq!(
        error(&lines),
        "librbd 1.12.0 in ROOT/lib is older than Ceph 16.2 (librbd 1.16), the oldest supported release"
    );
    assert!(!lines.iter().any(|line| line.starts_with("cargo::rustc-link")));
}

#[test]
fn documentation_needs_no_library() {
    let root = installation(&[], "1.16.0");
    let lines = run(&root, &[("DOCS_RS", "1"), ("LIBRBD_LIB_DIR", "ROOT/nowhere")]);
    assert!(
        lines.iter().all(|line| line.starts_with("cargo::rerun-if-") || line.contains("check-cfg")),
        "{lines:#?}"
    );
}
