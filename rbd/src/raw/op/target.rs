//! What the operations on one image share.

use crate::raw::op::header::HeaderChanges;
use crate::raw::op::in_flight::InFlight;

/// Operations in flight point to it, so it must outlive them: the image frees it after they have left.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) in_flight: InFlight,
    pub(crate) header: HeaderChanges,
}

impl Target {
    pub(crate) fn new() -> Target {
        Target { in_flight: InFlight::new(), header: HeaderChanges::new() }
    }
}
