//! Ends that librbd keeps out of its queue of completions: those of compare-and-writes (seen with 16.2). They
//! are reported by a callback, with the same descriptor and as little: no lock, no memory.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use librbd_sys as sys;

use crate::raw::op::in_flight::Lane;
use crate::raw::thread::CallbackMark;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// The places whose operations have ended so, as a stack.
pub(crate) struct Reports {
    top: AtomicU32,
    links: Box<[Link]>,
    event: OwnedFd,
    /// How many operations of the queue were submitted, and the ends of how many were announced and taken back.
    submitted: AtomicU64,
    announced: AtomicU64,
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
    /// For so many places of the image whose lane it is, announced by the descriptor.
    pub(super) fn new(lane: &Lane, event: OwnedFd, depth: u32) -> Arc<Reports> {
        Arc::new_cyclic(|this| {
            let (reports, lane) = (this.as_ptr(), std::ptr::from_ref(lane));
            let link = |number| Link { number, next: AtomicU32::new(NONE), reports, lane };
            Reports {
                top: AtomicU32::new(NONE),
                links: (0..depth).map(link).collect(),
                event,
                submitted: AtomicU64::new(0),
                announced: AtomicU64::new(0),
            }
        })
    }

    pub(super) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// Only the queue's owner submits.
    pub(super) fn count_submission(&self) {
        self.submitted.store(self.submitted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes back what the descriptor announced. What ends from now on is announced again.
    pub(super) fn acknowledge(&self) {
        let mut count = 0_u64;
        let room = (&raw mut count).cast();
        // SAFETY: the descriptor is open, and eight bytes may be written to `count`. That there is nothing to read is fine.
        unsafe { libc::read(self.event.as_raw_fd(), room, size_of::<u64>()) };
        self.announced.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether librbd is at work on operations: each is announced when it ends.
    pub(crate) fn is_busy(&self) -> bool {
        self.acknowledge();
        self.announced.load(Ordering::Relaxed) < self.submitted.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::FromRawFd;
    use std::thread;

    use super::*;

    /// Four threads of librbd's and one who reaps, each place used many times.
    #[test]
    fn each_end_is_reported_once() {
        const THREADS: u32 = 4;
        const ROUNDS: usize = 2_000;
        // SAFETY: a new descriptor, which is nobody else's.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) };
        let mut announced = std::fs::File::from(event.try_clone().unwrap());
        let lane = Lane::new();
        let reports = Reports::new(&lane, event, THREADS * 2);
        let mut free = [true; THREADS as usize * 2];
        let mut count = 0;
        thread::scope(|scope| {
            let (submit, ends): (Vec<_>, Vec<_>) =
                (0..THREADS).map(|_| std::sync::mpsc::channel::<u32>()).unzip();
            for numbers in ends {
                let reports = &reports;
                scope.spawn(move || {
                    for number in numbers {
                        // SAFETY: the lane was entered, and both outlive this thread.
                        unsafe { ended(std::ptr::null_mut(), reports.arg(number)) };
                    }
                });
            }
            while count < ROUNDS {
                for (number, free) in (0..).zip(&mut free) {
                    if std::mem::take(free) {
                        lane.enter();
                        submit[(number % THREADS) as usize].send(number).unwrap();
                    }
                }
                let mut reported = reports.take();
                let listed: Vec<_> = reported.numbers(&reports).collect();
                let popped: Vec<_> = std::iter::from_fn(|| reported.pop(&reports)).collect();
                assert!(listed == popped && reported.is_empty());
                for number in popped {
                    assert!(
                        !std::mem::replace(&mut free[number as usize], true),
                        "{number} was reported twice"
                    );
                    count += 1;
                }
            }
        });
        let mut rest = reports.take();
        let left = std::iter::from_fn(|| rest.pop(&reports)).count();
        assert_eq!(left, free.iter().filter(|free| !**free).count());
        assert!(lane.is_empty());
        let mut told = [0; 8];
        assert_eq!(announced.read(&mut told).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(told), (count + left) as u64);
    }
}
