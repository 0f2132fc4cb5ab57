//! `cargo xtask setup`: the system packages that the other tasks need.
//!
//! It prints the missing packages, and asks only if a person can answer. If all are installed, it
//! does nothing.

use std::io::{BufRead as _, Write as _};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{cmd, ui};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The purposes [default: all]
    #[arg(value_enum)]
    purposes: Vec<Purpose>,
    #[command(flatten)]
    consent: Consent,
}

/// The consent to install packages without a question.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Consent {
    /// Install missing system packages without asking
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// The purpose of packages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Purpose {
    /// Compile and link the crates
    Build,
    /// Run a real Ceph cluster
    Cluster,
    /// Compare with the official Python bindings
    Differential,
    /// Compare the speed with other clients
    Bench,
    /// Run a virtual machine whose kernel has the rbd module
    Vm,
    /// Generate the bindings from the headers
    Bindgen,
    /// Replicate images between two clusters
    Mirror,
    /// Build libFuzzer
    Fuzz,
    /// Make the roots of other releases
    Matrix,
    /// Build Kubernetes from Debian's sources
    Kubernetes,
    /// Name the functions in reports of a sanitizer
    Sanitizers,
}

impl Purpose {
    /// Returns package names on Debian and Ubuntu, and their counterparts on Fedora.
    fn packages(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Build => &[
                ("gcc", "gcc"),
                ("libc6-dev", "glibc-devel"),
                ("librados-dev", "librados-devel"),
                ("librbd-dev", "librbd-devel"),
            ],
            Self::Cluster => &[
                ("ceph-common", "ceph-common"),
                ("ceph-mgr", "ceph-mgr"),
                ("ceph-mon", "ceph-mon"),
                ("ceph-osd", "ceph-osd"),
            ],
            Self::Differential => &[("python3-rados", "python3-rados"), ("python3-rbd", "python3-rbd")],
            Self::Bench => &[("fio", "fio-engine-rbd")],
            Self::Vm => &[
                ("busybox-static", "busybox"),
                ("cpio", "cpio"),
                ("e2fsprogs", "e2fsprogs"),
                ("kmod", "kmod"),
                ("qemu-system-x86", "qemu-system-x86"),
                ("udev", "systemd-udev"),
                ("util-linux", "util-linux"),
                ("xfsprogs", "xfsprogs"),
                ("xz-utils", "xz"),
            ],
            Self::Bindgen => &[("libclang-dev", "clang-devel")],
            Self::Mirror => &[("rbd-mirror", "rbd-mirror")],
            Self::Fuzz => &[("g++", "gcc-c++")],
            Self::Matrix => &[("mmdebstrap", "mmdebstrap"), ("mount", "util-linux")],
            Self::Kubernetes => {
                &[("binutils", "binutils"), ("dpkg-dev", "dpkg-dev"), ("libseccomp2", "libseccomp")]
            }
            Self::Sanitizers => &[("llvm", "llvm")],
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let purposes = if args.purposes.is_empty() { Purpose::value_variants() } else { &args.purposes };
    ensure(purposes, args.consent)?;
    println!("all system packages are there");
    Ok(())
}

/// Installs the missing packages for these purposes.
pub(crate) fn ensure(purposes: &[Purpose], consent: Consent) -> Result<()> {
    if !cmd::exists("dpkg-query") || !cmd::exists("apt-get") {
        let names: Vec<_> = purposes.iter().flat_map(|p| p.packages()).map(|(_, fedora)| *fedora).collect();
        anstream::eprintln!(
            "{y}note:{y:#} this system has no apt-get, so nothing is checked or installed. Needed \
             are (Fedora's names): {}",
            names.join(" "),
            y = ui::YELLOW
        );
        return Ok(());
    }
    let wanted: Vec<_> = purposes.iter().flat_map(|p| p.packages()).map(|(debian, _)| *debian).collect();
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    ui::step(&format!("system packages to install: {}", missing.join(" ")));
    if !consent.yes && ui::person_watches() && !agreed()? {
        bail!(
            "nothing was installed; by hand: apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    install(&missing)
}

/// Returns the packages of `wanted` that are not installed. dpkg-query fails if it does not know
/// one of the names, which is no failure here.
fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let output = cmd::command("dpkg-query", ["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .output()
        .context("cannot start dpkg-query")?;
    Ok(not_installed(wanted, &String::from_utf8_lossy(&output.stdout)))
}

/// Parses dpkg-query's `PACKAGE STATUS` lines.
fn not_installed<'a>(wanted: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed: Vec<_> = listing.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    wanted.iter().copied().filter(|name| !installed.contains(name)).collect()
}

fn agreed() -> Result<bool> {
    print!("Install them with apt-get? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    // End of input is no consent.
    if std::io::stdin().lock().read_line(&mut answer)? == 0 {
        return Ok(false);
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}

fn install(missing: &[&str]) -> Result<()> {
    let rooted = rooted().map_err(|error| {
        let words = missing.join(" ");
        anyhow::anyhow!("{error:#}; as root: apt-get install --no-install-recommends {words}")
    })?;
    let apt_get = |task: &[&str]| {
        let mut apt = cmd::command(rooted, ["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
        apt.arg("-oDpkg::Use-Pty=0").args(task);
        // On a terminal its output is shown, otherwise only if it fails.
        if ui::person_watches() { cmd::run(&mut apt) } else { cmd::read(&mut apt).map(drop) }
    };
    let install = [&["install", "--yes", "--no-install-recommends"], missing].concat();
    let simulated =
        cmd::command("apt-get", ["--simulate"]).args(&install).output().context("cannot start apt-get")?;
    // The simulation fails if the package lists are missing or too old to know one of the names.
    let known = simulated.status.success();
    if !known {
        apt_get(&["update"])?;
    }
    let outcome = apt_get(&install);
    if outcome.is_ok() || !known {
        return outcome;
    }
    // The lists may name a version that the server has replaced.
    apt_get(&["update"]).and_then(|()| apt_get(&install))
}

/// Returns the program that sets variables and runs a command as root.
fn rooted() -> Result<&'static str> {
    let id = cmd::read(&mut cmd::command("id", ["-u"]))?;
    if id.trim() == "0" {
        return Ok("env");
    }
    // Without a terminal, no password can be typed.
    if cmd::exists("sudo")
        && (ui::person_watches() || cmd::read(&mut cmd::command("sudo", ["-n", "true"])).is_ok())
    {
        return Ok("sudo");
    }
    bail!("installing packages needs root, and sudo is absent or wants a password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fully_installed_package_counts() {
        let wanted = ["gcc", "librbd-dev", "ceph-mon", "ceph-osd"];
        let listing = "gcc installed\nlibrbd-dev config-files\nceph-osd half-configured\n";
        assert_eq!(not_installed(&wanted, listing), ["librbd-dev", "ceph-mon", "ceph-osd"]);
    }

    #[test]
    fn a_name_is_no_prefix() {
        assert_eq!(not_installed(&["gcc"], "gcc-12 installed\n"), ["gcc"]);
    }

    #[test]
    fn every_purpose_names_packages_once() {
        let mut all: Vec<_> =
            Purpose::value_variants().iter().flat_map(|p| p.packages()).map(|(debian, _)| *debian).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(Purpose::value_variants().iter().all(|p| !p.packages().is_empty()));
    }
}
