//! A real Ceph cluster on loopback, for the tests of programs that talk to RADOS or RBD.
//!
//! [`TestCluster`] starts a monitor, a manager and OSDs as ordinary processes, with cephx
//! authentication, in a temporary directory, in about five seconds and without privileges. It ends
//! them and removes the directory when it is dropped and also when its process dies, even by
//! SIGKILL. Any number of clusters can run at once.
//!
//! ```no_run
//! # fn main() -> rbd_testcluster::Result<()> {
//! use rbd_testcluster::{Daemon, TestCluster};
//!
//! let cluster = TestCluster::builder().osds(3).replicas(2).pools(["rbd", "other"]).start()?;
//! // Give this to the program under test:
//! println!("CEPH_CONF={}", cluster.conf().display());
//!
//! // A user who may only read images, to test refusals:
//! let caps = [("mon", "profile rbd"), ("osd", "profile rbd-read-only")];
//! let reader = cluster.user("reader", &caps)?;
//! println!("--id {} --keyring {}", reader.id, reader.keyring.display());
//!
//! // Faults on request:
//! cluster.stop_osd(0)?;
//! cluster.start_osd(0)?;
//! cluster.pause(Daemon::Mon)?;
//! cluster.resume(Daemon::Mon)?;
//! println!("{}", cluster.status()?.summary());
//! cluster.stop()
//! # }
//! ```
//!
//! Tests that need no particular cluster use [`shared()`]: one per process, or one per test run if
//! `RBD_TEST_CONF` names it.
//!
//! The program `rbd-testcluster` does the same on the command line: `rbd-testcluster run -- cargo
//! test`.
//!
//! # What it needs
//! The daemons; on Debian: `apt-get install --no-install-recommends ceph-mon ceph-osd ceph-mgr
//! ceph-common`. Linux, and a `/bin/sh`.

#![deny(unsafe_code)]

// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod access;
mod admin_socket;
mod boot;
mod builder;
mod cluster;
mod conf;
mod daemon;
mod daemons;
mod directory;
mod error;
mod keyring;
mod log;
mod monmap;
mod osdmap;
mod ports;
mod process;
mod program;
#[allow(unsafe_code)]
mod raw;
mod ready;
mod settings;
mod shared;
pub mod status;
mod supervisor;
mod user;

pub use access::Access;
pub use builder::{Builder, ObjectStore};
pub use cluster::{Addresses, TestCluster};
pub use daemon::Daemon;
pub use error::{Error, Result};
pub use process::ProcessId;
pub use shared::{SHARED_CONF, shared};
pub use user::User;
