//! Runs long operations and reports their progress.
//!
//! A report contains the number of steps done so far and the total number of steps. A callback that
//! returns [`ControlFlow::Break`] (a break) stops most operations. If the operation succeeds and
//! has reported anything, its last report is `total` of `total`; a break there has no effect.
//!
//! ```no_run
//! # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
//! let flatten: rbd::progress::LongOperation<'_> = image.flatten();
//! flatten
//!     .progress(|done, total| {
//!         println!("{done} of {total}");
//!         std::ops::ControlFlow::Continue(())
//!     })
//!     .run()?;
//! # Ok::<(), rbd::Error>(())
//! ```

use std::fmt;
use std::ops::ControlFlow;

use crate::error::Result;

type ProgressCallback<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + Send + 'a;

/// The progress callback of a caller, if any.
#[derive(Default)]
pub(crate) struct Progress<'a>(pub(crate) Option<Box<ProgressCallback<'a>>>);

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(…)" } else { "None" })
    }
}

impl<'a> Progress<'a> {
    /// Returns whether the caller wants reports.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Reports a step.
    pub(crate) fn step(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        self.0.as_mut().map_or(ControlFlow::Continue(()), |callback| callback(done, total))
    }

    pub(crate) fn new(callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Progress<'a> {
        Progress(Some(Box::new(callback)))
    }
}

/// A long operation that reports progress, such as flatten and rollback.
///
/// ```no_run
/// use std::ops::ControlFlow;
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let tell = |done, total| {
///     println!("{done} of {total}");
///     ControlFlow::Continue(())
/// };
/// image.flatten().progress(tell).run()?;
/// # Ok::<(), rbd::Error>(())
/// ```
#[must_use = "nothing happens until `run`"]
pub struct LongOperation<'a> {
    work: Box<dyn FnOnce(Progress<'a>) -> Result<()> + Send + 'a>,
    progress: Progress<'a>,
}

impl<'a> LongOperation<'a> {
    pub(crate) fn new(work: impl FnOnce(Progress<'a>) -> Result<()> + Send + 'a) -> LongOperation<'a> {
        LongOperation { work: Box::new(work), progress: Progress::default() }
    }

    /// Calls back with the steps done so far and their total, on the thread that calls
    /// [`run`](Self::run). With [`call_timeout(None)`](crate::ClusterBuilder::call_timeout) any
    /// thread can call back, but only one at a time.
    ///
    /// A break stops the operation at the next step with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped); completed steps stay. Copies and
    /// migrations ignore a break: it ends only the reports, and the operation succeeds.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Runs the operation. Blocks until it completes.
    pub fn run(self) -> Result<()> {
        (self.work)(self.progress)
    }
}

impl fmt::Debug for LongOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LongOperation").finish_non_exhaustive()
    }
}
