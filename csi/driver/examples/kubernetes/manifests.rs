//! The manifests of `csi/deploy`, with this run's cluster in the place of the example's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of the manifests.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The paths of all manifests below the folder, in the order in which a person applies them.
pub fn all() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in [folder(), folder().join("example")] {
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            files.push(entry?.path());
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        files.sort();
        all.extend(files);
    }
    Ok(all)
}

/// What a person writes into the manifests.
pub struct Filling<'a> {
    pub cluster: &'a str,
    pub monitors: &'a str,
    pub key: &'a str,
}

/// The values of the example.
const EXAMPLE: Filling = Filling {
    cluster: "b9127830-b0cc-4e34-aa47-9d1a2e9949a8",
    monitors: r#"["192.0.2.1:6789", "192.0.2.2:6789", "192.0.2.3:6789"]"#,
    key: "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==",
};

impl Filling<'_> {
    /// Reads a manifest, and fills it in.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = folder().join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let monitors = format!(r#"["{}"]"#, self.monitors);
        let changes =
            [(EXAMPLE.cluster, self.cluster), (EXAMPLE.monitors, &monitors), (EXAMPLE.key, self.key)];
        Ok(changes.iter().fold(text, |text, (from, to)| text.replace(from, to)))
    }
}
