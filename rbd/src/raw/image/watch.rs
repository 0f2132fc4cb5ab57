//! Being told of changes of an image's header, by librbd's threads.

use std::ffi::c_void;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

type UpdateCallback = dyn Fn() + Send + Sync;

/// A registration of a callback, leaked unless it is ended.
#[derive(Debug)]
pub(crate) struct Watch {
    image: Address<c_void>,
    /// The address of what librbd made for it, which ending it frees. Images number their watches,
    /// each from zero: at the wrong one this would end another watch, and free one that is still
    /// called.
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
        // SAFETY: the image is open; the callback stays where it is until `end` has returned, or
        // for ever.
        let code = unsafe { sys::rbd_update_watch(image, &raw mut handle, Some(on_update), callback.cast()) };
        if code < 0 {
            // SAFETY: it was not registered, so the pointer is ours alone.
            drop(unsafe { Box::from_raw(callback) });
        }
        check(code)?;
        // SAFETY: the handle of the image is only compared; the callback is Send and Sync.
        let (image, callback) = unsafe { (Address::new(image), Address::new(callback)) };
        Ok(Watch { image, handle, callback })
    }

    /// Ends it. Waits for a callback that is running, so it must not be called by one. A watch of
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
        // SAFETY: the image is open, and the handle was made for it. One made for an earlier image
        // that had its address is still allocated, since only this frees it, and nobody calls it
        // any more.
        check(unsafe { sys::rbd_update_unwatch(image, handle) })?;
        // SAFETY: librbd has let go of it, and the watch, which is consumed, owned it.
        drop(unsafe { Box::from_raw(callback.get()) });
        Ok(())
    }
}

unsafe extern "C" fn on_update(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: `begin` passed a Box<UpdateCallback> that lives for as long as this can be called.
    let callback = unsafe { &*arg.cast::<Box<UpdateCallback>>() };
    catch_panic(callback);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_watch_of_another_image_is_left_alone() {
        let callback: *mut Box<UpdateCallback> = Box::into_raw(Box::new(Box::new(|| {})));
        // Not the address of anything of librbd's: who looks there crashes.
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
