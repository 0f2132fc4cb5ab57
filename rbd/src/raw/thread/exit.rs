//! The wait at the exit of the process.
//!
//! An exiting process destroys the statics of Ceph's libraries while their threads continue. A
//! thread that works on an operation, or closes a connection, then crashes. So the exit waits for
//! such work. A thread that waits for an unresponsive cluster sleeps and does no harm.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::raw::thread::mark::in_callback;

/// The longest wait. Work that is not stuck takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A value on which C may be working.
pub(crate) trait Busy: Send + Sync {
    /// Returns whether C is working on it, as far as a thread can know that does not take results.
    fn is_busy(&self) -> bool;
}

/// The background work of one process. A fork starts a new value: it has none of the threads, and a
/// lock may have been held at the fork.
struct Process {
    id: u32,
    /// The number of unfinished background jobs, and the signal that none remains.
    left: Mutex<usize>,
    none_left: Condvar,
    /// The open values, and some that are closed already.
    open: Mutex<Vec<Weak<dyn Busy>>>,
}

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

/// Returns the value of this process, if this crate has begun background work in it.
fn known() -> Option<&'static Process> {
    // SAFETY: null, or leaked by `process`.
    let known = unsafe { PROCESS.load(Ordering::Acquire).as_ref() };
    known.filter(|known| known.id == std::process::id())
}

/// Returns the value of this process, and makes its exit wait.
fn process() -> &'static Process {
    loop {
        let last = PROCESS.load(Ordering::Acquire);
        if let Some(known) = known() {
            return known;
        }
        let (left, open) = (Mutex::new(0), Mutex::default());
        let new = Process { id: std::process::id(), left, none_left: Condvar::new(), open };
        let new = Box::into_raw(Box::new(new));
        if PROCESS.compare_exchange(last, new, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            // A fork inherits the registration. Waiting twice does no harm.
            // SAFETY: the function may run at any time after this. It runs before the functions
            // that the libraries registered when they were loaded and when this process connected,
            // but not before those that they register later.
            let _ = unsafe { libc::atexit(settle) };
        } else {
            // SAFETY: it was never shared.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// A running background job, for which the exit of the process waits.
#[derive(Debug)]
pub(crate) struct Pending(u32);

impl Pending {
    pub(crate) fn new() -> Pending {
        let process = process();
        *process.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Pending(process.id)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // An inherited job runs in the other process.
        let Some(process) = known().filter(|process| process.id == self.0) else { return };
        *process.left.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        process.none_left.notify_all();
    }
}

/// Makes the exit of the process wait until this is not busy.
pub(crate) fn settle_at_exit_of(opened: &Arc<impl Busy + 'static>) {
    let mut open = process().open.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() == open.capacity() {
        open.retain(|one| one.strong_count() > 0);
        let room = open.len() + 8;
        open.reserve(room);
    }
    let opened: Weak<dyn Busy> = Arc::downgrade(opened) as _;
    open.push(opened);
}

extern "C" fn settle() {
    let Some(process) = known() else { return };
    // If this is a thread of Ceph, some of the remaining work may wait for it, so the wait is
    // shorter.
    let patience = if in_callback() { PATIENCE / 8 } else { PATIENCE };
    let end = Instant::now() + patience;
    let left = process.left.lock().unwrap_or_else(PoisonError::into_inner);
    drop(process.none_left.wait_timeout_while(left, patience, |left| *left > 0));
    let open: Vec<_> = process.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
    let is_busy = || open.iter().any(|one| one.upgrade().is_some_and(|one| one.is_busy()));
    if !is_busy() {
        return;
    }
    while is_busy() && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    // The threads that reported the last ends still have a few steps to make.
    thread::sleep(Duration::from_millis(5));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::thread::fork::{alone, in_fork};

    /// The child has no other threads, so their locks stay locked.
    #[test]
    fn a_fork_ends_without_waiting_for_threads_that_it_has_not() {
        if !alone(concat!(module_path!(), "::a_fork_ends_without_waiting_for_threads_that_it_has_not")) {
            return;
        }
        let pending = Pending::new();
        let left = process().left.lock().unwrap();
        let mut inherited = Some(pending);
        let ended = in_fork(|| {
            settle();
            drop(inherited.take());
            true
        });
        drop(left);
        assert!(ended);
    }

    #[test]
    fn a_fork_waits_for_what_it_has_begun_itself() {
        if !alone(concat!(module_path!(), "::a_fork_waits_for_what_it_has_begun_itself")) {
            return;
        }
        let _pending = Pending::new();
        assert!(in_fork(|| {
            let begun = Instant::now();
            let own = Pending::new();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(300));
                drop(own);
            });
            settle();
            (Duration::from_millis(300)..PATIENCE).contains(&begun.elapsed())
        }));
    }

    #[test]
    fn closed_values_are_forgotten() {
        struct Idle(#[allow(dead_code)] u8); // not of size zero, so that each has an address of its own
        impl Busy for Idle {
            fn is_busy(&self) -> bool {
                false
            }
        }
        let kept: Vec<_> = (0..10).map(|_| Arc::new(Idle(0))).collect();
        kept.iter().for_each(settle_at_exit_of);
        (0..1000).for_each(|_| settle_at_exit_of(&Arc::new(Idle(0))));
        let open = process().open.lock().unwrap();
        let ours = |one: &Weak<dyn Busy>| kept.iter().any(|kept| one.as_ptr().cast() == Arc::as_ptr(kept));
        assert_eq!(open.iter().filter(|one| ours(one)).count(), 10);
        assert!(open.len() < 200, "{}", open.len());
    }
}
