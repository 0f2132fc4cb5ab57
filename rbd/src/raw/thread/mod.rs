//! Threads of Ceph and of this crate: what may run on which thread, and the wait at the exit of the
//! process.

pub(crate) mod background;
pub(crate) mod callback;
pub(crate) mod catch_panic;
pub(crate) mod exit;
#[cfg(all(test, not(loom)))]
pub(crate) mod fork;
pub(crate) mod idle;
pub(crate) mod leave;
pub(crate) mod mark;
mod openssl;
pub(crate) mod park;
pub(in crate::raw) mod pool;
pub(crate) mod progress;
pub(crate) mod worker;
