//! What a process that ends waits for, for a moment.
//!
//! The end of a process takes the statics of Ceph's libraries away while the libraries' threads go
//! on: one that is at work on an operation, or on closing a connection, crashes over that. So what
//! is going on comes to its end first. One that is stuck, since the cluster does not answer, is no
//! danger: it sleeps.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::raw::thread::mark::in_callback;

/// How long it waits at most: what is not stuck takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much of ours is not done yet, and the news that nothing is left.
static LEFT: Mutex<usize> = Mutex::new(0);
static NONE_LEFT: Condvar = Condvar::new();

/// Something that C may be at work on.
pub(crate) trait Busy: Send + Sync {
    /// Whether it is, as far as can be told by a thread that does not take the results.
    fn is_busy(&self) -> bool;
}

/// What the process has open, and some of what it had.
static OPEN: Mutex<Vec<Weak<dyn Busy>>> = Mutex::new(Vec::new());

/// The process that all this is about. A fork of it has none of the threads, and may have been made
/// while a lock was held.
static PROCESS: AtomicU32 = AtomicU32::new(0);

fn settle_at_exit() {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        PROCESS.store(std::process::id(), Ordering::Relaxed);
        // SAFETY: a function that may run at any time after this. It comes before what the
        // libraries registered when they were loaded, and when this process connected; not before
        // what they might register later.
        let _ = unsafe { libc::atexit(settle) };
    });
}

/// While it lives, something of ours is going on in the background that a process that ends waits
/// for.
#[derive(Debug)]
pub(crate) struct Pending(());

impl Pending {
    pub(crate) fn new() -> Pending {
        settle_at_exit();
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Pending(())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        NONE_LEFT.notify_all();
    }
}

/// Makes the end of the process wait until this is not busy.
pub(crate) fn settle_at_exit_of(opened: &Arc<impl Busy + 'static>) {
    settle_at_exit();
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if open.len() == open.capacity() {
        open.retain(|one| one.strong_count() > 0);
        let room = open.len() + 8;
        open.reserve(room);
    }
    let opened: Weak<dyn Busy> = Arc::downgrade(opened) as _;
    open.push(opened);
}

extern "C" fn settle() {
    if std::process::id() != PROCESS.load(Ordering::Relaxed) {
        return;
    }
    // Some of what is left may wait for this very thread, if it is one of Ceph's; the rest does
    // not.
    let patience = if in_callback() { PATIENCE / 8 } else { PATIENCE };
    let end = Instant::now() + patience;
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    drop(NONE_LEFT.wait_timeout_while(left, patience, |left| *left > 0));
    let open: Vec<_> = OPEN.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
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
        let _pending = Pending::new();
        let left = LEFT.lock().unwrap();
        let ended = in_fork(|| {
            settle();
            true
        });
        drop(left);
        assert!(ended);
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
        let open = OPEN.lock().unwrap();
        let ours = |one: &Weak<dyn Busy>| kept.iter().any(|kept| one.as_ptr().cast() == Arc::as_ptr(kept));
        assert_eq!(open.iter().filter(|one| ours(one)).count(), 10);
        assert!(open.len() < 200, "{}", open.len());
    }
}
