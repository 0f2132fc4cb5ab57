//! The disk space that `cargo xtask ci` and `cargo xtask matrix` need.
//!
//! Builds and daemons on a full disk fail with errors that do not name the cause. So these tasks
//! check the free space before they start.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cmd;

/// The free space in GiB that CI needs for the builds of its steps and the data of its clusters. A
/// run that began with 12 GiB filled the disk.
const NEEDED: u64 = 15;

/// Fails if the file system of the target directory, which contains this program, has too little
/// free space.
pub(crate) fn ensure_free() -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program")?;
    enough(free(&program)?, &program)
}

/// Returns the bytes that a user without privileges may still write there.
fn free(path: &Path) -> Result<u64> {
    let said = cmd::read(cmd::command("df", ["--output=avail", "--block-size=1", "--"]).arg(path))?;
    let number = said.lines().last().unwrap_or_default().trim();
    number.parse().with_context(|| format!("df printed no number: {said}"))
}

fn enough(free: u64, path: &Path) -> Result<()> {
    let free = free / (1 << 30);
    if free < NEEDED {
        bail!(
            "{free} GiB are free at {}, but builds and the data of test clusters need {NEEDED} GiB. Nothing \
             has run. Free some space (`cargo clean` removes old builds), or work on a larger disk",
            path.display(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_an_error_that_says_what_to_do() {
        let path = Path::new("/srv/target");
        enough(NEEDED << 30, path).unwrap();
        let error = enough((NEEDED << 30) - 1, path).unwrap_err().to_string();
        for part in ["14 GiB are free at /srv/target", "need 15 GiB", "Nothing has run", "cargo clean"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        // Nobody can store anything there.
        assert_eq!(free(Path::new("/proc")).unwrap(), 0);
        assert!(free(Path::new("/no/such/directory")).is_err());
    }
}
