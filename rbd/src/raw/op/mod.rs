//! Asynchronous operations: the state that future and completion share.

pub(crate) mod answer;
pub(crate) mod ask;
#[cfg(feature = "bench-internals")]
pub(crate) mod bench;
pub(crate) mod fault;
pub(crate) mod header;
pub(crate) mod hold;
pub(crate) mod io;
pub(crate) mod kept;
pub(crate) mod kind;
pub(crate) mod known_size;
pub(crate) mod lease;
pub(crate) mod operation;
pub(crate) mod request;
pub(crate) mod slot;
pub(crate) mod sync;
pub(crate) mod target;
pub(crate) mod unheard;
