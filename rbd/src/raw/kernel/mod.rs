//! What is asked of Linux, not of Ceph.

pub(crate) mod krbd;
