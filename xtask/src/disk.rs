//! The disk space that `cargo xtask ci` and `cargo xtask matrix` need.
//!
//! Builds and daemons on a full disk fail with errors that do not name the cause. So these tasks
//! check the free space before they start.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cmd;

/// The free space in GiB that CI needs for the builds of its steps and the data of its clusters. A
/// run that began with 12 GiB filled the disk.
const NEEDED: u64 = 15;

const GIB: u64 = 1 << 30;

/// Fails if the file system of the target directory has too little free space.
pub(crate) fn ensure_free() -> Result<()> {
    let target = target()?;
    enough(free(&target)?, &target)
}

/// Returns the target directory, which cargo has made to build this program.
fn target() -> Result<PathBuf> {
    let metadata = cmd::metadata(cmd::root(), &["--no-deps"])?;
    metadata["target_directory"].as_str().map(Into::into).context("cargo names no target directory")
}

/// Returns the bytes that a user without privileges may still write there.
fn free(directory: &Path) -> Result<u64> {
    let mut df = cmd::command("df", ["--output=avail", "--block-size=1", "--"]);
    let said = cmd::read(df.arg(directory))?;
    let number = said.lines().last().unwrap_or_default().trim();
    number.parse().with_context(|| format!("df printed no number: {said}"))
}

fn enough(free: u64, target: &Path) -> Result<()> {
    if free < NEEDED * GIB {
        let tenths = free * 10 / GIB;
        bail!(
            "{}.{} GiB are free at {}, but builds and the data of test clusters need {NEEDED} GiB. Nothing \
             has run. Free some space (`cargo clean` removes old builds), or work on a larger disk",
            tenths / 10,
            tenths % 10,
            target.display(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_an_error_that_says_what_to_do() {
        let target = Path::new("/srv/target");
        enough(NEEDED * GIB, target).unwrap();
        let error = enough(12 * GIB + GIB / 2, target).unwrap_err().to_string();
        for part in ["12.5 GiB are free at /srv/target", "need 15 GiB", "Nothing has run", "cargo clean"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn the_space_is_that_of_the_directory() {
        // Nobody can store anything there.
        assert_eq!(free(Path::new("/proc")).unwrap(), 0);
        assert!(free(Path::new("/no/such/directory")).is_err());
        free(&target().unwrap()).unwrap();
    }
}
