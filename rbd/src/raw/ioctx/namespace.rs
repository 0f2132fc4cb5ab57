//! Whether a namespace exists, asked without waiting.

use std::cell::UnsafeCell;
use std::sync::Arc;

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check_len;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::operation::{Operation, Payload, RadosCompletions};

/// A namespace has this object from its creation on, even without images.
const DIRECTORY: &std::ffi::CStr = c"rbd_directory";

struct Lookup {
    /// Never read: it keeps the pool open.
    _ioctx: Arc<IoCtx>,
    size: UnsafeCell<u64>,
    time: UnsafeCell<libc::time_t>,
}

impl Payload for Lookup {
    type Output = ();

    fn finish(self, result: isize) -> RawResult<()> {
        check_len(result).map(drop)
    }
}

impl IoCtx {
    /// Begins to look for the namespace: ENOENT if there is none. librbd's own call for it blocks.
    pub(crate) fn start_namespace_lookup(self: &Arc<IoCtx>) -> RawResult<Operation<()>> {
        let lookup = Lookup { _ioctx: Arc::clone(self), size: UnsafeCell::new(0), time: UnsafeCell::new(0) };
        // SAFETY: the operation owns both places and keeps the pool alive until the completion has
        // run; librados copies the name. Nothing is counted.
        unsafe {
            Operation::submit_to::<Lookup, RadosCompletions>(None, lookup, |lookup, completion| {
                let (size, time) = ((*lookup).size.get(), (*lookup).time.get());
                sys::rados_aio_stat(self.as_ptr(), DIRECTORY.as_ptr(), completion, size, time.cast())
            })
        }
    }
}
