//! Update watches: librbd's threads report changes of an image's header.

use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

use librbd_sys as sys;
use rustix::thread::{Pid, gettid};

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::idle;
use crate::raw::thread::mark::CallbackMark;

/// A callback, and the thread of librbd that has called it.
struct UpdateCallback {
    tell: Box<dyn Fn() + Send + Sync>,
    /// 0 before the first call.
    thread: AtomicI32,
}

impl UpdateCallback {
    fn new(tell: impl Fn() + Send + Sync + 'static) -> UpdateCallback {
        UpdateCallback { tell: Box::new(tell), thread: AtomicI32::new(0) }
    }
}

/// A registered callback. It leaks unless the watch is ended.
#[derive(Debug)]
pub(crate) struct Watch {
    image: Address<c_void>,
    /// The address of librbd's object for the watch, which `end` frees. Each image numbers its
    /// watches from zero, so ending this one on the wrong image would end another watch and free a
    /// callback that is still in use.
    handle: u64,
    callback: Address<UpdateCallback>,
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
        let callback = Box::into_raw(Box::new(UpdateCallback::new(callback)));
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

    /// Ends the watch. Waits for a running callback, so a callback must not call this. Refuses a
    /// watch of another image, which then leaks.
    ///
    /// Also waits until librbd has answered the notifications of the changes that it has reported.
    /// It queues the answers behind the callbacks, on one thread for all images. `rbd_close` does
    /// not wait for them, and an answer uses the closed image (16.2 to 20.2: the process dies).
    /// Changes after the end of the last watch are answered at once. librbd has no call that waits
    /// for the answers, so this waits until that thread sleeps.
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
        let callback = unsafe { Box::from_raw(callback.get()) };
        if let Some(thread) = Pid::from_raw(callback.thread.into_inner()) {
            idle::wait(thread);
        }
        Ok(())
    }
}

unsafe extern "C" fn on_update(arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: `begin` passed an UpdateCallback that lives as long as this can be called.
    let callback = unsafe { &*arg.cast::<UpdateCallback>() };
    callback.thread.store(Pid::as_raw(Some(gettid())), Ordering::Relaxed);
    catch_panic(&callback.tell);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_watch_of_another_image_is_left_alone() {
        let callback = Box::into_raw(Box::new(UpdateCallback::new(|| {})));
        // Not the address of an object of librbd: if the code used it, the test would crash.
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
