//! A real Ceph cluster on loopback, from the command line.

mod down;
mod run;
mod show;
mod up;
mod wanted;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A real Ceph cluster on loopback, in seconds, without privileges, without remains.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster and keep it until `down` or Ctrl-C
    Up(#[command(flatten)] wanted::Wanted),
    /// Run a command with a cluster: exports `CEPH_CONF` and `RBD_TEST_CONF`, returns the command's
    /// exit code, stops the cluster
    Run {
        #[command(flatten)]
        wanted: wanted::Wanted,
        /// The command and its arguments, after `--`
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Stop the cluster that `up` started
    Down(#[command(flatten)] Which),
    /// Show health, daemons, placement groups, space and the OSD tree
    Status(#[command(flatten)] Which),
}

#[derive(clap::Args)]
struct Which {
    /// The configuration file of the cluster; default: the one `up` started
    #[arg(short, long, env = "CEPH_CONF", value_name = "FILE")]
    conf: Option<PathBuf>,
}

/// Errors of this program. Only the text matters.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(wanted) => up::up(wanted).map(|()| ExitCode::SUCCESS),
        Command::Run { wanted, command } => run::run(wanted, &command),
        Command::Down(which) => down::down(which.conf).map(|()| ExitCode::SUCCESS),
        Command::Status(which) => show::status(which.conf).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("rbd-testcluster: {error}");
        ExitCode::FAILURE
    })
}
