#![no_main]

use std::sync::LazyLock;

use tempfile::TempDir;

static ROOT: LazyLock<TempDir> = LazyLock::new(|| TempDir::new().expect("a temporary directory"));

libfuzzer_sys::fuzz_target!(|text: &str| rbd::krbd::fuzzing::sysfs(ROOT.path(), text));
