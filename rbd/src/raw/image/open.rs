//! Opening and closing images without waiting for it.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr;
use std::sync::{Arc, mpsc};

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, check_len};
use crate::raw::image::watch::Watch;
use crate::raw::image::{By, Image};
use crate::raw::ioctx::IoCtx;
use crate::raw::op::in_flight::Lane;
use crate::raw::op::operation::{Op, Payload};
use crate::raw::thread::exit::Pending;
use crate::raw::thread::{in_callback, outside_callback, reap};

/// An image that is being opened. If nobody takes it, it is closed again.
#[derive(Debug)]
pub(crate) struct Opening {
    ioctx: Arc<IoCtx>,
    handle: UnsafeCell<sys::rbd_image_t>,
    /// The image, once it has ended.
    image: Option<RawResult<Image>>,
    /// Until the image is taken, or its closing has begun, which is pending itself.
    _pending: Pending,
}

// SAFETY: an image handle may be used from any thread.
unsafe impl Send for Opening {}

impl Payload for Opening {
    type Output = Image;

    /// librbd may have to read the header again before it tells the size.
    const ENDS_APART: bool = true;

    fn ended(&mut self) {
        self.image = self.take().map(|mut image| {
            // There is no thread for it.
            if in_callback() {
                return Err(Errno::EAGAIN);
            }
            image.learn_size()?;
            Ok(image)
        });
    }

    fn finish(mut self, result: isize) -> RawResult<Image> {
        check_len(result)?;
        self.image.take().unwrap_or(Err(Errno::EIO))
    }
}

impl Opening {
    fn take(&self) -> Option<Image> {
        // SAFETY: librbd wrote it, if at all, before the completion ran; it is ours alone since.
        let handle = unsafe { self.handle.get().replace(ptr::null_mut()) };
        (!handle.is_null()).then(|| {
            let mut image = Image::new(handle, Arc::clone(&self.ioctx));
            image.close_in_background(true);
            image
        })
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        // Closed in the background, as `take` says, and so is the one that nobody took: this may be a thread of librbd's.
        drop(self.take());
    }
}

impl Image {
    /// Starts to open an image. Its close, when it is dropped, happens in the background.
    pub(crate) fn start_open(
        ioctx: Arc<IoCtx>,
        by: By,
        name: &CStr,
        snapshot: Option<&CStr>,
        read_only: bool,
    ) -> RawResult<Op<Image>> {
        let call = match (by, read_only) {
            (By::Name, false) => sys::rbd_aio_open,
            (By::Name, true) => sys::rbd_aio_open_read_only,
            (By::Id, false) => sys::rbd_aio_open_by_id,
            (By::Id, true) => sys::rbd_aio_open_by_id_read_only,
        };
        let snapshot = snapshot.map_or(ptr::null(), CStr::as_ptr);
        let pool = ioctx.as_ptr();
        let handle = UnsafeCell::new(ptr::null_mut());
        let opening = Opening { ioctx, handle, image: None, _pending: Pending::new() };
        // SAFETY: the operation owns the place for the handle and keeps the pool alive; librbd copies the strings.
        unsafe {
            Op::submit(None, opening, |opening, completion| {
                call(pool, name.as_ptr(), (*opening).handle.get(), snapshot, completion)
            })
        }
    }
}

/// What is needed to close an image.
#[derive(Debug)]
pub(in crate::raw) struct Handle {
    handle: sys::rbd_image_t,
    ioctx: Arc<IoCtx>,
    lane: Arc<Lane>,
    watch: Option<Watch>,
}

/// Ends a watch on an image that is about to be closed.
///
/// # Safety
/// The image must be open. Not on a thread of Ceph's.
unsafe fn end(watch: Option<Watch>, image: sys::rbd_image_t) {
    // It fails only where the image knows no such watch.
    // SAFETY: the caller's promise.
    let _ = watch.map(|watch| unsafe { watch.end(image) });
}

impl Handle {
    /// The handle is open and nobody else's, and nothing enters the lane any more.
    pub(in crate::raw) fn new(
        handle: sys::rbd_image_t,
        ioctx: Arc<IoCtx>,
        lane: Arc<Lane>,
        watch: Option<Watch>,
    ) -> Handle {
        Handle { handle, ioctx, lane, watch }
    }

    pub(in crate::raw) fn close(self) -> RawResult<()> {
        let (sender, receiver) = mpsc::channel();
        // SAFETY: nobody enters the lane any more, and it lives until we have heard from its last user.
        unsafe {
            Lane::close(&raw const *self.lane, move || {
                let _ = sender.send(());
            });
        }
        let _ = receiver.recv();
        // SAFETY: the handle is ours, and nothing is in flight on it. librbd frees it whatever it returns.
        check(unsafe {
            end(self.watch, self.handle);
            sys::rbd_close(self.handle)
        })?;
        Ok(())
    }

    pub(in crate::raw) fn start_close(self) -> RawResult<Op<()>> {
        let Handle { handle, ioctx, lane, watch } = self;
        let close = Address(handle);
        let closing = Closing { _lane: Arc::clone(&lane), ioctx: Some(ioctx), pending: Some(Pending::new()) };
        // SAFETY: librbd takes the completion once the lane is empty; the operation keeps the lane and the pool alive until
        // then and beyond. The handle is ours, and librbd frees it in any case; `rbd_aio_close` cannot fail at once.
        unsafe {
            Op::submit(None, closing, move |_, completion| {
                let completion = Address(completion);
                Lane::close(&raw const *lane, move || {
                    // What ends last may end on a thread that still works for this image.
                    outside_callback(move || {
                        let (close, completion) = (close, completion);
                        end(watch, close.0);
                        sys::rbd_aio_close(close.0, completion.0);
                    });
                });
                0
            })
        }
    }
}

/// A handle or completion on its way to another thread.
pub(in crate::raw) struct Address(pub(in crate::raw) *mut std::ffi::c_void);

// SAFETY: librbd's handles and completions may be used from any thread.
unsafe impl Send for Address {}

/// An image that is being closed.
#[derive(Debug)]
pub(crate) struct Closing {
    /// Never read: the operations in flight point to it.
    _lane: Arc<Lane>,
    ioctx: Option<Arc<IoCtx>>,
    pending: Option<Pending>,
}

impl Payload for Closing {
    type Output = ();

    fn ended(&mut self) {
        // With the last image the connection may end, which blocks: not here.
        let ioctx = self.ioctx.take();
        reap(move || drop(ioctx));
        // Only now: what the reaper has is pending itself.
        self.pending = None;
    }

    fn finish(self, result: isize) -> RawResult<()> {
        check_len(result).map(drop)
    }
}
