//! `cargo xtask package`: checks the published crates from a user's side.
//!
//! Packs every published crate, which also builds it from its own tarball. Then builds the README's
//! example as a crate outside the tree, with only the unpacked tarballs, and runs it on a real
//! cluster.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::scratch::Scratch;
use crate::setup::{self, Consent, Purpose};
use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
}

/// The files that every published crate must contain.
const CARRIED: &[&str] = &["LICENSE-MIT", "LICENSE-APACHE", "README.md", "Cargo.toml"];

struct Published {
    name: String,
    version: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Cluster], args.consent)?;
    let published = published()?;
    ui::step("packing and building from the tarballs");
    let mut pack = cmd::cargo(["package", "--allow-dirty"]);
    for package in &published {
        pack.args(["--package", &package.name]);
    }
    cmd::run(&mut pack)?;

    let home = Scratch::new("rbd-package")?;
    for package in &published {
        unpack(package, home.path())?;
    }
    ui::step("a crate outside the tree, on the unpacked tarballs");
    let readme = fs::read_to_string(cmd::root().join("README.md")).context("cannot read README.md")?;
    let program = example(&readme).context("README.md has no block of rust code")?;
    let downstream = home.path().join("downstream");
    write_downstream(&downstream, &program, &published)?;
    let target = cmd::root().join("target/downstream");
    let mut build = cmd::cargo(["build", "--target-dir"]);
    build.arg(&target).current_dir(&downstream);
    cmd::run(&mut build)?;
    stays_outside(&downstream)?;

    let program = target.join("debug/downstream");
    cmd::run(cmd::cargo(["run", "--quiet", "--package", "rbd-testcluster", "--", "run", "--"]).arg(program))?;
    println!("the README's example runs on {} packed crates", published.len());
    Ok(())
}

/// Returns the workspace's packages that are published.
fn published() -> Result<Vec<Published>> {
    let metadata = cmd::metadata(cmd::root(), &["--no-deps"])?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    packages
        .iter()
        .filter(|package| package["publish"].is_null())
        .map(|package| {
            let text = |key: &str| {
                package[key].as_str().map(str::to_owned).context("a package without name or version")
            };
            Ok(Published { name: text("name")?, version: text("version")? })
        })
        .collect()
}

/// Unpacks a tarball as `home/NAME`.
fn unpack(package: &Published, home: &Path) -> Result<()> {
    let stem = format!("{}-{}", package.name, package.version);
    let tarball = cmd::root().join(format!("target/package/{stem}.crate"));
    cmd::run(cmd::command("tar", ["-xzf"]).arg(&tarball).arg("-C").arg(home))?;
    fs::rename(home.join(&stem), home.join(&package.name))
        .with_context(|| format!("{stem}.crate holds no {stem}"))?;
    for file in CARRIED {
        if !home.join(&package.name).join(file).is_file() {
            bail!("{stem}.crate carries no {file}");
        }
    }
    Ok(())
}

fn write_downstream(at: &Path, program: &str, published: &[Published]) -> Result<()> {
    let version =
        &published.iter().find(|package| package.name == "rbd").context("rbd is not published")?.version;
    let mut manifest = format!(
        "[package]\nname = \"downstream\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nrbd = \"{version}\"\n\n[patch.crates-io]\n"
    );
    for name in ["librbd-sys", "rbd"] {
        writeln!(manifest, "{name} = {{ path = \"../{name}\" }}")?;
    }
    fs::create_dir_all(at.join("src"))?;
    fs::write(at.join("Cargo.toml"), manifest)?;
    fs::write(at.join("src/main.rs"), program)?;
    // The versions with which the workspace was tested.
    fs::copy(cmd::root().join("Cargo.lock"), at.join("Cargo.lock"))?;
    Ok(())
}

/// Fails if a package of the downstream build is in the tree, or if one of this tree came from a
/// registry.
fn stays_outside(downstream: &Path) -> Result<()> {
    let metadata = cmd::metadata(downstream, &[])?;
    let home = downstream.parent().context("the crate has no parent directory")?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let (name, manifest) =
            (package["name"].as_str().unwrap_or(""), package["manifest_path"].as_str().unwrap_or(""));
        let unpacked = Path::new(manifest).starts_with(home);
        let ours = ["rbd", "librbd-sys", "downstream"].contains(&name);
        if ours != unpacked || Path::new(manifest).starts_with(cmd::root()) {
            bail!("the downstream crate takes {name} from {manifest}");
        }
    }
    Ok(())
}

/// Returns the first block of Rust code of a Markdown text.
fn example(markdown: &str) -> Option<String> {
    let mut lines = markdown.lines().skip_while(|line| !line.starts_with("```rust"));
    lines.next()?;
    let block: Vec<_> = lines.take_while(|line| !line.starts_with("```")).collect();
    Some(block.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rust_block_is_the_example() {
        let markdown = "# x\n```sh\nls\n```\n```rust,no_run\nfn main() {\n}\n```\n```rust\nno\n```\n";
        assert_eq!(example(markdown).as_deref(), Some("fn main() {\n}\n"));
        assert_eq!(example("```sh\nls\n```"), None);
    }

    #[test]
    fn automation_and_examples_are_not_published() {
        let names: Vec<_> = published().unwrap().into_iter().map(|package| package.name).collect();
        assert!(names.contains(&"rbd".to_owned()) && names.contains(&"librbd-sys".to_owned()), "{names:?}");
        assert!(
            !names.contains(&"xtask".to_owned()) && !names.contains(&"rbd-suite".to_owned()),
            "{names:?}"
        );
    }
}
