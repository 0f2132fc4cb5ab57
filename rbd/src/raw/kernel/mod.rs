//! System calls of Linux.

pub(crate) mod key_ring;
