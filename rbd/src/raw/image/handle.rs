//! Closing of an image, separate from the image itself.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::{check, check_len};
use crate::raw::image::closing::{self, CloseFailure, Step};
#[cfg(feature = "tracing")]
use crate::raw::image::keeper;
use crate::raw::image::watch::Watch;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::operation::{Operation, Payload};
use crate::raw::op::target::Target;
use crate::raw::thread::background::{outside_callback, run_in_background};
use crate::raw::thread::exit::Pending;
use crate::raw::thread::pool as threads;

/// What is needed to close an image.
#[derive(Debug)]
pub(crate) struct Handle {
    handle: Address<c_void>,
    ioctx: Arc<IoCtx>,
    shared: Arc<Target>,
    watch: Option<Watch>,
}

/// Ends a watch on an image that is about to be closed.
///
/// # Safety
/// The image must be open. Must not run on a thread of Ceph.
unsafe fn end(watch: Option<Watch>, image: sys::rbd_image_t) {
    // It fails only if the image does not know the watch.
    // SAFETY: the caller's promise.
    let _ = watch.map(|watch| unsafe { watch.end(image) });
}

impl Handle {
    /// # Safety
    /// The handle must be open, in this pool, and owned by nobody else. No further operation may be
    /// submitted to it. Target and watch must belong to it.
    pub(in crate::raw) unsafe fn new(
        handle: Address<c_void>,
        ioctx: Arc<IoCtx>,
        shared: Arc<Target>,
        watch: Option<Watch>,
    ) -> Handle {
        Handle { handle, ioctx, shared, watch }
    }

    pub(super) fn call_timeout(&self) -> Option<Duration> {
        self.ioctx.cluster().call_timeout()
    }

    /// Returns the id of the image, for the event about a failed closing that no caller receives.
    #[cfg(feature = "tracing")]
    pub(super) fn id(&self) -> String {
        // SAFETY: the image is open until this is consumed.
        unsafe { keeper::id(self.handle.get()) }.unwrap_or_default()
    }

    /// Closes the image after all I/O in flight. Blocks. Must not run on a thread of Ceph.
    pub(crate) fn close(self) -> Result<(), CloseFailure> {
        let (sender, receiver) = mpsc::channel();
        // SAFETY: no operation enters any more, and the count lives until its last user has
        // reported.
        unsafe {
            Target::close(Arc::as_ptr(&self.shared), move || {
                let _ = sender.send(());
            });
        }
        let _ = receiver.recv();
        let unheard = closing::unheard(&self.shared);
        // SAFETY: the image is open, in this pool.
        let finished = unsafe {
            end(self.watch, self.handle.get());
            closing::finish(&self.shared, &self.ioctx)
        };
        closing::wait_for_opener(&self.ioctx);
        // SAFETY: we own the handle, and nothing is in flight on it. librbd frees it even if it
        // returns an error.
        let closed = check(unsafe { sys::rbd_close(self.handle.get()) });
        unheard.and(finished).and(closed.map(drop).map_err(|errno| Step::Close.failed(errno)))
    }

    /// Closes the image after all I/O in flight, without blocking. `heard` says whether a caller
    /// receives the result.
    pub(crate) fn start_close(self, heard: bool) -> RawResult<Operation<Result<(), CloseFailure>>> {
        #[cfg(feature = "tracing")]
        let unheard = (!heard).then(|| self.id());
        let Handle { handle, ioctx, shared, watch } = self;
        let close = handle;
        let (finished, pool) = (Arc::new(OnceLock::new()), Arc::clone(&ioctx));
        let payload = ClosePayload {
            _shared: Arc::clone(&shared),
            ioctx: Some(ioctx),
            pending: Some(Pending::new()),
            finished: Arc::clone(&finished),
            #[cfg(feature = "tracing")]
            unheard,
        };
        #[cfg(not(feature = "tracing"))]
        let _ = heard;
        // SAFETY: librbd takes the completion once nothing is in flight; the operation keeps the
        // count and the pool alive until it has completed. We own the handle, and librbd frees it
        // in any case; `rbd_aio_close` cannot fail at once.
        unsafe {
            Operation::submit(None, payload, move |_, completion| {
                let completion = Address::new(completion);
                let counted = Arc::as_ptr(&shared);
                Target::close(counted, move || {
                    let close = move |last: RawResult<()>| {
                        end(watch, close.get());
                        let last = last.map_err(|errno| closing::not_flushed(&shared, errno));
                        let last = last.and_then(|()| closing::finish(&shared, &pool));
                        // Only this closure sets it.
                        let _ = finished.set(closing::unheard(&shared).and(last));
                        closing::wait_for_opener(&pool);
                        drop(pool);
                        sys::rbd_aio_close(close.get(), completion.get());
                    };
                    // A flush blocks, and the last operation may end on a thread that the flush
                    // waits for.
                    let close = Arc::new(Mutex::new(Some(close)));
                    let job = Arc::clone(&close);
                    let take = |close: &Mutex<Option<_>>| {
                        close.lock().unwrap_or_else(PoisonError::into_inner).take()
                    };
                    let begun = threads::run(move || {
                        if let Some(close) = take(&job) {
                            close(Ok(()));
                        }
                    });
                    if let Err(errno) = begun {
                        if let Some(close) = take(&close) {
                            outside_callback(move || close(Err(errno)));
                        }
                    }
                });
                0
            })
        }
    }
}

/// The values that a closing image keeps alive.
#[derive(Debug)]
struct ClosePayload {
    /// Never read. The operations in flight point to it.
    _shared: Arc<Target>,
    ioctx: Option<Arc<IoCtx>>,
    pending: Option<Pending>,
    /// The results of the last flush and of the release of the lock.
    finished: Arc<OnceLock<Result<(), CloseFailure>>>,
    /// The id of an image that was dropped: no caller receives its failure.
    #[cfg(feature = "tracing")]
    unheard: Option<String>,
}

impl Payload for ClosePayload {
    type Output = Result<(), CloseFailure>;

    fn on_end(&mut self) {
        #[cfg(feature = "tracing")]
        if let (Some(id), Some(Err(failure))) = (&self.unheard, self.finished.get()) {
            crate::events::lost(id, failure);
        }
        // Dropping the last image may end the connection, which blocks. So it happens elsewhere.
        let ioctx = self.ioctx.take();
        run_in_background(move || drop(ioctx));
        // Only now, because the work in the background counts as pending itself.
        self.pending = None;
    }

    fn finish(self, result: isize) -> RawResult<Result<(), CloseFailure>> {
        if let Some(Err(failure)) = self.finished.get() {
            return Ok(Err(failure.clone()));
        }
        Ok(check_len(result).map(drop).map_err(|errno| Step::Close.failed(errno)))
    }
}
