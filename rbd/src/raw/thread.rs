//! Which threads are Ceph's, and what must not happen on them.
//!
//! `rbd_close` and `rados_shutdown` wait for Ceph's own threads; called on one of those they wait for themselves, for ever.
//! Every function of ours that C calls therefore marks its thread for as long as it runs, and the handles' Drop hand the
//! work to a reaper thread where they see the mark. So does the timer, which all deadlines share.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::Duration;

use super::contain::contain;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread counts as one of Ceph's: nothing of ours blocks on it.
pub(crate) struct CallbackMark(());

impl CallbackMark {
    pub(crate) fn set() -> CallbackMark {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        CallbackMark(())
    }
}

impl Drop for CallbackMark {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Whether this thread runs a callback of Ceph's at the moment.
pub(crate) fn in_callback() -> bool {
    DEPTH.with(|depth| depth.get() > 0)
}

/// Whether others wait for this thread: it must not wait for an image's I/O, which may be stuck.
pub(crate) fn is_shared() -> bool {
    in_callback() || OURS.with(Cell::get)
}

/// How much is not done yet, and the news that nothing is left.
static LEFT: Mutex<usize> = Mutex::new(0);
static NONE_LEFT: Condvar = Condvar::new();
/// How long a process that ends waits for it: closing takes milliseconds, unless the cluster does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// While it lives, something is going on in the background that a process that ends waits for: it takes the statics of Ceph's
/// libraries away, and a connection that is being closed meanwhile would crash over that. One that is stuck is no danger: it
/// sleeps.
#[derive(Debug)]
pub(crate) struct Pending(());

impl Pending {
    pub(crate) fn new() -> Pending {
        static AT_EXIT: Once = Once::new();
        AT_EXIT.call_once(|| {
            PROCESS.store(std::process::id(), Ordering::Relaxed);
            // SAFETY: a function that may run at any time after this. It comes before what the libraries registered when they
            // were loaded, and when this process connected; not before what they might register later.
            let _ = unsafe { libc::atexit(settle) };
        });
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

/// The process that has the threads. A fork of it has none, and may have been made while the lock was held.
static PROCESS: AtomicU32 = AtomicU32::new(0);

extern "C" fn settle() {
    // What is left may wait for this very thread.
    if in_callback() || std::process::id() != PROCESS.load(Ordering::Relaxed) {
        return;
    }
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = NONE_LEFT.wait_timeout_while(left, PATIENCE, |left| *left > 0);
}

struct Job {
    work: Box<dyn FnOnce() + Send>,
    _pending: Pending,
}

impl Job {
    fn new(work: impl FnOnce() + Send + 'static) -> Job {
        Job { work: Box::new(work), _pending: Pending::new() }
    }
}

/// Runs `work` here, or on the reaper thread when this is one of Ceph's.
pub(crate) fn outside_callback(work: impl FnOnce() + Send + 'static) {
    if in_callback() { reap(work) } else { work() }
}

/// Runs `work` on the reaper thread, after all that it was given before.
pub(crate) fn reap(work: impl FnOnce() + Send + 'static) {
    static REAPER: Mutex<Option<Sender<Job>>> = Mutex::new(None);
    let mut job = Job::new(work);
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*reaper {
        match sender.send(job) {
            Ok(()) => return,
            Err(refused) => job = refused.0,
        }
    }
    // Where no thread is to be had, leaking the handle is all that is left: closing it here would hang.
    *reaper = start("rbd-reaper", job).map_err(|job| std::mem::forget(job.work)).ok();
}

/// Runs `work`, which may take as long as the cluster does, on a thread of its own: nobody else has to wait for it.
pub(crate) fn apart(work: impl FnOnce() + Send + 'static) {
    // The thread ends after the job, when there is no sender any more. For the leak see `reap`.
    let _ = start("rbd-drain", Job::new(work)).map_err(|job| std::mem::forget(job.work));
}

/// Runs `work` as [`apart`] does, or tells that there is no thread for it.
pub(crate) fn try_apart(work: impl FnOnce() + Send + 'static) -> bool {
    start("rbd-apart", Job::new(work)).is_ok()
}

/// A thread with a first job, and a way to more. The job comes back where no thread is to be had.
fn start(name: &str, job: Job) -> Result<Sender<Job>, Job> {
    let (sender, receiver) = channel::<Job>();
    let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
        OURS.with(|ours| ours.set(true));
        for job in receiver {
            // A panic of one job must not cost the ones behind it.
            contain(job.work);
        }
    });
    if spawned.is_err() {
        return Err(job);
    }
    let _ = sender.send(job);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread_of(run: impl FnOnce(Box<dyn FnOnce() + Send>)) -> String {
        let (sender, receiver) = channel();
        run(Box::new(move || sender.send(std::thread::current().name().unwrap_or("").to_owned()).unwrap()));
        receiver.recv().unwrap()
    }

    #[test]
    fn work_leaves_a_marked_thread_and_only_that() {
        let here = std::thread::current().name().unwrap_or("").to_owned();
        assert_eq!(thread_of(outside_callback), here);
        let outer = CallbackMark::set();
        let inner = CallbackMark::set();
        drop(inner);
        assert_eq!(thread_of(outside_callback), "rbd-reaper");
        drop(outer);
        assert_eq!(thread_of(outside_callback), here);
    }

    #[test]
    fn the_reaper_survives_a_panic() {
        reap(|| std::panic::resume_unwind(Box::new("one bad job")));
        assert_eq!(thread_of(reap), "rbd-reaper");
    }

    #[test]
    fn nothing_waits_on_threads_that_others_wait_for() {
        assert!(!is_shared());
        let (sender, receiver) = channel();
        reap(move || sender.send(is_shared()).unwrap());
        assert!(receiver.recv().unwrap());
        let _mark = CallbackMark::set();
        assert!(is_shared());
    }

    /// The child has no other threads: what they had locked stays locked.
    #[test]
    fn a_fork_ends_without_waiting_for_threads_that_it_has_not() {
        let _pending = Pending::new();
        let left = LEFT.lock().unwrap();
        // SAFETY: the child calls nothing but what is to be shown and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            settle();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        drop(left);
        assert!(child > 0);
        let mut status = -1;
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            // SAFETY: our child; the out pointer lives through the call.
            unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) == child }
        });
        if !ended {
            // SAFETY: our child, which was not waited for yet.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &raw mut status, 0);
            }
        }
        assert!(ended && status == 0, "{ended}, {status}");
    }

    #[test]
    fn what_may_take_long_keeps_nobody_waiting() {
        let (sender, receiver) = channel::<()>();
        apart(move || receiver.recv().unwrap_or(()));
        assert_eq!(thread_of(reap), "rbd-reaper");
        assert_eq!(thread_of(apart), "rbd-drain");
        drop(sender);
    }
}
