//! I/O on memory that no buffer owns. The promises that make it sound are the caller's, hence
//! unsafe functions.

#![allow(unsafe_code)]

use super::{Buffer, Queue};
use crate::error::Result;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::Request;

impl Queue {
    /// Reads consecutive bytes into memory of the caller's, for instance that of a virtual machine
    /// or of a ublk device: each part is filled in its turn. Comes back with [`Buffer::None`].
    ///
    /// It is never given up on: [`set_timeout`](Queue::set_timeout) has no effect on it, so that it
    /// ends only when librbd has left the memory. The list of parts is needed no more when this
    /// returns.
    ///
    /// # Safety
    /// Each part must be valid for writes until the operation was [reaped](Queue::reap), or until
    /// [`close`](Queue::close), called outside of librbd's callbacks, has returned. **Dropping the
    /// queue is not enough**: where its image was opened by `await`, or is closed in the
    /// background, the drop returns at once, and librbd still writes to the memory; an early return
    /// by a question mark drops a queue. Nor does forgetting it end anything. Before the memory is
    /// unmapped, reap to the end or close.
    ///
    /// Until then nobody may have references to the memory. Others, such as a guest, may access it:
    /// they may see, or cause, mixed data.
    ///
    /// Implements: `rbd_aio_readv`.
    pub unsafe fn read_raw(&mut self, token: u64, offset: u64, parts: &[*mut [u8]]) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.submit_on_memory(Kind::Read, token, offset, parts) }
    }

    /// Writes the bytes of parts of the caller's memory one behind the other. As for
    /// [`read_raw`](Queue::read_raw), there is no deadline.
    ///
    /// # Safety
    /// Each part must be valid for reads for as long as is said at [`read_raw`](Queue::read_raw).
    /// What is written is anything where the memory changes meanwhile.
    ///
    /// Implements: `rbd_aio_writev`.
    pub unsafe fn write_raw(&mut self, token: u64, offset: u64, parts: &[*const [u8]]) -> Result<()> {
        // SAFETY: pointers to the same, of which librbd only reads. What else is needed is the
        // caller's promise.
        unsafe {
            let parts = &*(std::ptr::from_ref(parts) as *const [*mut [u8]]);
            self.submit_on_memory(Kind::Write, token, offset, parts)
        }
    }

    /// # Safety
    /// As for [`read_raw`](Queue::read_raw); each part must be valid for reads only, if it is a
    /// write.
    unsafe fn submit_on_memory(
        &mut self,
        kind: Kind,
        token: u64,
        offset: u64,
        parts: &[*mut [u8]],
    ) -> Result<()> {
        let len = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.len() as u64));
        let request = Request::new(kind, offset, len, self.hints, Buffer::None);
        self.check_room(kind)
            .and_then(|()| self.image().check_count(kind, parts.len()))
            .and_then(|()| self.image().check(&request))?;
        self.submit_checked(kind, (offset, len), |entries| {
            // SAFETY: the caller's promise.
            unsafe { entries.submit_on_memory(token, request, parts) }
        })
    }
}
