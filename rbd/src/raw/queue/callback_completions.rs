//! Completions that do not reach the reaping thread through librbd's queue of completions.
//!
//! librbd does not put compare-and-writes into that queue (seen with 16.2). A callback reports
//! their ends through the same descriptor, without a lock and without an allocation. A shrink waits
//! for the operations in flight while the program may not reap, so it takes completions out of
//! librbd's queue and reports them in the same way. So the count of operations in flight is exact,
//! whatever the program reads from the descriptor.

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

/// How many completions a shrink takes out of librbd's queue at once.
const COLLECTED: usize = 64;

/// The entries whose ends were reported, as a stack.
pub(crate) struct CallbackCompletions {
    top: AtomicU32,
    links: Box<[Link]>,
    event: OwnedFd,
    /// How many operations the queue has submitted.
    submitted: AtomicU64,
    /// How many of them librbd has ended, as far as its queue was read.
    ended: AtomicU64,
    /// The image, as long as librbd's queue may be read.
    image: Mutex<Option<Address<c_void>>>,
}

/// The argument of the callback of one entry.
struct Link {
    number: u32,
    /// The entry that was reported before this one.
    next: AtomicU32,
    completions: Address<CallbackCompletions>,
    target: Address<Target>,
}

impl CallbackCompletions {
    /// Makes a stack for `depth` entries on the target's image, announced through the descriptor.
    pub(super) fn new(target: &Target, event: OwnedFd, depth: u32) -> Arc<CallbackCompletions> {
        Arc::new_cyclic(|this: &Weak<CallbackCompletions>| {
            let image = target.address();
            // SAFETY: only callbacks use them, as `on_completion` argues. Both are Sync.
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

    /// Counts an operation before its submission, so that either the operation sees a hold on the
    /// image, or the hold sees the operation.
    pub(super) fn count_submission(&self) {
        self.submitted.fetch_add(1, Ordering::SeqCst);
    }

    /// Undoes `count_submission`.
    pub(super) fn uncount_submission(&self) {
        self.submitted.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts operations that librbd has ended. Each is counted once: by the thread that takes its
    /// completion out of librbd's queue, or by the callback or report that replaces it.
    pub(super) fn count_ends(&self, ends: usize) {
        self.ended.fetch_add(ends as u64, Ordering::SeqCst);
    }

    /// Returns whether librbd has operations, as far as its queue was read.
    fn is_counted_busy(&self) -> bool {
        // In this order, so that an operation submitted in between counts.
        let ended = self.ended.load(Ordering::SeqCst);
        ended < self.submitted.load(Ordering::SeqCst)
    }

    /// Takes all completions out of librbd's queue and reports them to the reaping thread.
    fn collect(&self) {
        let image = self.lock_image();
        let Some(image) = *image else { return };
        let mut batch = [ptr::null_mut(); COLLECTED];
        loop {
            // SAFETY: the image is open while its address is stored here. Several threads may empty
            // librbd's queue, and the array has room for as many completions as are requested.
            let count =
                unsafe { sys::rbd_poll_io_events(image.get(), batch.as_mut_ptr(), COLLECTED as c_int) };
            let listed = &batch[..usize::try_from(count).unwrap_or(0)];
            // SAFETY: librbd has handed them out, and the reaping thread takes this lock before it
            // releases one.
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

    /// Keeps threads out of `collect` while librbd's queue is read, if ends of callbacks were
    /// taken. Some releases put their completions into that queue, too. They are released
    /// afterwards, so no other thread may have them then.
    pub(super) fn keep_collector_out(&self, taken: &Taken) -> Option<impl Drop> {
        (!taken.is_empty()).then(|| self.lock_image())
    }

    /// Stops `collect` for good, so that the image may be closed.
    pub(super) fn stop_collecting(&self) {
        *self.lock_image() = None;
    }

    /// Resets the descriptor. Later completions are announced again.
    pub(super) fn acknowledge(&self) {
        let mut count = 0_u64;
        let room = (&raw mut count).cast();
        // SAFETY: the descriptor is open, and eight bytes may be written to `count`. If there is
        // nothing to read, the call fails, which is no error.
        unsafe { libc::read(self.event.as_raw_fd(), room, size_of::<u64>()) };
    }

    fn announce(&self, count: u64) {
        // SAFETY: the descriptor is open, and `count` has eight bytes. A counter that is full is
        // readable as well.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const count).cast(), size_of::<u64>()) };
    }

    /// Reports an entry whose result was looked up in the background.
    pub(super) fn report(&self, number: u32) {
        self.push(&self.links[number as usize]);
        self.count_ends(1);
        self.announce(1);
    }

    /// Returns the argument of [`on_completion`] for the operation of an entry.
    pub(super) fn arg(&self, number: u32) -> *mut c_void {
        (&raw const self.links[number as usize]).cast_mut().cast()
    }

    /// Takes all reported entries.
    pub(super) fn take(&self) -> Taken {
        Taken(self.top.swap(NONE, Ordering::Acquire))
    }

    /// Pushes an entry. The caller announces it afterwards.
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
    /// Returns whether librbd has operations, even if the program does not reap.
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

    /// Returns all numbers without removing them.
    pub(super) fn numbers(&self, completions: &CallbackCompletions) -> impl Iterator<Item = u32> {
        let mut rest = Taken(self.0);
        std::iter::from_fn(move || rest.pop(completions))
    }

    /// Removes the next entry. Its link is free from now on.
    pub(super) fn pop(&mut self, completions: &CallbackCompletions) -> Option<u32> {
        let link = completions.links.get(self.0 as usize)?;
        self.0 = link.next.load(Ordering::Relaxed);
        Some(link.number)
    }
}

/// The callback for librbd: the operation of an entry has ended.
///
/// # Safety
/// `arg` must be from [`CallbackCompletions::arg`] and be used once. The operation must have
/// entered the image's count, and the completions must live until the count is zero.
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

    /// Four threads of librbd and one that reaps. Each entry is used many times.
    #[test]
    fn each_end_is_reported_once() {
        const THREADS: u32 = 4;
        const ROUNDS: usize = 2_000;
        // SAFETY: a new descriptor, which we own.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) };
        let mut announced = std::fs::File::from(event.try_clone().unwrap());
        // SAFETY: the image is never used.
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
                        // SAFETY: the count was entered, and both values outlive this thread.
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
