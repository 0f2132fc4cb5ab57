//! Asynchronous calls about the mirroring of one image.

use std::cell::UnsafeCell;
use std::ffi::c_int;

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check_len;
use crate::raw::image::Image;
use crate::raw::image::mirrored::{RawMirrorInfo, copy_info};
use crate::raw::image::snapshot::RawQuiesce;
use crate::raw::mirror::image::{RawMirrorStatus, copy_status};
use crate::raw::op::operation::{Operation, Payload};

/// The payload of calls that take only the completion.
struct Nothing;

impl Payload for Nothing {
    type Output = ();

    fn finish(self, result: isize) -> RawResult<()> {
        check_len(result).map(drop)
    }
}

/// The payload of calls that write a number, and the conversion of the number.
struct Number<N, T> {
    out: UnsafeCell<N>,
    convert: fn(N) -> T,
}

impl<N: Send + 'static, T: 'static> Payload for Number<N, T> {
    type Output = T;

    fn finish(self, result: isize) -> RawResult<T> {
        check_len(result).map(|_| (self.convert)(self.out.into_inner()))
    }
}

/// The payload of calls that fill a struct with strings, and the conversion of the struct. It is
/// all zeros until librbd fills it. Dropping this frees the strings.
struct Filled<C, R, T> {
    out: Out<C>,
    copy: unsafe fn(&C) -> R,
    convert: fn(R) -> T,
    cleanup: unsafe extern "C" fn(*mut C),
}

/// The struct of C, whose strings nobody else has.
struct Out<C>(UnsafeCell<C>);

// SAFETY: librbd fills it on any thread. Afterwards this value alone owns the struct and its
// strings.
unsafe impl<C> Send for Out<C> {}

impl<C, R, T> Filled<C, R, T> {
    /// # Safety
    /// All zeros must be a valid `C`, also for `cleanup`. `copy` must be safe to call once librbd
    /// has filled the struct.
    unsafe fn new(
        copy: unsafe fn(&C) -> R,
        convert: fn(R) -> T,
        cleanup: unsafe extern "C" fn(*mut C),
    ) -> Filled<C, R, T> {
        // SAFETY: the caller's promise.
        let out = Out(UnsafeCell::new(unsafe { std::mem::zeroed() }));
        Filled { out, copy, convert, cleanup }
    }
}

impl<C, R, T> Drop for Filled<C, R, T> {
    fn drop(&mut self) {
        // SAFETY: all zeros, or filled by librbd, and not used after this.
        unsafe { (self.cleanup)(self.out.0.get_mut()) }
    }
}

impl<C: 'static, R: 'static, T: 'static> Payload for Filled<C, R, T> {
    type Output = T;

    fn finish(mut self, result: isize) -> RawResult<T> {
        check_len(result)?;
        // SAFETY: on success librbd has filled it.
        let copied = unsafe { (self.copy)(self.out.0.get_mut()) };
        Ok((self.convert)(copied))
    }
}

impl Image {
    /// Submits a call, which the image counts as in flight.
    ///
    /// # Safety
    /// As for [`Operation::submit`]; the call must be on this image.
    unsafe fn submit_call<P: Payload>(
        &self,
        payload: P,
        call: impl FnOnce(*mut P, sys::rbd_completion_t) -> c_int,
    ) -> RawResult<Operation<P::Output>> {
        // SAFETY: the image waits for its operations before it is closed and the target freed.
        unsafe { Operation::submit(Some(self.shared()), payload, call) }
    }

    pub(crate) fn aio_mirror_promote(&self, force: bool) -> RawResult<Operation<()>> {
        // SAFETY: no memory but the completion is passed.
        unsafe {
            self.submit_call(Nothing, |_, completion| {
                sys::rbd_aio_mirror_image_promote(self.as_ptr(), force, completion)
            })
        }
    }

    pub(crate) fn aio_mirror_demote(&self) -> RawResult<Operation<()>> {
        // SAFETY: no memory but the completion is passed.
        unsafe {
            self.submit_call(Nothing, |_, completion| {
                sys::rbd_aio_mirror_image_demote(self.as_ptr(), completion)
            })
        }
    }

    /// Creates a mirror snapshot. The result is its id.
    pub(crate) fn aio_mirror_snapshot(&self, quiesce: RawQuiesce) -> RawResult<Operation<u64>> {
        let flags = quiesce.flags();
        // SAFETY: the operation owns the place for the id until the completion has run.
        unsafe {
            let id = Number { out: UnsafeCell::new(0), convert: |id| id };
            self.submit_call(id, |id, completion| {
                sys::rbd_aio_mirror_image_create_snapshot(self.as_ptr(), flags, (*id).out.get(), completion)
            })
        }
    }

    pub(crate) fn aio_mirror_info<T: 'static>(
        &self,
        convert: fn(RawMirrorInfo) -> T,
    ) -> RawResult<Operation<T>> {
        const SIZE: usize = size_of::<sys::rbd_mirror_image_info_t>();
        // SAFETY: a struct of a pointer and integers; all zeros are valid and freed as null. The
        // operation owns it until the completion has run; librbd is told its size.
        unsafe {
            let info = Filled::new(copy_info, convert, sys::rbd_mirror_image_get_info_cleanup);
            self.submit_call(info, |info, completion| {
                sys::rbd_aio_mirror_image_get_info(self.as_ptr(), (*info).out.0.get(), SIZE, completion)
            })
        }
    }

    pub(crate) fn aio_mirror_mode<T: 'static>(&self, convert: fn(u32) -> T) -> RawResult<Operation<T>> {
        // The C type has the layout of a u32.
        let mode = Number { out: UnsafeCell::new(0_u32), convert };
        // SAFETY: the operation owns the place for the mode until the completion has run.
        unsafe {
            self.submit_call(mode, |mode, completion| {
                sys::rbd_aio_mirror_image_get_mode(self.as_ptr(), (*mode).out.get().cast(), completion)
            })
        }
    }

    pub(crate) fn aio_mirror_status<T: 'static>(
        &self,
        convert: fn(RawMirrorStatus) -> T,
    ) -> RawResult<Operation<T>> {
        const SIZE: usize = size_of::<sys::rbd_mirror_image_global_status_t>();
        // SAFETY: as in `aio_mirror_info`; with zero sites nothing is freed.
        unsafe {
            let status = Filled::new(copy_status, convert, sys::rbd_mirror_image_global_status_cleanup);
            self.submit_call(status, |status, completion| {
                let out = (*status).out.0.get();
                sys::rbd_aio_mirror_image_get_global_status(self.as_ptr(), out, SIZE, completion)
            })
        }
    }
}
