//! Asynchronous operations: what is shared between the future and the completion.

#[cfg(feature = "bench-internals")]
pub(crate) mod bench;
pub(crate) mod header;
pub(crate) mod in_flight;
pub(crate) mod operation;
pub(crate) mod slot;
pub(crate) mod sync;
pub(crate) mod target;
