//! One operation of a queue: what it owns while librbd has it, and the call for it.

use std::ffi::c_int;
use std::ptr;

use librbd_sys as sys;

use super::callback_completions::{CallbackCompletions, on_completion};
use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::buffer::Buffer;
use crate::raw::ffi::conversion::check;
use crate::raw::ffi::weak::{Failure, need};
use crate::raw::image::Image;
use crate::raw::image::aio::SHORT;
use crate::raw::image::io::Compare;
use crate::raw::op::in_flight::InFlight;

/// What is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Read,
    Write,
    Discard,
    WriteZeroes,
    WriteZeroesThick,
    WriteSame,
    CompareAndWrite,
    Flush,
}

/// The memory of an operation.
pub(crate) enum Memory<'a> {
    Owned(Buffer),
    /// What the caller has promised to keep valid until the operation has ended, and readable, or writable for a read.
    Foreign(&'a [*mut [u8]]),
}

/// One operation of the fixed number that librbd may have.
pub(super) struct Entry {
    pub(super) buffer: Buffer,
    /// Where the buffers of a list are: librbd reads it until the operation ends. Kept for the next one, so that only a list
    /// longer than all before it costs an allocation.
    pub(super) iovecs: Vec<libc::iovec>,
    /// Where librbd reports at which byte the image differs.
    pub(super) differs: u64,
    /// For an operation whose end a callback reports.
    pub(super) completion: sys::rbd_completion_t,
    /// How many changes of the image's header were known of before.
    pub(super) changes: usize,
    pub(super) token: u64,
    pub(super) request: Request,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Entry {
    pub(super) const fn free() -> Entry {
        Entry {
            buffer: Buffer::None,
            iovecs: Vec::new(),
            differs: 0,
            completion: ptr::null_mut(),
            changes: 0,
            token: 0,
            request: Request::Flush,
            offset: 0,
            len: 0,
        }
    }
}

/// Makes the call for what the entry holds. It is librbd's then, unless this fails.
pub(super) fn call(
    image: &Image,
    completions: &CallbackCompletions,
    entry: &mut Entry,
    number: u32,
) -> Result<(), Failure> {
    let Entry { buffer, iovecs, differs, completion: kept, request, offset, len, .. } = entry;
    let (handle, offset, len) = (image.as_ptr(), *offset, *len);
    let size = len as usize;
    // All that may fail or panic comes before librbd hears of it.
    let first = buffer.list(iovecs);
    let (array, second) = (iovecs.as_ptr(), iovecs[first..].as_ptr());
    let count = |count: usize| c_int::try_from(count).map_err(|_| Errno::EINVAL);
    let (first, rest) = (count(first)?, count(iovecs.len() - first)?);
    let compare_and_writev = match buffer {
        Buffer::CompareVec { .. } if len > 0 => Some(need(&sys::late::rbd_aio_compare_and_writev)?),
        _ => None,
    };
    if let (Request::Read, Buffer::BytesMut(target)) = (*request, &mut *buffer) {
        target.reserve(size);
    }
    // The empty one is a read.
    let reported = *request == Request::CompareAndWrite && len > 0;
    let (arg, callback): (_, sys::rbd_callback_t) = if reported {
        (completions.arg(number), Some(on_completion))
    } else {
        (ptr::without_provenance_mut(number as usize), None)
    };
    let thick = *request == Request::WriteZeroesThick;
    let zero_flags = if thick { sys::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION as c_int } else { 0 };
    let mut completion = ptr::null_mut();
    // SAFETY: without a callback the argument is ours alone: the number of the entry. With it the callback completions are freed after the
    // image was closed, and that waits for all operations to leave.
    check(unsafe { sys::rbd_aio_create_completion(arg, callback, &raw mut completion) })?;
    *kept = completion;
    if reported {
        image.shared().target.in_flight.enter();
    }
    // SAFETY: the image is open. Buffers, array and the place for the difference have the lengths that are passed, and belong
    // to the entry, which stays where it is and is not touched until the completion was reaped. For memory of the caller's that
    // is the caller's promise: see `Memory`.
    let code = unsafe {
        match (*request, &mut *buffer) {
            (Request::Read, Buffer::BytesMut(target)) => {
                let start = target.spare_capacity_mut().as_mut_ptr();
                sys::rbd_aio_read(handle, offset, size, start.cast(), completion)
            }
            // Without a buffer of ours the array leads to memory of the caller's.
            (Request::Read, Buffer::BytesMutVec(_) | Buffer::None) => {
                sys::rbd_aio_readv(handle, array, first, offset, completion)
            }
            (Request::Write, Buffer::BytesVec(_) | Buffer::BytesMutVec(_) | Buffer::None) => {
                sys::rbd_aio_writev(handle, array, first, offset, completion)
            }
            (Request::Discard, _) => sys::rbd_aio_discard(handle, offset, len, completion),
            (Request::WriteZeroes | Request::WriteZeroesThick, _) => {
                sys::rbd_aio_write_zeroes(handle, offset, size, completion, zero_flags, 0)
            }
            (Request::Flush, _) => sys::rbd_aio_flush(handle, completion),
            // librbd 16.2 aborts the process on an empty compare-and-write. Nothing is always as expected; a read of nothing
            // says so, in its turn.
            (Request::CompareAndWrite, _) if len == 0 => {
                sys::rbd_aio_read(handle, offset, 0, ptr::dangling_mut(), completion)
            }
            (Request::CompareAndWrite, Buffer::Compare { expected, data }) => {
                let (expected, data) = (expected.as_ptr().cast(), data.as_ptr().cast());
                sys::rbd_aio_compare_and_write(
                    handle,
                    offset,
                    size,
                    expected,
                    data,
                    completion,
                    &raw mut *differs,
                    0,
                ) as c_int
            }
            (Request::CompareAndWrite, Buffer::CompareVec { .. }) => match compare_and_writev {
                Some(call) => {
                    let differs = &raw mut *differs;
                    call(handle, offset, array, first, second, rest, completion, differs, 0) as c_int
                }
                None => -libc::EINVAL,
            },
            (request, buffer) => match (request, buffer.one()) {
                (Request::Write, Some(data)) => {
                    sys::rbd_aio_write(handle, offset, data.len(), data.as_ptr().cast(), completion)
                }
                (Request::WriteSame, Some(pattern)) => {
                    let (pattern, unit) = (pattern.as_ptr().cast(), pattern.len());
                    sys::rbd_aio_writesame(handle, offset, size, pattern, unit, completion, 0)
                }
                _ => -libc::EINVAL,
            },
        }
    };
    check(code).map(drop).map_err(|errno| {
        // SAFETY: librbd did not take it, so no callback will leave.
        unsafe {
            sys::rbd_aio_release(completion);
            if reported {
                InFlight::leave(&raw const image.shared().target.in_flight);
            }
        }
        errno.into()
    })
}

/// What librbd's result amounts to when it is not an error.
pub(super) fn finish(entry: &mut Entry, count: usize) -> RawResult<Option<Compare>> {
    match (entry.request, &mut entry.buffer) {
        (Request::Read, _) if count as u64 != entry.len => return Err(SHORT),
        (Request::Read, Buffer::BytesMut(target)) => {
            let filled = target.len() + count;
            // SAFETY: librbd has written all that was asked for behind the old length, where room was reserved.
            unsafe { target.set_len(filled) };
        }
        (Request::CompareAndWrite, _) => return Ok(Some(Compare::Written)),
        _ => {}
    }
    Ok(None)
}
