//! Compares structures and constants in Rust with the system's headers, through the C compiler.

#![allow(missing_docs)]

use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use librbd_sys::late::*;
use librbd_sys::*;

struct Structure {
    name: &'static str,
    /// Whether headers may lack it.
    late: bool,
    size: usize,
    align: usize,
    fields: &'static [(&'static str, usize)],
}

struct Constant {
    name: &'static str,
    late: bool,
    value: Value,
}

enum Value {
    Number(i128),
    Text(&'static CStr),
}

include!("generated/items.rs");

/// The constants written by hand in src/lib.rs.
const BY_HAND: [Constant; 2] = [
    Constant { name: "LIBRADOS_SNAP_HEAD", late: false, value: Value::Number(LIBRADOS_SNAP_HEAD as i128) },
    Constant { name: "LIBRADOS_SNAP_DIR", late: false, value: Value::Number(LIBRADOS_SNAP_DIR as i128) },
];

/// Returns the headers that the build script found.
fn include_dir() -> &'static Path {
    Path::new(env!("LIBRBD_SYS_INCLUDE_DIR", "the tests need librbd-dev and librados-dev"))
}

fn headers() -> String {
    let names = ["rados/rados_types.h", "rados/librados.h", "rbd/features.h", "rbd/librbd.h"];
    names.map(|name| fs::read_to_string(include_dir().join(name)).expect("the build script saw it")).concat()
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|candidate| candidate == word)
}

/// Compiles a program whose main() is `body`, and returns its output.
fn run_c(name: &str, body: &str) -> String {
    let source = format!(
        "#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <rados/librados.h>\n#include <rbd/librbd.h>\n\
         #include <rbd/features.h>\nint main(void) {{\n{body}return 0;\n}}\n"
    );
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (file, program) = (dir.join(format!("{name}.c")), dir.join(name));
    fs::write(&file, source).unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(&compiler)
        .args(["-w", "-o"])
        .args([&program, &file])
        .arg(format!("-I{}", include_dir().display()))
        .output()
        .unwrap_or_else(|error| panic!("cannot start the C compiler {compiler}: {error}"));
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let output = Command::new(&program).output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with the lines that differ.
fn compare(rust: &str, c: &str) {
    let differing: Vec<_> = rust.lines().zip(c.lines()).filter(|(rust, c)| rust != c).collect();
    assert!(differing.is_empty(), "(in Rust, in C): {differing:#?}");
    assert_eq!(rust.lines().count(), c.lines().count());
}

#[test]
fn structures_are_laid_out_as_in_c() {
    let headers = headers();
    let (mut body, mut expected) = (String::new(), String::new());
    for structure in STRUCTURES {
        let name = structure.name;
        if structure.late && !has_word(&headers, name) {
            continue;
        }
        let tagged = headers.contains(&format!("struct {name} {{"));
        let ty = if tagged { format!("struct {name}") } else { name.to_owned() };
        writeln!(body, r#"printf("{name} %zu %zu\n", sizeof({ty}), _Alignof({ty}));"#).unwrap();
        writeln!(expected, "{name} {} {}", structure.size, structure.align).unwrap();
        for (field, offset) in structure.fields {
            writeln!(body, r#"printf("{name}.{field} %zu\n", offsetof({ty}, {field}));"#).unwrap();
            writeln!(expected, "{name}.{field} {offset}").unwrap();
        }
    }
    assert!(expected.lines().count() > 100);
    compare(&expected, &run_c("structures", &body));
}

#[test]
fn constants_have_the_values_of_c() {
    let headers = headers();
    let (mut body, mut expected) = (String::new(), String::new());
    for Constant { name, late, value } in CONSTANTS.iter().chain(&BY_HAND) {
        if *late && !has_word(&headers, name) {
            continue;
        }
        match value {
            Value::Number(value) => {
                // Compares sign and value, because C's own type of a macro is wider or narrower
                // than the parameter for which it is used.
                writeln!(body, r#"printf("{name} %d %llu\n", {name} < 0, (unsigned long long) {name});"#)
                    .unwrap();
                writeln!(expected, "{name} {} {}", u8::from(*value < 0), *value as u64).unwrap();
            }
            Value::Text(text) => {
                writeln!(body, r#"printf("{name} %s\n", {name});"#).unwrap();
                writeln!(expected, "{name} {}", text.to_str().unwrap()).unwrap();
            }
        }
    }
    assert!(expected.lines().count() > 100);
    compare(&expected, &run_c("constants", &body));
}

#[test]
fn version_macros_compute_as_in_c() {
    let body = r#"printf("%d %d", LIBRADOS_VERSION(3, 0, 7), LIBRBD_VERSION(1, 16, 2));"#;
    let expected = format!("{} {}", LIBRADOS_VERSION(3, 0, 7), LIBRBD_VERSION(1, 16, 2));
    assert_eq!(run_c("versions", body), expected);
}
