//! Plays the walkthrough of docs/kubernetes.md on a real Kubernetes: its API server and controllers
//! on this host's loopback, and two virtual machines as nodes, with this driver deployed.
//!
//! `cargo xtask kubernetes` builds what this needs and runs it. All that it starts ends with it.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::pedantic)]

mod control_plane;
mod image;
mod kubectl;
mod manifests;
mod node;
mod provisioner;
mod rights;
mod steps;
mod walkthrough;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// The folder of the programs of Kubernetes
    #[arg(long)]
    programs: PathBuf,
}

/// Where programs are.
pub struct Programs {
    kubernetes: PathBuf,
    driver: PathBuf,
}

impl Programs {
    fn find(kubernetes: PathBuf) -> Result<Programs> {
        // Cargo puts the examples of a package into a folder beside its programs.
        let own = std::env::current_exe().context("cannot find this program")?;
        let built = own.parent().and_then(Path::parent).context("this program is in no target folder")?;
        Ok(Programs { kubernetes, driver: built.join("rbd-csi") })
    }

    /// The path of a program of Kubernetes or its packages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.kubernetes.join(name)
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let home = tempfile::Builder::new().prefix("rbd-kubernetes.").tempdir()?;
    walkthrough::play(&Programs::find(args.programs)?, home.path())
}
