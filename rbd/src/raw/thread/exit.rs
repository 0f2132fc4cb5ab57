//! What a process that ends waits for, for a moment.
//!
//! The end of a process takes the statics of Ceph's libraries away while the libraries' threads go
//! on: one that is at work on an operation, or on closing a connection, crashes over that. So what
//! is going on comes to its end first. One that is stuck, since the cluster does not answer, is no
//! danger: it sleeps.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::raw::thread::mark::in_callback;

/// How long it waits at most: what is not stuck takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something that C may be at work on.
pub(crate) trait Busy: Send + Sync {
    /// Whether it is, as far as can be told by a thread that does not take the results.
    fn is_busy(&self) -> bool;
}

/// The background work of one process. A fork starts a new one: it has none of the threads, and
/// may have been made while a lock was held.
struct Process {
    id: u32,
    /// The number of background jobs that are not done, and the signal that none is left.
    left: Mutex<usize>,
    none_left: Condvar,
    /// What is open, and some of what was open.
    open: Mutex<Vec<Weak<dyn Busy>>>,
}

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

/// Returns this process, if this crate has begun background work in it.
fn known() -> Option<&'static Process> {
    // SAFETY: null, or leaked by `process`.
    let known = unsafe { PROCESS.load(Ordering::Acquire).as_ref() };
    known.filter(|known| known.id == std::process::id())
}

/// Returns this process, which waits at its exit after this call.
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
            // A fork inherits the registration; that it waits twice does no harm.
            // SAFETY: a function that may run at any time after this. It comes before what the
            // libraries registered when they were loaded, and when this process connected; not
            // before what they might register later.
            let _ = unsafe { libc::atexit(settle) };
        } else {
            // SAFETY: nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// While it lives, a background job is running that an exiting process waits for.
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
        // What a fork has inherited goes on elsewhere.
        let Some(process) = known().filter(|process| process.id == self.0) else { return };
        *process.left.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        process.none_left.notify_all();
    }
}

/// Makes the end of the process wait until this is not busy.
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
    // Some of what is left may wait for this very thread, if it is one of Ceph's; the rest does
    // not.
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
    // The threads that have told of the last ends have some steps left.
    thread::sleep(Duration::from_millis(5));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::thread::fork::{alone, in_fork};

    /// The child has no other threads: what they had locked stays locked.
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
    fn what_is_closed_is_forgotten() {
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
