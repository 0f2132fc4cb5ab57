//! Carries out an action on many images, a few at the same time.
//!
//! ```no_run
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! let report = pool.batch(&["a", "b", "c"]).run(|pool, name| pool.remove(name).run())?;
//! for (name, error) in &report.failed {
//!     eprintln!("{name}: {error}");
//! }
//! # Ok::<(), rbd::Error>(())
//! ```
//!
//! The guide [`many`](crate::guide::many) shows how to remove, trash, snapshot, flatten and open
//! thousands of images.

use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::ioctx::IoCtx;
use crate::progress::Progress;
use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::must_not_call;

/// An action on many images: see [`IoCtx::batch`].
#[must_use = "nothing happens until `run`"]
pub struct Batch<'a, N> {
    ioctx: &'a IoCtx,
    names: &'a [N],
    max_in_flight: usize,
    progress: Progress<'a>,
}

/// The results of a batch, in the order of its names.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "actions that failed are told here only"]
pub struct BatchReport<T> {
    /// The images for which the action succeeded, and its results.
    pub done: Vec<(String, T)>,
    /// The images for which the action failed, and its errors.
    pub failed: Vec<(String, Error)>,
    /// The images for which the action did not begin, because the progress callback stopped the
    /// batch.
    pub skipped: Vec<String>,
}

impl<T> BatchReport<T> {
    /// Returns whether the action succeeded for all images.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.skipped.is_empty()
    }
}

impl IoCtx {
    /// Returns a builder that carries out an action on each of these images, a few at the same
    /// time.
    pub fn batch<'a, N: AsRef<str> + Sync>(&'a self, names: &'a [N]) -> Batch<'a, N> {
        Batch { ioctx: self, names, max_in_flight: 10, progress: Progress::default() }
    }
}

impl<'a, N: AsRef<str> + Sync> Batch<'a, N> {
    /// Sets how many actions run at the same time, from 1 to 1024. Each action has a thread. Ceph
    /// also starts threads, and it ends the process if it cannot start one. Default: 10, like
    /// `rbd_concurrent_management_ops` of Ceph.
    pub fn max_in_flight(mut self, actions: usize) -> Self {
        self.max_in_flight = actions.clamp(1, 1024);
        self
    }

    /// Calls back with the number of actions that have ended and their total, on the thread that
    /// called [`run`](Batch::run). After a break, no further action begins. The actions that have
    /// begun end normally.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Carries out the action on each image. Blocks until all actions have ended.
    ///
    /// If the action can also fail in another way than [`Error`], for example when it writes a
    /// file, let it return `Ok(Err(…))`: `T` is then a `Result` of its own.
    ///
    /// The error of one image does not affect the others: see [`BatchReport::failed`]. Fails only
    /// inside a callback of librbd, where no call may block. Panics if the action panics, after all
    /// actions have ended.
    pub fn run<T: Send>(self, action: impl Fn(&IoCtx, &str) -> Result<T> + Sync) -> Result<BatchReport<T>> {
        let Batch { ioctx, names, max_in_flight, mut progress } = self;
        if must_not_call() {
            let why = "librbd waits for this callback; start the batch on another thread";
            return Err(Error::new("run a batch on", ioctx.pool_object(), Errno::EDEADLK).with_detail(why));
        }
        let next = AtomicUsize::new(0);
        // A panic of a thread whose payload panics when it is dropped would end the process. So one
        // panic is kept, and this thread resumes it.
        let panic = Mutex::new(None);
        let carry_out = |name: &N| match catch_unwind(AssertUnwindSafe(|| action(ioctx, name.as_ref()))) {
            Ok(result) => Some(result),
            Err(payload) => {
                let kept = panic.lock().unwrap_or_else(PoisonError::into_inner).replace(payload);
                catch_panic(|| drop(kept));
                None
            }
        };
        let work = |sender: Sender<(usize, Result<T>)>| {
            while let Some((index, name)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                names.get(index).map(|name| (index, name))
            } {
                let Some(result) = carry_out(name) else { return };
                if sender.send((index, result)).is_err() {
                    return;
                }
            }
        };
        let mut results: Vec<Option<Result<T>>> = names.iter().map(|_| None).collect();
        thread::scope(|scope| {
            let (sender, receiver) = channel();
            let mut started = 0;
            for _ in 0..max_in_flight.min(names.len()) {
                let sender = sender.clone();
                let builder = thread::Builder::new().name("rbd-batch".into());
                match builder.spawn_scoped(scope, || work(sender)) {
                    Ok(_) => started += 1,
                    // Fewer at the same time.
                    Err(_) => break,
                }
            }
            if started == 0 {
                work(sender);
            } else {
                drop(sender);
            }
            collect(&receiver, &mut results, &mut progress, || next.store(names.len(), Ordering::Relaxed));
        });
        if let Some(payload) = panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
        let mut report = BatchReport { done: Vec::new(), failed: Vec::new(), skipped: Vec::new() };
        for (name, result) in names.iter().zip(results) {
            let name = name.as_ref().to_owned();
            match result {
                Some(Ok(value)) => report.done.push((name, value)),
                Some(Err(error)) => report.failed.push((name, error)),
                None => report.skipped.push(name),
            }
        }
        Ok(report)
    }
}

/// Takes the results until all threads have ended.
fn collect<T>(
    receiver: &Receiver<(usize, Result<T>)>,
    results: &mut [Option<Result<T>>],
    progress: &mut Progress<'_>,
    stop: impl Fn(),
) {
    let total = results.len() as u64;
    for (done, (index, result)) in (1..).zip(receiver) {
        results[index] = Some(result);
        if progress.step(done, total).is_break() {
            stop();
        }
    }
}

impl<N> fmt::Debug for Batch<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("ioctx", &self.ioctx)
            .field("images", &self.names.len())
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}
