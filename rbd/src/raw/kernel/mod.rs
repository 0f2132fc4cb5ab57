//! System calls of Linux.

pub(crate) mod krbd;
