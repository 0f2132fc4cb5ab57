//! Requests to an image. Futures and queues use the same type, which is made, checked and submitted
//! in one place.
//!
//! It contains the hints, the limits and the workarounds for faults of librbd. The caller checks
//! ranges.

use std::ffi::c_int;
use std::ptr;

use librbd_sys as sys;

use crate::buffer::Buffer;
use crate::compare::Compare;
use crate::errno::Errno;
use crate::hints::AccessHints;
use crate::raw::ffi::conversion::check_len;
use crate::raw::ffi::iovec::Iovecs;
use crate::raw::ffi::late::{Failure, need};
use crate::raw::op::answer::{Answer, Cause, needs_cause};
pub(crate) use crate::raw::op::fault::Fault;
use crate::raw::op::kind::Kind;
use crate::raw::op::sync::Ordering;
use crate::raw::op::target::Target;
use crate::raw::op::unheard::{Failed, Unheard};

/// Returns the offset in the image at which a compare-and-write at `offset` differs, computed from
/// librbd's report.
///
/// librbd adds the position within the request to the image offset at which the *object* begins,
/// not the request (seen with 16.2). A request lies within one stripe unit, and objects begin at
/// multiples of it.
pub(crate) fn differs_at(offset: u64, reported: u64, stripe_unit: u64) -> u64 {
    offset + reported % stripe_unit.max(1)
}

/// A request. Between the call and the completion, librbd reads and writes its buffers and the two
/// fields whose docs say so.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) hints: AccessHints,
    pub(crate) buffer: Buffer,
    /// The addresses of the buffers of a list. librbd reads it.
    iovecs: Iovecs,
    /// How many of the buffers contain the expected data of a compare-and-write.
    expected: usize,
    /// The position at which the image differs. librbd writes it.
    differs: u64,
    /// How much of the range is done, because long ranges are split.
    done: u64,
    /// How many left locks had been removed when librbd got the request: see [`Target::freed`].
    freed: usize,
    /// The request was submitted again after a left lock was removed.
    repeated: bool,
    /// The result of the last call, and the cause of a failure if it was looked up.
    result: isize,
    fault: Option<Fault>,
    /// The failure, until it is received.
    unheard: Option<Unheard>,
}

/// The next step after librbd has ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::raw) enum Next {
    /// The request has ended.
    Ended,
    /// Submit the next part of the range, or the same one again.
    Part,
    /// Ask for the size of the image, or also for the cause of a failure. Before that, the result
    /// means nothing.
    Ask { cause: bool },
}

impl Request {
    pub(crate) fn new(kind: Kind, offset: u64, len: u64, hints: AccessHints, buffer: Buffer) -> Request {
        Request {
            kind,
            offset,
            len,
            hints,
            buffer,
            iovecs: Iovecs::new(),
            expected: 0,
            differs: 0,
            done: 0,
            freed: 0,
            repeated: false,
            result: 0,
            fault: None,
            unheard: None,
        }
    }

    /// Returns a request that does nothing.
    pub(in crate::raw) fn empty() -> Request {
        Request::new(Kind::Flush, 0, 0, AccessHints::empty(), Buffer::None)
    }

    /// Makes a request, including all steps that can fail before the submission. The array of
    /// addresses reuses the memory of `spare`, and begins with `parts`, memory of the caller.
    pub(in crate::raw) fn prepare(
        &mut self,
        spare: &mut Request,
        parts: &[*mut [u8]],
    ) -> Result<(), Failure> {
        if let Buffer::Compare { expected, data } = &self.buffer {
            if [expected.len() as u64, data.len() as u64] != [self.len; 2] {
                return Err(Errno::EINVAL.into());
            }
        }
        if matches!(self.buffer, Buffer::CompareVec { .. } if self.len > 0) {
            need(&sys::late::rbd_aio_compare_and_writev)?;
        }
        self.iovecs.reuse(&mut spare.iovecs);
        self.iovecs.extend(parts.iter().map(|part| (part.cast::<u8>().cast_const(), part.len())));
        match &mut self.buffer {
            Buffer::BytesMut(target) if self.kind == Kind::Read => target.reserve(self.len as usize),
            Buffer::BytesVec(list) => self.iovecs.extend(list.iter().map(|one| (one.as_ptr(), one.len()))),
            // Addresses for writes come from an exclusive reference.
            Buffer::BytesMutVec(list) => {
                self.iovecs.extend(list.iter_mut().map(|one| (one.as_mut_ptr().cast_const(), one.len())));
            }
            Buffer::CompareVec { expected, data } => {
                self.expected = expected.len();
                self.iovecs.extend(expected.iter().map(|one| (one.as_ptr(), one.len())));
                self.iovecs.extend(data.iter().map(|one| (one.as_ptr(), one.len())));
            }
            _ => {}
        }
        Ok(())
    }

    /// Makes the call for the rest of the range, or for its first part. librbd has taken the
    /// completion unless the result is negative.
    ///
    /// # Safety
    /// The image of the target must be open. `this` was [prepared](Request::prepare), and is
    /// neither touched nor moved from now on until the completion has run. The caller's memory
    /// stays valid until then: for writes if this is a read, otherwise for reads.
    pub(in crate::raw) unsafe fn call(
        this: *mut Request,
        target: &Target,
        completion: sys::rbd_completion_t,
    ) -> c_int {
        // SAFETY: valid, and librbd does not have it yet.
        let Request { kind, offset, len, hints, buffer, iovecs, expected, differs, done, freed, .. } =
            unsafe { &mut *this };
        let (image, kind, flags) = (target.image(), *kind, hints.bits() as c_int);
        let (offset, len) = (*offset + *done, target.part(kind, *offset + *done, *len - *done));
        let size = len as usize;
        *freed = target.freed.load(Ordering::Relaxed);
        if kind.changes_data() {
            target.mark_written();
        }
        let (array, count) = iovecs.as_raw();
        let zero_flags = match kind {
            Kind::WriteZeroesThick => sys::RBD_WRITE_ZEROES_FLAG_THICK_PROVISION as c_int,
            _ => 0,
        };
        // SAFETY: the image is open, by the contract. Buffers, array and the place for the
        // difference have the lengths that are passed, belong to the request and do not move. For
        // the caller's memory, the contract promises it.
        unsafe {
            match (kind, buffer) {
                (Kind::Read, Buffer::BytesMut(target)) => {
                    let start = target.spare_capacity_mut().as_mut_ptr().cast();
                    sys::rbd_aio_read2(image, offset, size, start, completion, flags)
                }
                (Kind::Read, _) => sys::rbd_aio_readv(image, array, count, offset, completion),
                (Kind::Discard, _) => sys::rbd_aio_discard(image, offset, len, completion),
                (Kind::WriteZeroes | Kind::WriteZeroesThick, _) => {
                    sys::rbd_aio_write_zeroes(image, offset, size, completion, zero_flags, flags)
                }
                (Kind::Flush, _) => sys::rbd_aio_flush(image, completion),
                // librbd 16.2 aborts the process on an empty compare-and-write. It always succeeds,
                // and an empty read has the same result.
                (Kind::CompareAndWrite, _) if len == 0 => {
                    sys::rbd_aio_read(image, offset, 0, ptr::dangling_mut(), completion)
                }
                (Kind::CompareAndWrite, Buffer::Compare { expected, data }) => {
                    let (expected, data) = (expected.as_ptr().cast(), data.as_ptr().cast());
                    let differs = &raw mut *differs;
                    sys::rbd_aio_compare_and_write(
                        image, offset, size, expected, data, completion, differs, flags,
                    ) as c_int
                }
                (Kind::CompareAndWrite, _) => match sys::late::rbd_aio_compare_and_writev.get() {
                    Some(call) => {
                        let (second, rest) = (array.add(*expected), count - *expected as c_int);
                        let (expected, differs) = (*expected as c_int, &raw mut *differs);
                        call(image, offset, array, expected, second, rest, completion, differs, flags)
                            as c_int
                    }
                    None => -libc::ENOSYS,
                },
                (Kind::Write | Kind::WriteSame, buffer) => match (kind, buffer.one()) {
                    (Kind::WriteSame, Some(pattern)) => {
                        let (pattern, unit) = (pattern.as_ptr().cast(), pattern.len());
                        sys::rbd_aio_writesame(image, offset, size, pattern, unit, completion, flags)
                    }
                    (_, Some(data)) => {
                        let (data, size) = (data.as_ptr().cast(), data.len());
                        sys::rbd_aio_write2(image, offset, size, data, completion, flags)
                    }
                    // Without a buffer of this crate, the array points to the caller's memory.
                    (_, None) => sys::rbd_aio_writev(image, array, count, offset, completion),
                },
            }
        }
    }

    /// Handles the end of a call, and returns the next step. If the result is not `wanted`, no
    /// further part follows.
    pub(in crate::raw) fn settle(&mut self, target: &Target, result: isize, wanted: bool) -> Next {
        self.result = result;
        let whole = result == self.len as isize;
        match (self.kind, i32::try_from(result)) {
            (_, Ok(code)) if needs_cause(Errno::new(-code)) => return Next::Ask { cause: true },
            // The range exceeds the image, or an earlier request has left the exclusive lock.
            (_, Ok(code)) if code == -libc::EINVAL => return Next::Ask { cause: true },
            (Kind::Flush, _) if target.lease().is_valid() => {}
            // librbd truncated the range.
            (Kind::Read, _) if result >= 0 && !whole => return Next::Ask { cause: false },
            (_, _) if result >= 0 => match target.ready() {
                // librbd does not know the size either, or the exclusive lock is in doubt.
                None => return Next::Ask { cause: false },
                Some(size) => self.judge(size),
            },
            _ => {}
        }
        self.next(target, wanted)
    }

    /// Handles the answer, and returns the next step.
    pub(in crate::raw) fn answered(&mut self, target: &Target, answer: &Answer, wanted: bool) -> Next {
        let failed = check_len(self.result).err();
        match (&answer.cause, answer.size) {
            (_, Err(Errno::ENOLCK)) => self.fault = Some(Errno::ENOLCK.into()),
            // It may have been removed for another request that failed at the same time.
            (_, Ok(_)) if failed == Some(Errno::EINVAL) && wanted && self.may_repeat(target) => {
                self.repeated = true;
                return Next::Part;
            }
            (Some(cause), _) if failed.is_some_and(|errno| cause.explains(errno)) => {
                self.fault = failed.map(|errno| Fault::Caused(errno, cause.clone()));
            }
            (_, Ok(size)) => self.judge(size),
            (Some(cause @ Cause::PoolDeleted { .. }), Err(errno)) => {
                self.fault = Some(Fault::Caused(errno, cause.clone()));
            }
            // The snapshot was removed. From then on, librbd reads zeros.
            (_, Err(errno @ Errno::ENOENT)) if failed.is_none() && self.kind == Kind::Read => {
                self.fault = Some(errno.into());
            }
            // If the size is unknown, a change must not be reported as done.
            (_, Err(errno)) if failed.is_none() && self.kind.changes_data() => {
                self.fault = Some(errno.into());
            }
            _ => {}
        }
        self.next(target, wanted)
    }

    /// Checks the range against the known size before librbd gets the request, because librbd 16.2
    /// aborts the process if a request exceeds the object map. The check at the submission is not
    /// enough: the image may have shrunk since. Returns false if the size must be asked for first.
    ///
    /// The operation must be counted, so that no shrink of this process happens between this check
    /// and the call.
    pub(in crate::raw) fn is_judged(&mut self, target: &Target) -> bool {
        if self.kind == Kind::Flush {
            return target.lease().is_valid();
        }
        target.ready().map(|size| self.judge(size)).is_some()
    }

    /// Returns whether the range exceeds the image, so that librbd must not get the request.
    pub(in crate::raw) fn is_refused(&self) -> bool {
        self.fault.is_some()
    }

    /// Checks the range against the answer. Without a size, librbd gets the request and reports
    /// why. It does not if no thread could ask, or if an exclusive lock that was acquired is lost
    /// or in doubt: the request could write over the data of a new owner.
    pub(in crate::raw) fn is_within(&mut self, target: &Target, answer: &Answer) -> bool {
        match (answer.size, &answer.cause) {
            (Ok(size), _) => self.judge(size),
            (Err(errno @ (Errno::ENOLCK | Errno::EAGAIN)), _) => self.fail(errno),
            (Err(_), _) if target.lease().is_valid() => {}
            (Err(errno), Some(cause @ Cause::PoolDeleted { .. })) => {
                self.fault = Some(Fault::Caused(errno, cause.clone()));
            }
            (Err(errno), _) => self.fail(errno),
        }
        self.fault.is_none()
    }

    /// Returns whether a left lock was removed since librbd got the request.
    fn may_repeat(&self, target: &Target) -> bool {
        !self.repeated && self.freed != target.freed.load(Ordering::Relaxed)
    }

    fn judge(&mut self, size: u64) {
        if self.kind != Kind::Flush && self.offset + self.len > size {
            self.fault = Some(Fault::Cut(size));
        }
    }

    fn next(&mut self, target: &Target, wanted: bool) -> Next {
        if self.fault.is_some() || self.result < 0 || !self.is_in_parts() {
            return Next::Ended;
        }
        self.done += target.part(self.kind, self.offset + self.done, self.len - self.done);
        if self.done < self.len && wanted { Next::Part } else { Next::Ended }
    }

    fn is_in_parts(&self) -> bool {
        !self.kind.moves_data() && self.kind != Kind::Flush
    }

    /// Fails the request, with this errno unless a better one is known.
    pub(in crate::raw) fn fail(&mut self, errno: Errno) {
        self.fault.get_or_insert(errno.into());
    }

    /// Returns why the ended request failed.
    fn failure(&self) -> Option<Fault> {
        match (&self.fault, check_len(self.result)) {
            (Some(fault), _) => Some(fault.clone()),
            // The image differs.
            (None, Err(Errno::EILSEQ)) if self.kind == Kind::CompareAndWrite => None,
            (None, Err(errno)) => Some(errno.into()),
            // It was given up, so it was not continued after a part.
            (None, Ok(_)) if self.is_in_parts() && self.done < self.len => Some(Errno::ECANCELED.into()),
            (None, Ok(count)) if self.kind == Kind::Read && count as u64 != self.len => {
                Some(Errno::ENODATA.into())
            }
            (None, Ok(_)) => None,
        }
    }

    /// Records a failure of the ended request, which closing the image tells unless somebody
    /// receives it. Failed reads lose nothing.
    pub(in crate::raw) fn note_failure(&mut self, target: &Target) {
        if self.kind == Kind::Read {
            return;
        }
        if let Some(fault) = self.failure() {
            let &mut Request { kind, offset, len, .. } = self;
            self.unheard = Some(target.failures().note(Failed { kind, offset, len, fault }));
        }
    }

    /// Returns the buffer and the result of the ended request, which must not be used afterwards.
    pub(in crate::raw) fn finish(&mut self, stripe_unit: u64) -> (Buffer, Result<Option<Compare>, Fault>) {
        if let Some(unheard) = self.unheard.take() {
            unheard.hear();
        }
        let failure = self.failure();
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = match (failure, check_len(self.result), self.kind, &mut buffer) {
            (Some(fault), ..) => Err(fault),
            (None, Err(_), ..) => {
                Ok(Some(Compare::Differs(differs_at(self.offset, self.differs, stripe_unit))))
            }
            (None, Ok(count), Kind::Read, Buffer::BytesMut(target)) => {
                let filled = target.len() + count;
                // SAFETY: librbd has written all requested bytes after the old length, where space
                // was reserved.
                unsafe { target.set_len(filled) };
                Ok(None)
            }
            (None, Ok(_), Kind::CompareAndWrite, _) => Ok(Some(Compare::Written)),
            (None, Ok(_), ..) => Ok(None),
        };
        (buffer, outcome)
    }
}
