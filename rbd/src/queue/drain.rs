//! The end of a queue: what is in flight comes first, then the image, then the memory.

use std::sync::Arc;

use crate::error::Result;
use crate::image::Image;
use crate::raw::queue::Places;
use crate::raw::thread::catch_panic::contain;
use crate::raw::thread::{apart, in_callback, is_shared};

/// An image and the operations in flight on it. Neither goes before all of those have ended.
pub(super) struct Drained(Option<(Arc<Image>, Places)>);

impl Drained {
    pub(super) fn new(image: Arc<Image>, places: Places) -> Drained {
        Drained(Some((image, places)))
    }

    pub(super) fn parts(&self) -> &(Arc<Image>, Places) {
        self.0.as_ref().expect("empty only while it is dropped")
    }

    pub(super) fn parts_mut(&mut self) -> &mut (Arc<Image>, Places) {
        self.0.as_mut().expect("empty only while it is dropped")
    }

    pub(super) fn close(mut self) -> Result<()> {
        // Waiting here might wait for this very thread: dropping it leaves all that to another.
        if in_callback() {
            return Ok(());
        }
        self.0.take().map_or(Ok(()), end)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            let background = parts.0.raw().closes_in_background() || is_shared();
            let end = move || {
                let _ = end(parts);
            };
            if background { apart(end) } else { end() }
        }
    }
}

/// Closes the image, too, unless somebody else still has it.
fn end((image, mut places): (Arc<Image>, Places)) -> Result<()> {
    drain(&image, &mut places);
    drop(places);
    Arc::into_inner(image).map_or(Ok(()), Image::close)
}

fn drain(image: &Image, places: &mut Places) {
    while !places.is_idle() {
        // A buffer's owner is foreign code: its panic must not free the buffers that librbd still has.
        while contain(|| places.reap(image.raw()).map(drop)) != Some(None) {}
        if !places.is_idle() {
            // An interruption only makes it look again.
            let _ = places.wait_for_librbd(None);
        }
    }
}
