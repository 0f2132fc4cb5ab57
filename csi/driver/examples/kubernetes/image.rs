//! Container images, made of programs of this host: no registry is asked.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What an image consists of.
pub struct Image<'a> {
    /// Its name with the registry, as containerd has it.
    pub name: &'a str,
    /// Programs, with the libraries that they need: the path on the host and that in the image.
    pub programs: &'a [(&'a Path, &'a str)],
    /// Symbolic links: the path in the image and what it points to.
    pub links: &'a [(&'a str, &'a str)],
    /// The program that a container runs if its pod names none.
    pub entrypoint: &'a [&'a str],
}

impl Image<'_> {
    /// Writes the image as an archive that `ctr images import` reads.
    pub fn write(&self, archive: &Path, home: &Path) -> Result<()> {
        let work = tempfile::tempdir_in(home)?;
        let root = work.path().join("root");
        for directory in ["dev", "etc", "proc", "sys", "tmp", "run", "usr/bin", "usr/sbin"] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n")?;
        for (top, place) in
            [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
        {
            fs::create_dir_all(root.join(place))?;
            symlink(place, root.join(top))?;
        }
        for (host, place) in self.programs {
            copy(host, &root, place)?;
            for library in libraries(host)? {
                copy(&library, &root, &library.display().to_string())?;
            }
        }
        for (place, target) in self.links {
            symlink(target, root.join(place.trim_start_matches('/')))?;
        }
        let layer = work.path().join("layer.tar");
        tar(&root, &layer, &["."])?;
        let digest = Sha256::digest(fs::read(&layer)?);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"]}]);
        fs::write(work.path().join("config.json"), config.to_string())?;
        fs::write(work.path().join("manifest.json"), manifest.to_string())?;
        tar(work.path(), archive, &["manifest.json", "config.json", "layer.tar"])
    }
}

fn copy(host: &Path, root: &Path, place: &str) -> Result<()> {
    let to = root.join(place.trim_start_matches('/'));
    fs::create_dir_all(to.parent().context("no folder")?)?;
    fs::copy(host, &to).map(drop).with_context(|| format!("cannot copy {} to an image", host.display()))
}

/// The libraries of a program; none if it is static.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("not found") {
        bail!("{} lacks a library:\n{said}", program.display());
    }
    let paths = said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn tar(folder: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "--create", "--file"]).arg(archive);
    let output = command.arg("--directory").arg(folder).args(names).output().context("cannot start tar")?;
    if !output.status.success() {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
