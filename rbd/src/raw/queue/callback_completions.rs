//! Ends that do not come to the one who reaps by way of librbd's queue of completions.
//!
//! librbd keeps compare-and-writes out of that queue (seen with 16.2). A callback reports their
//! ends, with the same descriptor and as little: no lock, no memory. A shrink, which waits for the
//! operations in flight while nobody may reap, takes ends out of librbd's queue and reports them in
//! the same way. So what is in flight is counted exactly, whatever is read from the descriptor.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use librbd_sys as sys;

use crate::raw::ffi::address::Address;
use crate::raw::op::target::Target;
use crate::raw::thread::exit::Busy;
use crate::raw::thread::mark::CallbackMark;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// How many completions are taken out of librbd's queue at once.
const COLLECTED: usize = 64;

/// The entries whose operations have ended so, as a stack.
pub(crate) struct CallbackCompletions {
    top: AtomicU32,
    links: Box<[Link]>,
    event: OwnedFd,
    /// How many operations of the queue were submitted.
    submitted: AtomicU64,
    /// How many of these librbd has ended, as far as its queue was looked at.
    ended: AtomicU64,
    /// The image, while librbd's queue may be looked at.
    image: Mutex<Option<Address<c_void>>>,
}

/// What the callback of one entry gets.
struct Link {
    number: u32,
    /// The one that has ended before.
    next: AtomicU32,
    completions: Address<CallbackCompletions>,
    target: Address<Target>,
}

impl CallbackCompletions {
    /// For so many entries of the image whose count it is, announced by the descriptor.
    pub(super) fn new(target: &Target, event: OwnedFd, depth: u32) -> Arc<CallbackCompletions> {
        Arc::new_cyclic(|this: &Weak<CallbackCompletions>| {
            let image = target.address();
            // SAFETY: callbacks alone use them, as `on_completion` argues. Both are Sync.
            let (completions, target) = unsafe {
                let target = ptr::from_ref(target).cast_mut();
                (Address::new(this.as_ptr().cast_mut()), Address::new(target))
            };
            let link = |number| Link { number, next: AtomicU32::new(NONE), completions, target };
            CallbackCompletions {
                top: AtomicU32::new(NONE),
                links: (0..depth).map(link).collect(),
                event,
                submitted: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                image: Mutex::new(Some(image)),
            }
        })
    }

    pub(super) fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// Before the submission: then a hold on the image is seen by it, or sees it.
    pub(super) fn count_submission(&self) {
        self.submitted.fetch_add(1, Ordering::SeqCst);
    }

    /// It came to nothing.
    pub(super) fn uncount_submission(&self) {
        self.submitted.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts operations that librbd has ended. Once for each: by the one who takes its completion
    /// out of librbd's queue, or by the callback or the report that there is instead.
    pub(super) fn count_ends(&self, ends: usize) {
        self.ended.fetch_add(ends as u64, Ordering::SeqCst);
    }

    /// Whether librbd has operations, as far as its queue was looked at.
    fn is_counted_busy(&self) -> bool {
        // In this order: an operation that is submitted in between counts.
        let ended = self.ended.load(Ordering::SeqCst);
        ended < self.submitted.load(Ordering::SeqCst)
    }

    /// Takes all ends out of librbd's queue, and reports them to the one who reaps.
    fn collect(&self) {
        let image = self.lock_image();
        let Some(image) = *image else { return };
        let mut batch = [ptr::null_mut(); COLLECTED];
        loop {
            // SAFETY: the image is open while its address stands here. librbd's queue may be
            // emptied by several threads; the array has room for as many as are asked for.
            let count =
                unsafe { sys::rbd_poll_io_events(image.get(), batch.as_mut_ptr(), COLLECTED as c_int) };
            let listed = &batch[..usize::try_from(count).unwrap_or(0)];
            // SAFETY: librbd has handed them out, and those who reap do not release one before
            // they have had this lock.
            let numbers = listed.iter().map(|completion| unsafe { sys::rbd_aio_get_arg(*completion) }.addr());
            let links: Vec<_> = numbers.filter_map(|number| self.links.get(number)).collect();
            for link in &links {
                self.push(link);
            }
            self.count_ends(links.len());
            if !links.is_empty() {
                self.announce(links.len() as u64);
            }
            if listed.len() < COLLECTED {
                return;
            }
        }
    }

    fn lock_image(&self) -> MutexGuard<'_, Option<Address<c_void>>> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the one who takes ends out of librbd's queue, and who may still look at
    /// completions whose callbacks have run.
    pub(super) fn let_collector_end(&self, taken: &Taken) {
        if !taken.is_empty() {
            drop(self.lock_image());
        }
    }

    /// Nobody takes ends out of librbd's queue from now on, so that the image may be closed.
    pub(super) fn stop_collecting(&self) {
        *self.lock_image() = None;
    }

    /// Takes back what the descriptor announced. What ends from now on is announced again.
    pub(super) fn acknowledge(&self) {
        let mut count = 0_u64;
        let room = (&raw mut count).cast();
        // SAFETY: the descriptor is open, and eight bytes may be written to `count`. That there is
        // nothing to read is fine.
        unsafe { libc::read(self.event.as_raw_fd(), room, size_of::<u64>()) };
    }

    fn announce(&self, count: u64) {
        // SAFETY: the descriptor is open, and `count` has eight bytes. A counter that is full is
        // readable, too.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const count).cast(), size_of::<u64>()) };
    }

    /// Gives an entry back, whose end was found out in the background.
    pub(super) fn report(&self, number: u32) {
        self.push(&self.links[number as usize]);
        self.count_ends(1);
        self.announce(1);
    }

    /// What [`on_completion`] is to be given for the operation of an entry.
    pub(super) fn arg(&self, number: u32) -> *mut c_void {
        (&raw const self.links[number as usize]).cast_mut().cast()
    }

    /// Takes all that have ended.
    pub(super) fn take(&self) -> Taken {
        Taken(self.top.swap(NONE, Ordering::Acquire))
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

impl Busy for CallbackCompletions {
    /// Whether librbd is at work on operations. Nobody needs to reap for that.
    fn is_busy(&self) -> bool {
        self.is_counted_busy() && {
            self.collect();
            self.is_counted_busy()
        }
    }
}

/// Entries that were taken off the stack.
pub(super) struct Taken(u32);

impl Taken {
    pub(super) const fn none() -> Taken {
        Taken(NONE)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == NONE
    }

    /// All of them, which stay.
    pub(super) fn numbers(&self, completions: &CallbackCompletions) -> impl Iterator<Item = u32> {
        let mut rest = Taken(self.0);
        std::iter::from_fn(move || rest.pop(completions))
    }

    /// The next of them, whose link is free from here on.
    pub(super) fn pop(&mut self, completions: &CallbackCompletions) -> Option<u32> {
        let link = completions.links.get(self.0 as usize)?;
        self.0 = link.next.load(Ordering::Relaxed);
        Some(link.number)
    }
}

/// What librbd calls when such an operation ends.
///
/// # Safety
/// `arg` must be from [`CallbackCompletions::arg`], whose image's count was entered for this, and
/// be used once. The completions must not be freed before the count is zero.
pub(super) unsafe extern "C" fn on_completion(_completion: sys::rbd_completion_t, arg: *mut c_void) {
    let _mark = CallbackMark::set();
    // SAFETY: completions and links live until the count is zero.
    let (link, completions) = unsafe {
        let link = &*arg.cast::<Link>();
        (link, &*link.completions.get())
    };
    let target = link.target.get();
    completions.push(link);
    completions.count_ends(1);
    completions.announce(1);
    // SAFETY: entered for this operation; nothing is used after it.
    unsafe { Target::leave(target) };
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::FromRawFd;
    use std::thread;

    use super::*;

    /// Four threads of librbd's and one who reaps, each entry used many times.
    #[test]
    fn each_end_is_reported_once() {
        const THREADS: u32 = 4;
        const ROUNDS: usize = 2_000;
        // SAFETY: a new descriptor, which is nobody else's.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) };
        let mut announced = std::fs::File::from(event.try_clone().unwrap());
        // SAFETY: nobody asks for the image.
        let in_flight = unsafe { Target::new(Address::NULL, ()) };
        let completions = CallbackCompletions::new(&in_flight, event, THREADS * 2);
        let mut free = [true; THREADS as usize * 2];
        let mut count = 0;
        thread::scope(|scope| {
            let (submit, ends): (Vec<_>, Vec<_>) =
                (0..THREADS).map(|_| std::sync::mpsc::channel::<u32>()).unzip();
            for numbers in ends {
                let completions = &completions;
                scope.spawn(move || {
                    for number in numbers {
                        // SAFETY: the count was entered, and both outlive this thread.
                        unsafe { on_completion(std::ptr::null_mut(), completions.arg(number)) };
                    }
                });
            }
            while count < ROUNDS {
                for (number, free) in (0..).zip(&mut free) {
                    if std::mem::take(free) {
                        in_flight.enter();
                        submit[(number % THREADS) as usize].send(number).unwrap();
                    }
                }
                let mut reported = completions.take();
                let listed: Vec<_> = reported.numbers(&completions).collect();
                let popped: Vec<_> = std::iter::from_fn(|| reported.pop(&completions)).collect();
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
        let mut rest = completions.take();
        let left = std::iter::from_fn(|| rest.pop(&completions)).count();
        assert_eq!(left, free.iter().filter(|free| !**free).count());
        assert!(in_flight.is_empty());
        let mut told = [0; 8];
        assert_eq!(announced.read(&mut told).unwrap(), 8);
        assert_eq!(u64::from_ne_bytes(told), (count + left) as u64);
    }
}
