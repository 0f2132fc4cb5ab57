//! `cargo xtask kubernetes`: the walkthrough of docs/kubernetes.md on a real Kubernetes.
//!
//! The walkthrough itself is the example `kubernetes` of the package rbd-csi, because it uses the
//! workspace's crates.

mod programs;

use anyhow::Result;

use crate::scratch::{MARK, Scratch};
use crate::setup::{self, Consent, Purpose};
use crate::{cmd, disk, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// Build Kubernetes again
    #[arg(long)]
    fresh: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    disk::ensure_free()?;
    let purposes = [Purpose::Build, Purpose::Cluster, Purpose::Vm, Purpose::Kubernetes];
    setup::ensure(&purposes, args.consent)?;
    let programs = programs::open(args.fresh)?;
    ui::step("building the driver and the walkthrough");
    cmd::run(&mut cmd::cargo(["build", "--package", "rbd-csi", "--bins", "--example", "kubernetes"]))?;
    ui::step("the walkthrough, on Kubernetes beside a Ceph cluster of its own");
    let scratch = Scratch::new("rbd-kubernetes")?;
    let mut walkthrough =
        cmd::cargo(["run", "--quiet", "--package", "rbd-csi", "--example", "kubernetes", "--"]);
    walkthrough.arg("--programs").arg(programs);
    // All that it starts inherits the mark, and ends with the directory.
    cmd::run(walkthrough.env(MARK, scratch.path()).env("TMPDIR", scratch.path()))
}
