//! The ends of a queue's requests.

use std::time::Duration;

use crate::raw::op::io::Outcome;
use crate::raw::op::kind::Kind;

/// A request that has ended or timed out.
#[derive(Debug)]
pub(crate) struct Reaped {
    pub(crate) token: u64,
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) enum End {
    /// The buffer and the result of the request.
    Ended(Outcome),
    /// It timed out after this time. librbd still has it.
    GivenUp(Duration),
}
