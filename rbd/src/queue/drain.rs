//! The end of a queue: what is in flight comes first, then the image, then the memory.

use crate::error::Result;
use crate::image::Image;
use crate::raw::contain::contain;
use crate::raw::queue::Places;
use crate::raw::thread::{apart, in_callback, is_shared};

/// An image and the operations in flight on it. Neither goes before all of those have ended.
pub(super) struct Drained(Option<(Image, Places)>);

impl Drained {
    pub(super) fn new(image: Image, places: Places) -> Drained {
        Drained(Some((image, places)))
    }

    pub(super) fn parts(&self) -> &(Image, Places) {
        self.0.as_ref().expect("empty only while it is dropped")
    }

    pub(super) fn parts_mut(&mut self) -> &mut (Image, Places) {
        self.0.as_mut().expect("empty only while it is dropped")
    }

    pub(super) fn close(mut self) -> Result<()> {
        // Waiting here might wait for this very thread: dropping it leaves all that to another.
        if in_callback() {
            return Ok(());
        }
        match self.0.take() {
            Some((image, mut places)) => {
                drain(&image, &mut places);
                image.close()
            }
            None => Ok(()),
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if let Some((image, mut places)) = self.0.take() {
            let background = image.raw().closes_in_background() || is_shared();
            let end = move || {
                drain(&image, &mut places);
                // Waiting for it, whoever waits: librbd may be about to write to the descriptor, until the image is closed.
                let _ = image.close();
            };
            if background { apart(end) } else { end() }
        }
    }
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
