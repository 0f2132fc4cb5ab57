//! Ends that librbd keeps out of its queue of completions: those of compare-and-writes (seen from 16.2 up to the newest). They
//! are reported by a callback, with the same descriptor and as little: no lock, no memory.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use librbd_sys as sys;

use super::image::Image;
use super::lane::Lane;
use super::thread::CallbackMark;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// The places whose operations have ended so, as a stack.
pub(super) struct Reports {
    top: AtomicU32,
    links: Box<[Link]>,
    event: OwnedFd,
}

/// What the callback of one place gets.
struct Link {
    number: u32,
    /// The one that has ended before.
    next: AtomicU32,
    reports: *const Reports,
    lane: *const Lane,
}

// SAFETY: the addresses are used by callbacks only, as `ended` argues, and lead to what is Sync.
unsafe impl Send for Link {}
// SAFETY: as above.
unsafe impl Sync for Link {}

impl Reports {
    /// For so many places, announced by the descriptor.
    pub(super) fn new(image: &Image, event: OwnedFd, depth: u32) -> Arc<Reports> {
        Arc::new_cyclic(|this| {
            let (reports, lane) = (this.as_ptr(), std::ptr::from_ref(image.lane()));
            let link = |number| Link { number, next: AtomicU32::new(NONE), reports, lane };
            Reports { top: AtomicU32::new(NONE), links: (0..depth).map(link).collect(), event }
        })
    }

    pub(super) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// What [`ended`] is to be given for the operation of a place.
    pub(super) fn arg(&self, number: u32) -> *mut c_void {
        (&raw const self.links[number as usize]).cast_mut().cast()
    }

    /// Takes all that have ended.
    pub(super) fn take(&self) -> Reported {
        Reported(self.top.swap(NONE, Ordering::Acquire))
    }

    /// To be announced then.
    fn push(&self, link: &Link) {
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            link.next.store(top, Ordering::Relaxed);
            match self.top.compare_exchange_weak(top, link.number, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => top = other,
            }
        }
    }
}

/// Places that were taken off the stack.
pub(super) struct Reported(u32);

impl Reported {
    pub(super) const fn none() -> Reported {
        Reported(NONE)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == NONE
    }

    /// All of them, which stay.
    pub(super) fn numbers(&self, reports: &Reports) -> impl Iterator<Item = u32> {
        let mut rest = Reported(self.0);
        std::iter::from_fn(move || rest.pop(reports))
    }

    /// The next of them, whose link is free from here on.
    pub(super) fn pop(&mut self, reports: &Reports) -> Option<u32> {
        let link = reports.links.get(self.0 as usize)?;
        self.0 = link.next.load(Ordering::Relaxed);
        Some(link.number)
    }
}

/// What librbd calls when such an operation ends.
///
/// # Safety
/// `arg` must be from [`Reports::arg`], whose image's lane was entered for this, and be used once. The reports must not be
/// freed before the lane is empty.
pub(super) unsafe extern "C" fn ended(_completion: sys::rbd_completion_t, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: reports and links live until the lane is empty.
    let (link, reports) = unsafe {
        let link = &*arg.cast::<Link>();
        (link, &*link.reports)
    };
    let lane = link.lane;
    reports.push(link);
    let one = 1_u64;
    // SAFETY: the descriptor is open, as above, and `one` has eight bytes. A counter that is full is readable, too.
    unsafe { libc::write(reports.event.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    // SAFETY: entered for this operation; nothing is used after it.
    unsafe { Lane::leave(lane) };
}
