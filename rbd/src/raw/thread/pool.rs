//! Threads for calls that block, kept for a while after each call.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::mark_ours;

/// The most threads. A stuck call keeps its thread, so endless retries must not start threads
/// without a limit.
const MOST: usize = 1024;

/// How long a thread waits for its next call.
const IDLE: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce() + Send>;

/// The threads of one process.
struct Pool {
    /// The id of the process. A fork has none of the threads, and the lock may be held forever.
    process: u32,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    /// The ids and channels of the threads that wait for a call.
    idle: Vec<(u64, Sender<Job>)>,
    count: usize,
    next: u64,
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

/// Returns the pool of this process. A fork leaks the pool of the other process.
fn pool() -> &'static Pool {
    let process = std::process::id();
    let current = POOL.load(Ordering::Acquire);
    // SAFETY: a value that is stored here is never freed.
    match unsafe { current.as_ref() } {
        Some(pool) if pool.process == process => return pool,
        _ => {}
    }
    let new = Box::into_raw(Box::new(Pool { process, threads: Mutex::default() }));
    match POOL.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: it is never freed.
        Ok(_) => unsafe { &*new },
        Err(winner) => {
            // SAFETY: it was never shared.
            drop(unsafe { Box::from_raw(new) });
            // SAFETY: as above. Another thread of this process was faster, so it belongs to this
            // process.
            unsafe { &*winner }
        }
    }
}

/// Runs a job on an idle thread or a new one. Fails with EAGAIN if there are too many.
pub(in crate::raw) fn run(job: impl FnOnce() + Send + 'static) -> RawResult<()> {
    let mut job: Job = Box::new(job);
    let pool = pool();
    let mut threads = pool.threads.lock().unwrap_or_else(PoisonError::into_inner);
    // The thread that became idle last is taken first, so that the others can end.
    while let Some((_, sender)) = threads.idle.pop() {
        match sender.send(job) {
            Ok(()) => return Ok(()),
            Err(refused) => job = refused.0,
        }
    }
    if threads.count >= MOST {
        return Err(Errno::EAGAIN);
    }
    let id = threads.next;
    let (sender, receiver) = channel();
    let own = sender.clone();
    std::thread::Builder::new()
        .name("rbd-call".into())
        .spawn(move || work(pool, id, &own, &receiver))
        .map_err(|_| Errno::EAGAIN)?;
    threads.next += 1;
    threads.count += 1;
    drop(threads);
    // The thread keeps the receiver until it gets a job.
    let _ = sender.send(job);
    Ok(())
}

/// The main function of a thread.
fn work(pool: &'static Pool, id: u64, own: &Sender<Job>, receiver: &Receiver<Job>) {
    mark_ours();
    let lock = || pool.threads.lock().unwrap_or_else(PoisonError::into_inner);
    let mut next = receiver.recv().ok();
    while let Some(job) = next.take() {
        // The job handles panics of the call. A panic of a waker is caught here.
        catch_panic(job);
        lock().idle.push((id, own.clone()));
        next = match receiver.recv_timeout(IDLE) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let mut threads = lock();
                if let Some(place) = threads.idle.iter().position(|(idle, _)| *idle == id) {
                    threads.idle.remove(place);
                    None
                } else {
                    // A caller has just taken this thread.
                    drop(threads);
                    receiver.recv().ok()
                }
            }
        };
    }
    lock().count -= 1;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::raw::thread::fork::{alone, in_fork};

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_thread_is_used_again_and_survives_a_panic() {
        let (sender, receiver) = channel();
        for round in 0..50 {
            let sender = sender.clone();
            run(move || {
                sender.send(std::thread::current().name().map(str::to_owned)).unwrap();
                if round % 7 == 0 {
                    std::panic::resume_unwind(Box::new("one bad job"));
                }
            })
            .unwrap();
            assert_eq!(receiver.recv_timeout(LIMIT).unwrap().as_deref(), Some("rbd-call"));
        }
    }

    #[test]
    fn a_fork_has_a_pool_of_its_own() {
        if !alone(concat!(module_path!(), "::a_fork_has_a_pool_of_its_own")) {
            return;
        }
        let ask = || {
            let (sender, receiver) = channel();
            run(move || sender.send(7).unwrap()).unwrap();
            receiver.recv_timeout(LIMIT) == Ok(7)
        };
        assert!(ask());
        // Another thread could hold the lock at the fork.
        let locked = pool().threads.lock().unwrap();
        assert!(in_fork(ask));
        drop(locked);
    }
}
