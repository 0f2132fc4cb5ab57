//! Virtual machines with a real kernel that has the rbd module, for tests that must run on one.
//!
//! [`TestVm`] fetches a Debian kernel package (kept in a cache outside the source tree), packs an
//! initramfs with the programs of the host that a test needs and their libraries, and boots it in
//! QEMU by emulation: no KVM, no privileges, 4 s. The guest reaches a cluster on the host's
//! loopback at its unchanged addresses.
//!
//! ```no_run
//! use std::time::Duration;
//! use rbd_testvm::TestVm;
//!
//! # fn main() -> Result<(), rbd_testvm::Error> {
//! // One command:
//! let finished = TestVm::builder().run(["cat", "/sys/bus/rbd/supported_features"])?;
//! assert_eq!(finished.stdout, b"0x1bf\n");
//!
//! // A session:
//! let vm = TestVm::builder().cluster("/tmp/c/ceph.conf").program("rbd").boot()?;
//! let device = vm.check(["rbd", "map", "image"], Duration::from_secs(30))?;
//! vm.check(["rbd", "unmap", device.trim()], Duration::from_secs(30))?;
//! vm.shutdown()?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing outlives its owner: QEMU is killed when the [`TestVm`] is dropped or the process ends in
//! any way. No files except the cache remain.
//!
//! Environment: `RBD_TESTVM_KERNEL` (`PACKAGE[@SUITE]`, the default kernel), `RBD_TESTVM_CACHE` (a
//! directory), `RBD_TESTVM_ACCEL` (QEMU's accelerator instead of `tcg`).

mod agent;
mod apt;
mod builder;
mod cluster;
mod command;
mod error;
mod host;
mod initramfs;
mod kernel;
mod machine;
mod pattern;
mod programs;
mod protocol;
mod tree;
mod vm;

pub use builder::{Builder, RbdModule};
pub use command::Command;
pub use error::{Error, Result};
pub use kernel::Kernel;
pub use vm::{Finished, Running, Stream, TestVm};
