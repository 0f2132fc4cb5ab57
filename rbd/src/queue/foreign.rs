//! I/O on memory that no buffer owns. These functions are unsafe because the caller must guarantee
//! the memory.

#![allow(unsafe_code)]

use super::{Buffer, Queue};
use crate::error::Result;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::Request;

impl Queue {
    /// Reads consecutive bytes into the caller's memory, such as that of a virtual machine or a
    /// ublk device. Fills each part in order. Completes with [`Buffer::None`].
    ///
    /// The operation completes only when librbd has stopped using the memory:
    /// [`set_timeout`](Queue::set_timeout) has no effect on it. The list of parts is not needed
    /// after this call returns.
    ///
    /// # Safety
    /// Each part must be valid for writes until the operation is [reaped](Queue::reap), or until
    /// [`close`](Queue::close), called outside of librbd's callbacks, has returned. **Dropping the
    /// queue is not enough.** If the image was opened by `await`, or closes in the background, the
    /// drop returns at once while librbd still writes to the memory; an early return with `?` drops
    /// a queue. Forgetting the queue does not end the operation either. Reap all operations or
    /// close the queue before you unmap the memory.
    ///
    /// Until then no references to the memory may exist. Others, such as a guest, may access it,
    /// and may see or cause mixed data.
    ///
    /// Implements: `rbd_aio_readv`.
    pub unsafe fn read_raw(&mut self, token: u64, offset: u64, parts: &[*mut [u8]]) -> Result<()> {
        // SAFETY: the caller guarantees it.
        unsafe { self.submit_on_memory(Kind::Read, token, offset, parts) }
    }

    /// Writes the parts of the caller's memory consecutively. As with
    /// [`read_raw`](Queue::read_raw), no timeout applies.
    ///
    /// # Safety
    /// Each part must be valid for reads for as long as [`read_raw`](Queue::read_raw) states. If
    /// the memory changes meanwhile, the written data is undefined.
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
            // SAFETY: the caller guarantees it.
            unsafe { entries.submit_on_memory(token, request, parts) }
        })
    }
}
