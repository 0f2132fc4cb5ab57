//! Which threads are Ceph's, and what must not happen on them.
//!
//! `rbd_close` and `rados_shutdown` wait for Ceph's own threads; called on one of those they wait for themselves, for ever.
//! Every function of ours that C calls therefore marks its thread for as long as it runs, and the handles' Drop hand the
//! work to a reaper thread where they see the mark. So does the timer, which all deadlines share.

pub(crate) mod callback;
pub(crate) mod catch_panic;
pub(crate) mod exit;
#[cfg(all(test, not(loom)))]
pub(crate) mod fork;
mod pool;
pub(crate) mod progress;
pub(crate) mod worker;

use std::cell::Cell;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::raw::thread::catch_panic::contain;
use crate::raw::thread::exit::Pending;

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

/// Others may wait for this thread from here on, until it ends: what blocks goes elsewhere.
pub(in crate::raw) fn mark_ours() {
    OURS.with(|ours| ours.set(true));
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

/// The process that has the thread, since a fork of it has not, and the way to the thread.
static REAPER: Mutex<Option<(u32, Sender<Job>)>> = Mutex::new(None);

/// Runs `work` on the reaper thread, after all that it was given before.
pub(crate) fn reap(work: impl FnOnce() + Send + 'static) {
    let (mut job, process) = (Job::new(work), std::process::id());
    let mut reaper = REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, sender)) = reaper.as_ref().filter(|(keeper, _)| *keeper == process) {
        match sender.send(job) {
            Ok(()) => return,
            Err(refused) => job = refused.0,
        }
    }
    // Where no thread is to be had, leaking the handle is all that is left: closing it here would hang.
    let started = start("rbd-reaper", job).map_err(|job| std::mem::forget(job.work)).ok();
    // What was left to a thread that is not here is left to it: its handles are another process's.
    std::mem::forget(std::mem::replace(&mut *reaper, started.map(|sender| (process, sender))));
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
        mark_ours();
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::thread::fork::{alone, in_fork};

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
    fn a_fork_has_a_reaper_of_its_own() {
        if !alone(concat!(module_path!(), "::a_fork_has_a_reaper_of_its_own")) {
            return;
        }
        assert_eq!(thread_of(reap), "rbd-reaper");
        // Else another test might have locked it, for ever in the child.
        let mut locked = Some(REAPER.lock().unwrap());
        assert!(in_fork(|| {
            locked = None;
            thread_of(reap) == "rbd-reaper"
        }));
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

    #[test]
    fn what_may_take_long_keeps_nobody_waiting() {
        let (sender, receiver) = channel::<()>();
        apart(move || receiver.recv().unwrap_or(()));
        assert_eq!(thread_of(reap), "rbd-reaper");
        assert_eq!(thread_of(apart), "rbd-drain");
        drop(sender);
    }
}
