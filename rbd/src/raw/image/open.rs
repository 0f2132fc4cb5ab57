//! Opening of images, blocking and asynchronous.

use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, check_len};
use crate::raw::image::Image;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::operation::{Operation, Payload};
use crate::raw::thread::exit::Pending;
use crate::raw::thread::mark::in_callback;

/// Whether an image is named by its name or its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Name,
    Id,
}

/// An image that is being opened. If its future is dropped, the image is closed again.
#[derive(Debug)]
struct OpenPayload {
    ioctx: Arc<IoCtx>,
    handle: HandlePlace,
    /// The result, once the opening has ended.
    image: Option<RawResult<Image>>,
    writes: bool,
    read_only: bool,
    /// Lives until the image is taken or its closing has begun, which counts as pending itself.
    _pending: Pending,
}

/// Where librbd writes the handle.
#[derive(Debug)]
struct HandlePlace(UnsafeCell<sys::rbd_image_t>);

// SAFETY: an image's handle may be used from any thread.
unsafe impl Send for HandlePlace {}

impl Payload for OpenPayload {
    type Output = Image;

    /// librbd may have to read the header again before it knows the size.
    const END_MAY_BLOCK: bool = true;

    fn on_end(&mut self) {
        self.image = self.take().map(|mut image| {
            // No thread could be started.
            if in_callback() {
                return Err(Errno::EAGAIN);
            }
            image.learn_size()?;
            if self.writes {
                image.prepare_to_write()?;
            }
            Ok(image)
        });
    }

    fn finish(mut self, result: isize) -> RawResult<Image> {
        check_len(result)?;
        self.image.take().unwrap_or(Err(Errno::EIO))
    }
}

impl OpenPayload {
    fn take(&self) -> Option<Image> {
        // SAFETY: librbd wrote it, if at all, before the completion ran; since then only we use it.
        let handle = unsafe { self.handle.0.get().replace(ptr::null_mut()) };
        (!handle.is_null()).then(|| {
            // SAFETY: librbd has opened it for us, in this pool.
            let mut image = unsafe { Image::new(handle, Arc::clone(&self.ioctx), self.writes) };
            image.set_close_in_background(true);
            image.settled = self.read_only;
            image
        })
    }
}

impl Drop for OpenPayload {
    fn drop(&mut self) {
        // Closed in the background, like an image that is dropped: this may be a thread of librbd.
        drop(self.take());
    }
}

impl Image {
    /// Opens an image. Blocks.
    pub(crate) fn open(
        ioctx: Arc<IoCtx>,
        by: By,
        name: &CStr,
        snapshot: Option<&CStr>,
        read_only: bool,
    ) -> RawResult<Image> {
        let mut handle = ptr::null_mut();
        let call = match (by, read_only) {
            (By::Name, false) => sys::rbd_open,
            (By::Name, true) => sys::rbd_open_read_only,
            (By::Id, false) => sys::rbd_open_by_id,
            (By::Id, true) => sys::rbd_open_by_id_read_only,
        };
        let snapshot = snapshot.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the pool handle is valid, strings and out pointer live through the call.
        check(unsafe { call(ioctx.as_ptr(), name.as_ptr(), &raw mut handle, snapshot) })?;
        let writes = !read_only && snapshot.is_null();
        // SAFETY: librbd has opened it for us, in this pool.
        let mut image = unsafe { Image::new(handle, ioctx, writes) };
        image.settled = read_only;
        image.learn_size()?;
        if writes {
            image.prepare_to_write()?;
        }
        Ok(image)
    }

    /// Starts to open an image. When the image is dropped, it is closed in the background.
    pub(crate) fn start_open(
        ioctx: Arc<IoCtx>,
        by: By,
        name: &CStr,
        snapshot: Option<&CStr>,
        read_only: bool,
    ) -> RawResult<Operation<Image>> {
        let call = match (by, read_only) {
            (By::Name, false) => sys::rbd_aio_open,
            (By::Name, true) => sys::rbd_aio_open_read_only,
            (By::Id, false) => sys::rbd_aio_open_by_id,
            (By::Id, true) => sys::rbd_aio_open_by_id_read_only,
        };
        let snapshot = snapshot.map_or(ptr::null(), CStr::as_ptr);
        let pool = ioctx.as_ptr();
        let handle = HandlePlace(UnsafeCell::new(ptr::null_mut()));
        let writes = !read_only && snapshot.is_null();
        let payload = OpenPayload { ioctx, handle, image: None, writes, read_only, _pending: Pending::new() };
        // SAFETY: the operation owns the place for the handle and keeps the pool alive; librbd
        // copies the strings.
        unsafe {
            Operation::submit(None, payload, |payload, completion| {
                call(pool, name.as_ptr(), (*payload).handle.0.get(), snapshot, completion)
            })
        }
    }
}
