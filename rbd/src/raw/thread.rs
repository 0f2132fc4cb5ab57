//! Which threads are Ceph's, and what must not happen on them.
//!
//! `rbd_close` and `rados_shutdown` wait for Ceph's own threads; called on one of those they wait for themselves, for ever.
//! Every function of ours that C calls therefore marks its thread for as long as it runs, and the handles' Drop hand the
//! work to a reaper thread where they see the mark. So does the timer, which all deadlines share.

use std::cell::Cell;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::Duration;

use super::contain::contain;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
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

/// How many jobs are not done yet, and the news that none is left.
static LEFT: Mutex<usize> = Mutex::new(0);
static NONE_LEFT: Condvar = Condvar::new();
/// How long a process that ends waits for them: closing takes milliseconds, unless the cluster does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process that ends takes the statics of Ceph's libraries away, and a connection that is being closed meanwhile would crash
/// over that. One that is stuck is no danger: it sleeps.
extern "C" fn settle() {
    // A job may wait for this very thread.
    if in_callback() {
        return;
    }
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = NONE_LEFT.wait_timeout_while(left, PATIENCE, |left| *left > 0);
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` here, or on the reaper thread when this is one of Ceph's.
pub(crate) fn outside_callback(job: impl FnOnce() + Send + 'static) {
    if in_callback() { reap(job) } else { job() }
}

/// Runs `job` on the reaper thread, after all that it was given before.
pub(crate) fn reap(job: impl FnOnce() + Send + 'static) {
    static REAPER: Mutex<Option<Sender<Job>>> = Mutex::new(None);
    begin();
    let mut job: Job = Box::new(job);
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*reaper {
        match sender.send(job) {
            Ok(()) => return,
            Err(refused) => job = refused.0,
        }
    }
    *reaper = start("rbd-reaper", job);
}

/// Runs `job`, which may take as long as the cluster does, on a thread of its own: nobody's else has to wait for it.
pub(crate) fn apart(job: impl FnOnce() + Send + 'static) {
    begin();
    // The thread ends after the job, when there is no sender any more.
    start("rbd-drain", Box::new(job));
}

/// A thread with a first job, and a way to more.
fn start(name: &str, job: Job) -> Option<Sender<Job>> {
    let (sender, receiver) = channel::<Job>();
    let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
        for job in receiver {
            // A panic of one job must not cost the ones behind it.
            contain(job);
            done();
        }
    });
    if spawned.is_err() {
        // No thread is to be had. Leaking the handle is all that is left: closing it here would hang.
        std::mem::forget(job);
        done();
        return None;
    }
    let _ = sender.send(job);
    Some(sender)
}

fn begin() {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: a function that may run at any time after this. It comes before the libraries' own, which were registered
        // when they were loaded.
        let _ = unsafe { libc::atexit(settle) };
    });
    *LEFT.lock().unwrap_or_else(PoisonError::into_inner) += 1;
}

fn done() {
    *LEFT.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    NONE_LEFT.notify_all();
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
    fn what_may_take_long_keeps_nobody_waiting() {
        let (sender, receiver) = channel::<()>();
        apart(move || drop(receiver.recv()));
        assert_eq!(thread_of(reap), "rbd-reaper");
        assert_eq!(thread_of(apart), "rbd-drain");
        drop(sender);
    }
}
