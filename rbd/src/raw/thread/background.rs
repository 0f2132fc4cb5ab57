//! Work that must not run on the current thread. It runs on the background thread, or on a separate
//! thread.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::exit::Pending;
use crate::raw::thread::mark::{in_callback, mark_ours};

struct Job {
    work: Box<dyn FnOnce() + Send>,
    _pending: Pending,
}

impl Job {
    fn new(work: impl FnOnce() + Send + 'static) -> Job {
        Job { work: Box::new(work), _pending: Pending::new() }
    }
}

/// Runs `work` here, or on the background thread if this is a thread of Ceph.
pub(crate) fn outside_callback(work: impl FnOnce() + Send + 'static) {
    if in_callback() { run_in_background(work) } else { work() }
}

/// The id of the process that has the background thread (its forks do not), and the channel to the
/// thread.
static BACKGROUND: Mutex<Option<(u32, Sender<Job>)>> = Mutex::new(None);

/// Runs `work` on the background thread, after all earlier work.
pub(crate) fn run_in_background(work: impl FnOnce() + Send + 'static) {
    let (mut job, process) = (Job::new(work), std::process::id());
    let mut background = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, sender)) = background.as_ref().filter(|(keeper, _)| *keeper == process) {
        match sender.send(job) {
            Ok(()) => return,
            Err(refused) => job = refused.0,
        }
    }
    // If no thread can be started, the handle is leaked: closing it here would hang.
    let started = start("rbd-background", job).map_err(|job| std::mem::forget(job.work)).ok();
    // A fork leaks the jobs of the thread that it does not have: their handles belong to the other
    // process.
    std::mem::forget(std::mem::replace(&mut *background, started.map(|sender| (process, sender))));
}

/// Runs `work`, which may wait for the cluster, on a separate thread, so that nothing else waits
/// for it.
pub(crate) fn spawn_detached(work: impl FnOnce() + Send + 'static) {
    // The thread ends after the job, because no sender remains. For the leak see
    // `run_in_background`.
    let _ = start("rbd-detached", Job::new(work)).map_err(|job| std::mem::forget(job.work));
}

/// Like [`spawn_detached`]. Returns false if no thread can be started.
pub(crate) fn try_spawn_detached(work: impl FnOnce() + Send + 'static) -> bool {
    start("rbd-detached", Job::new(work)).is_ok()
}

/// Starts a thread with a first job, and returns the channel for more. Returns the job if no thread
/// can be started.
fn start(name: &str, job: Job) -> Result<Sender<Job>, Job> {
    let (sender, receiver) = channel::<Job>();
    let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
        mark_ours();
        for job in receiver {
            // A panic of one job must not stop the following ones.
            catch_panic(job.work);
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
    use crate::raw::thread::mark::{CallbackMark, must_not_block};

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
        assert_eq!(thread_of(outside_callback), "rbd-background");
        drop(outer);
        assert_eq!(thread_of(outside_callback), here);
    }

    #[test]
    fn the_background_thread_survives_a_panic() {
        run_in_background(|| std::panic::resume_unwind(Box::new("one bad job")));
        assert_eq!(thread_of(run_in_background), "rbd-background");
    }

    #[test]
    fn a_fork_has_a_background_thread_of_its_own() {
        if !alone(concat!(module_path!(), "::a_fork_has_a_background_thread_of_its_own")) {
            return;
        }
        assert_eq!(thread_of(run_in_background), "rbd-background");
        // Otherwise another test might hold the lock at the fork, and the child would wait forever.
        let mut locked = Some(BACKGROUND.lock().unwrap());
        assert!(in_fork(|| {
            locked = None;
            thread_of(run_in_background) == "rbd-background"
        }));
    }

    #[test]
    fn nothing_waits_on_threads_that_others_wait_for() {
        assert!(!must_not_block());
        let (sender, receiver) = channel();
        run_in_background(move || sender.send(must_not_block()).unwrap());
        assert!(receiver.recv().unwrap());
        let _mark = CallbackMark::set();
        assert!(must_not_block());
    }

    #[test]
    fn slow_work_delays_nothing_else() {
        let (sender, receiver) = channel::<()>();
        spawn_detached(move || receiver.recv().unwrap_or(()));
        assert_eq!(thread_of(run_in_background), "rbd-background");
        assert_eq!(thread_of(spawn_detached), "rbd-detached");
        drop(sender);
    }
}
