//! Open images shared with calls that may time out.

use std::ops::Deref;
use std::sync::Arc;

use crate::raw::ffi::address::Address;
use crate::raw::image::Image;
use crate::raw::op::target::Target;

/// An open image for a call on another thread. Closing waits until this is dropped.
#[derive(Debug)]
pub(crate) struct SharedImage {
    image: Image,
}

impl Deref for SharedImage {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

impl Drop for SharedImage {
    fn drop(&mut self) {
        // Without the handle, the drop of the image closes nothing.
        self.image.handle = Address::NULL;
        self.image.ioctx = None;
        // SAFETY: `share` entered it, and our reference keeps it valid.
        unsafe { Target::leave_call(Arc::as_ptr(&self.image.shared)) };
    }
}

impl Image {
    /// Returns the same handle for a call that may time out.
    pub(crate) fn share(&self) -> SharedImage {
        self.shared.enter_call();
        let (handle, ioctx, shared) = (self.handle, self.ioctx.clone(), Arc::clone(&self.shared));
        let image =
            Image { handle, ioctx, shared, header_watch: None, background: true, settled: self.settled };
        SharedImage { image }
    }
}
