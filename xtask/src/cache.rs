//! The user's cache, for programs and data that take long to make and are used again.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// Returns the path of a directory in the user's cache. It may not exist yet.
pub(crate) fn directory(name: &str) -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_CACHE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".cache")))
        .map(|cache| cache.join(name))
        .with_context(|| {
            format!("{name} lies in the user's cache, and neither XDG_CACHE_HOME nor HOME is set")
        })
}
