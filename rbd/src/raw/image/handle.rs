//! Closing an image: what that needs, apart from the image.

use std::ffi::c_void;
use std::sync::{Arc, mpsc};

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, check_len};
use crate::raw::image::shared::Shared;
use crate::raw::image::watch::Watch;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::in_flight::InFlight;
use crate::raw::op::operation::{Operation, Payload};
use crate::raw::thread::background::{outside_callback, run_in_background};
use crate::raw::thread::exit::Pending;

/// What is needed to close an image.
#[derive(Debug)]
pub(crate) struct Handle {
    handle: sys::rbd_image_t,
    ioctx: Arc<IoCtx>,
    shared: Arc<Shared>,
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
    /// The handle is open and nobody else's, and no operation is submitted to it any more.
    pub(crate) fn new(
        handle: sys::rbd_image_t,
        ioctx: Arc<IoCtx>,
        shared: Arc<Shared>,
        watch: Option<Watch>,
    ) -> Handle {
        Handle { handle, ioctx, shared, watch }
    }

    /// Closes the image after all I/O in flight. Blocks. Must not run on a thread of Ceph's.
    pub(crate) fn close(self) -> RawResult<()> {
        let (sender, receiver) = mpsc::channel();
        // SAFETY: nobody enters any more, and the count lives until we have heard from its last user.
        unsafe {
            InFlight::close(&raw const self.shared.target.in_flight, move || {
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

    /// Closes the image after all I/O in flight, without waiting for that.
    pub(crate) fn start_close(self) -> RawResult<Operation<()>> {
        let Handle { handle, ioctx, shared, watch } = self;
        let close = Address(handle);
        let payload =
            ClosePayload { _shared: Arc::clone(&shared), ioctx: Some(ioctx), pending: Some(Pending::new()) };
        // SAFETY: librbd takes the completion once nothing is in flight; the operation keeps the count and the pool alive until
        // then and beyond. The handle is ours, and librbd frees it in any case; `rbd_aio_close` cannot fail at once.
        unsafe {
            Operation::submit(None, payload, move |_, completion| {
                let completion = Address(completion);
                InFlight::close(&raw const shared.target.in_flight, move || {
                    // The last operation may end on a thread that still works for this image.
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
pub(crate) struct Address(pub(crate) *mut c_void);

// SAFETY: librbd's handles and completions may be used from any thread.
unsafe impl Send for Address {}

/// What an image that is being closed owns.
#[derive(Debug)]
struct ClosePayload {
    /// Never read: the operations in flight point to it.
    _shared: Arc<Shared>,
    ioctx: Option<Arc<IoCtx>>,
    pending: Option<Pending>,
}

impl Payload for ClosePayload {
    type Output = ();

    fn on_end(&mut self) {
        // With the last image the connection may end, which blocks: not here.
        let ioctx = self.ioctx.take();
        run_in_background(move || drop(ioctx));
        // Only now: work in the background is pending itself.
        self.pending = None;
    }

    fn finish(self, result: isize) -> RawResult<()> {
        check_len(result).map(drop)
    }
}
