//! `cargo xtask vm`: runs a command on a real kernel with the rbd module, with a real cluster.

use anyhow::{Context as _, Result};

use crate::cmd;
use crate::setup::{self, Consent, Purpose};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: Consent,
    /// The kernel's Debian package, by name or pattern, and its suite [default: Debian 12's cloud
    /// kernel]
    #[arg(long, value_name = "PACKAGE[@SUITE]")]
    kernel: Option<String>,
    /// Another program of the host to include, with its libraries
    #[arg(long, value_name = "PROGRAM")]
    program: Vec<String>,
    /// Run systemd-udevd in the guest
    #[arg(long)]
    udev: bool,
    /// Show the console at the end
    #[arg(long)]
    console: bool,
    /// Start no cluster
    #[arg(long)]
    no_cluster: bool,
    /// The command, for example `rbd ls`; a program that the guest lacks is included
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let purposes: &[Purpose] = if args.no_cluster { &[] } else { &[Purpose::Cluster] };
    setup::ensure(&[&[Purpose::Build, Purpose::Vm], purposes].concat(), args.consent)?;

    // Built first, so that the cluster does not wait for a compiler.
    cmd::run(&mut cmd::cargo(["build", "--quiet", "--package", "rbd-testvm", "--bin", "rbd-testvm"]))?;
    let mut words = vec!["run", "--quiet", "--package", "rbd-testvm", "--bin", "rbd-testvm", "--"];
    words.extend(args.kernel.iter().flat_map(|kernel| ["--kernel", kernel]));
    words.extend(args.program.iter().flat_map(|program| ["--program", program]));
    words.extend(args.udev.then_some("--udev"));
    words.extend(args.console.then_some("--console"));
    words.push("--");
    words.extend(args.command.iter().map(String::as_str));

    let mut command = if args.no_cluster {
        let mut machine = cmd::cargo(&words);
        // Otherwise the configuration of another cluster would be included.
        machine.env_remove("CEPH_CONF");
        machine
    } else {
        let mut cluster =
            cmd::cargo(["run", "--quiet", "--package", "rbd-testcluster", "--", "run", "--", "cargo"]);
        cluster.args(&words);
        cluster
    };
    let status = command.status().with_context(|| format!("cannot start `{}`", cmd::line(&command)))?;
    match status.code() {
        Some(0) => Ok(()),
        // The command has printed its errors.
        code => std::process::exit(code.unwrap_or(1)),
    }
}
