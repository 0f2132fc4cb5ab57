//! Update watches: librbd's threads report changes of an image's header.

use std::ffi::c_void;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

type UpdateCallback = dyn Fn() + Send + Sync;

/// A registered callback. It leaks unless the watch is ended.
#[derive(Debug)]
pub(crate) struct Watch {
    image: Address<c_void>,
    /// The address of librbd's object for the watch, which `end` frees. Each image numbers its
    /// watches from zero, so ending this one on the wrong image would end another watch and free a
    /// callback that is still in use.
    handle: u64,
    callback: Address<Box<UpdateCallback>>,
}

impl Watch {
    /// Calls `callback` after each change of the header of an image. A panic in it ends there.
    ///
    /// # Safety
    /// The image must be open.
    pub(crate) unsafe fn begin(
        image: sys::rbd_image_t,
        callback: impl Fn() + Send + Sync + 'static,
    ) -> RawResult<Watch> {
        let callback: *mut Box<UpdateCallback> = Box::into_raw(Box::new(Box::new(callback)));
        let mut handle = 0;
        // SAFETY: the image is open; the callback stays at its address until `end` has returned, or
        // is leaked.
        let code = unsafe { sys::rbd_update_watch(image, &raw mut handle, Some(on_update), callback.cast()) };
        if code < 0 {
            // SAFETY: it was not registered, so the pointer is ours alone.
            drop(unsafe { Box::from_raw(callback) });
        }
        check(code)?;
        // SAFETY: the image's handle is only compared; the callback is Send and Sync.
        let (image, callback) = unsafe { (Address::new(image), Address::new(callback)) };
        Ok(Watch { image, handle, callback })
    }

    /// Ends the watch. Waits for a running callback, so a callback must not call this. A watch of
    /// another image is refused, and leaks.
    ///
    /// # Safety
    /// The image must be open.
    #[allow(clippy::needless_pass_by_value)] // consumed: the pointer in it dangles afterwards
    pub(crate) unsafe fn end(self, image: sys::rbd_image_t) -> RawResult<()> {
        let Watch { image: of, handle, callback } = self;
        if of.get() != image {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the image is open, and the handle was made for it. A handle made for an earlier
        // image with the same address is still allocated, because only this call frees it, and its
        // callback is not called any more.
        check(unsafe { sys::rbd_update_unwatch(image, handle) })?;
        // SAFETY: librbd no longer uses it, and the watch, which is consumed, owned it.
        drop(unsafe { Box::from_raw(callback.get()) });
        Ok(())
    }
}

unsafe extern "C" fn on_update(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: `begin` passed a Box<UpdateCallback> that lives as long as this can be called.
    let callback = unsafe { &*arg.cast::<Box<UpdateCallback>>() };
    catch_panic(callback);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_watch_of_another_image_is_left_alone() {
        let callback: *mut Box<UpdateCallback> = Box::into_raw(Box::new(Box::new(|| {})));
        // Not the address of an object of librbd: reading there crashes.
        let image = std::ptr::dangling_mut();
        // SAFETY: librbd is not called.
        unsafe {
            let watch = Watch { image: Address::new(image), handle: 8, callback: Address::new(callback) };
            assert_eq!(watch.end(std::ptr::null_mut()), Err(Errno::EINVAL));
        }
        // SAFETY: it leaked.
        drop(unsafe { Box::from_raw(callback) });
    }
}
