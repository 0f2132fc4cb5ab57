//! Project automation: `cargo xtask --help`.
//!
//! It is compiled first on a fresh machine and installs the packages that the rest needs. So it
//! depends on none of the workspace's crates, and runs them through cargo.

mod apt;
mod bench;
mod cache;
mod ci;
mod cmd;
mod debian;
mod demo;
mod deny;
mod disk;
mod fuzz;
mod hang;
mod kubernetes;
mod matrix;
mod msrv;
mod package;
mod sanitizers;
mod scratch;
mod separate;
mod setup;
mod tally;
mod test;
mod tidy;
mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, show, test and check the rbd crates.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install the system packages that the other tasks need
    Setup(setup::Args),
    /// Start a real Ceph cluster on loopback and walk through the library on it
    Demo(demo::Args),
    /// Run every test of the workspace on one real cluster
    Test(test::Args),
    /// Build the tests once, and run them with the daemons and libraries of every supported Ceph
    /// release
    Matrix(matrix::Args),
    /// Run all checks: format, lints, docs, layers, tests, packages, licences
    Ci(ci::Args),
    /// Run the unsafe code under AddressSanitizer and loom, after they have caught a canary
    Sanitizers(sanitizers::Args),
    /// Run the fuzz targets of the parsers, each for a while
    Fuzz(fuzz::Args),
    /// Compare the speed with C, fio, python3-rbd and `rbd bench`
    Bench(bench::Args),
    /// Check layers, file lengths, places of `unsafe`, prose and commit messages
    Tidy(tidy::Args),
    /// Pack the published crates and build and run a downstream crate from the tarballs
    Package(package::Args),
    /// Regenerate librbd-sys' checked-in bindings
    Bindgen(separate::Bindgen),
    /// Write the list of all public items, or check it
    Api(separate::Api),
    /// Build rbd with each of its features alone, and with none
    Features,
    /// Check which item wraps each C function, or why none does
    Coverage(separate::Coverage),
    /// Deploy the CSI driver on a real Kubernetes with two nodes in virtual machines, and play the
    /// walkthrough of docs/kubernetes.md; the first run builds Kubernetes, which takes 5 to 20
    /// minutes
    Kubernetes(kubernetes::Args),
}

fn main() -> ExitCode {
    let task = Cli::parse().task;
    let outcome = match task {
        Task::Setup(args) => setup::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Matrix(args) => matrix::run(&args),
        Task::Api(args) => separate::api(&args),
        Task::Features => separate::features(),
        Task::Ci(args) => ci::run(&args),
        Task::Sanitizers(args) => sanitizers::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Tidy(args) => tidy::run(&args),
        Task::Package(args) => package::run(&args),
        Task::Bindgen(args) => separate::bindgen(&args),
        Task::Coverage(args) => separate::coverage(&args),
        Task::Kubernetes(args) => kubernetes::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{}error:{:#} {error:#}", ui::RED, ui::RED);
            ExitCode::FAILURE
        }
    }
}
