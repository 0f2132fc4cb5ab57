//! Which of the functions that only newer releases have were really called.
//!
//! A library that is loaded before all others has functions of these names: each calls the real
//! one, and writes its name into a file when that succeeded. So the run finds a function whose
//! calls in the tests have all failed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cmd;
use crate::scratch::Scratch;

/// The bindings of functions newer than the oldest release that is supported.
const BINDINGS: &str = "librbd-sys/src/generated/late.rs";

/// The library, and the file that it writes to.
pub(crate) struct Recorder {
    library: PathBuf,
    calls: PathBuf,
    wanted: BTreeSet<String>,
}

impl Recorder {
    /// Compiles the library into the scratch directory.
    pub(crate) fn new(scratch: &Scratch) -> Result<Recorder> {
        let functions = functions(&fs::read_to_string(cmd::root().join(BINDINGS))?)?;
        let calls = scratch.path().join("late.calls");
        let (source, library) = (scratch.path().join("late.c"), scratch.path().join("late.so"));
        fs::write(&source, c(&functions, &calls))?;
        let mut compile = cmd::command("cc", ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
        cmd::run(compile.arg(&library).arg(&source))?;
        let used = uses(&cmd::root().join("rbd/src/raw"))?;
        let wanted = functions.into_iter().map(|(name, _)| name).filter(|name| used.contains(name)).collect();
        Ok(Recorder { library, calls, wanted })
    }

    /// The variable that has a program load the library.
    pub(crate) fn variable(&self) -> String {
        format!("LD_PRELOAD={}", self.library.display())
    }

    /// Fails with the names of functions that never succeeded.
    pub(crate) fn check(&self) -> Result<usize> {
        let called = fs::read_to_string(&self.calls).unwrap_or_default();
        let called: BTreeSet<String> = called.lines().map(str::to_owned).collect();
        let missing: Vec<_> = self.wanted.difference(&called).map(String::as_str).collect();
        if !missing.is_empty() {
            bail!("no test called these with success, though this release has them: {}", missing.join(" "));
        }
        Ok(self.wanted.len())
    }
}

/// The names of the functions, and whether they return a number that is negative on failure: the
/// items `pub static NAME: Late<unsafe extern "C" fn(…) -> …> = …` of the bindings.
fn functions(bindings: &str) -> Result<Vec<(String, bool)>> {
    let item = |item: &str| {
        let (name, rest) = item.split_once(':')?;
        let (function, _) = rest.split_once("> =")?;
        Some((name.to_owned(), !function.trim_end().trim_end_matches(',').ends_with(')')))
    };
    let functions: Option<Vec<_>> = bindings.split("pub static ").skip(1).map(item).collect();
    functions
        .filter(|all| !all.is_empty())
        .with_context(|| format!("{BINDINGS} has no function, or a strange one"))
}

/// All arguments are numbers and pointers, and no function has more than nine: so all are passed on
/// as nine numbers.
fn c(functions: &[(String, bool)], calls: &Path) -> String {
    let mut text = format!(
        r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ours;

__attribute__((constructor)) static void look(void) {{
    char path[4096] = "";
    if (readlink("/proc/self/exe", path, sizeof path - 1) > 0)
        ours = !strncmp(path, "{root}/", strlen("{root}/"));
}}

static void note(const char *line) {{
    int file = ours ? open("{calls}", O_WRONLY | O_APPEND | O_CREAT, 0644) : -1;
    if (file >= 0 && write(file, line, strlen(line)) < 0)
        abort();
    close(file);
}}

typedef long function(long, long, long, long, long, long, long, long, long);

/* Python opens its modules so that the libraries below them are in no other module's scope. */
static function *real(const char *name) {{
    static const char *const libraries[] = {{"librbd.so.1", "librados.so.2"}};
    void *found = dlsym(RTLD_NEXT, name);
    for (int i = 0; !found && i < 2; i++) {{
        void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);
        if (library)
            found = dlsym(library, name);
    }}
    if (!found)
        abort();
    return (function *)found;
}}

#define LATE(name, fails) \
    long name(long a, long b, long c, long d, long e, long f, long g, long h, long i) {{ \
        long result = real(#name)(a, b, c, d, e, f, g, h, i); \
        if (!fails || (int)result >= 0) \
            note(#name "\n"); \
        return result; \
    }}
"#,
        root = cmd::root().display(),
        calls = calls.display()
    );
    for (name, fails) in functions {
        let _ = writeln!(text, "LATE({name}, {})", u8::from(*fails)); // Writing to a String does not fail.
    }
    text
}

/// The words after `late::` in the sources below a directory.
fn uses(directory: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(uses(&path)?);
        } else {
            let text = fs::read_to_string(&path)?;
            let words = text.split("late::").skip(1);
            found.extend(words.map(|rest| {
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            }));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_read_from_the_bindings() {
        let text = r#"pub const A: u32 = 1;
            pub static one: Late<unsafe extern "C" fn(a: u64) -> ::core::ffi::c_int> = unsafe { Late::new(c"one", "x") };
            pub static two: Late<unsafe extern "C" fn(a: u64)> = unsafe { Late::new(c"two", "x") };
            pub static three: Late<
                unsafe extern "C" fn(call: Option<unsafe extern "C" fn() -> u32>),
            > = unsafe { Late::new(c"three", "x") };"#;
        let expected =
            [("one", true), ("two", false), ("three", false)].map(|(name, r)| (name.to_owned(), r));
        assert_eq!(functions(text).unwrap(), expected);
    }
}
