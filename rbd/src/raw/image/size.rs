//! The size of an open image, and changing it.

use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::image::Image;
use crate::raw::image::handle::Address;
use crate::raw::image::known_size::SizeCheck;
use crate::raw::image::shared::Shared;
use crate::raw::op::in_flight::InFlight;
use crate::raw::thread::background::try_spawn_detached;
use crate::raw::thread::mark::in_callback;
use crate::raw::thread::progress::with_progress;

impl Image {
    pub(crate) fn size(&self) -> RawResult<u64> {
        match positive(self.number(sys::rbd_get_size)?) {
            // Cut below its encryption header, for example: nothing may reach librbd from now on.
            0 => self.ask_size(),
            size => Ok(size),
        }
    }

    /// Belongs to the opening, and blocks as that does: [`size_for`](Image::size_for) has the answer from here on.
    pub(in crate::raw) fn learn_size(&mut self) -> RawResult<()> {
        let shared = Arc::clone(&self.shared);
        // First, so that no change comes in between.
        self.header_watch = Some(self.watch_updates(move || shared.target.header.changed())?);
        self.ask_size().map(drop)
    }

    /// Returns a size against which a range with this end can be checked. Blocks only for an end beyond the known size, if there
    /// may be a newer one: see [`crate::raw::image::known_size`].
    pub(crate) fn size_for(&self, end: u64) -> RawResult<u64> {
        match self.shared.size.for_end(end, &self.shared.target.header) {
            SizeCheck::Current(size) => Ok(size),
            SizeCheck::Stale(size) => {
                self.ask_size_in_background();
                Ok(size)
            }
            // librbd would read the header with the threads that call back here.
            SizeCheck::Unknown if in_callback() => {
                self.ask_size_in_background();
                Err(Errno::EDEADLK)
            }
            SizeCheck::Unknown => self.ask_size(),
        }
    }

    /// Refreshes the known size after a call that may have changed it.
    pub(in crate::raw) fn size_changed(&self) {
        // An answer that is under way may be that of before.
        self.shared.target.header.changed();
        // Without an answer it is asked for later.
        let _ = self.ask_size();
    }

    fn ask_size(&self) -> RawResult<u64> {
        // SAFETY: the image is open.
        unsafe { ask_size(self.as_ptr(), &self.shared) }
    }

    /// Asks for the size in the background. Without a thread for that, the next caller tries again.
    fn ask_size_in_background(&self) {
        // Closing waits for the answer.
        if !self.shared.target.in_flight.hold() {
            return;
        }
        let (handle, shared) = (Address(self.as_ptr()), Arc::clone(&self.shared));
        let begun = try_spawn_detached(move || {
            let handle = handle;
            // SAFETY: the image stays open until the hold is released.
            unsafe {
                // Without an answer the next caller tries again, too.
                let _ = ask_size(handle.0, &shared);
                InFlight::release(&raw const shared.target.in_flight);
            }
        });
        if !begun {
            // SAFETY: held above, and valid, since the image is open.
            unsafe { InFlight::release(&raw const self.shared.target.in_flight) };
        }
    }

    pub(crate) fn resize(&self, size: u64, allow_shrink: bool, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: the image is open; the progress state lives through the call.
        let resized = with_progress(progress, |report, arg| unsafe {
            sys::rbd_resize2(self.as_ptr(), size, allow_shrink, Some(report), arg)
        });
        self.size_changed();
        resized.map(drop)
    }
}

/// Asks for the size and keeps it. `shared` must be that of the image.
///
/// # Safety
/// The image must be open.
unsafe fn ask_size(image: sys::rbd_image_t, shared: &Shared) -> RawResult<u64> {
    let changes = shared.target.header.heard();
    let mut size = 0;
    // SAFETY: the image is open, the out pointer lives through the call.
    check(unsafe { sys::rbd_get_size(image, &raw mut size) })?;
    let size = positive(size);
    shared.size.learn(size, changes);
    Ok(size)
}

/// Returns 0 for a negative size. librbd subtracts the encryption header: if the image was cut below that, nothing is left,
/// and I/O would abort the process.
pub(crate) fn positive(size: u64) -> u64 {
    if i64::try_from(size).is_ok() { size } else { 0 }
}
