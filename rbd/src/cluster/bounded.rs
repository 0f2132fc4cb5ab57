//! Blocking calls that are given up after the connection's call timeout.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::time::Duration;

use super::Cluster;
use crate::errno::Errno;
use crate::error::{Error, Object, Result};
use crate::progress::Progress;
use crate::raw;
use crate::raw::ffi::late::Failure;
use crate::raw::thread::mark::{CallsAllowed, must_not_call};
use crate::raw::thread::worker::{Started, start, start_reporting};

impl Cluster {
    /// Makes a call that may wait for the cluster; all such calls go through here. The call runs on
    /// its own thread and owns everything it uses, so that it can be given up. Calls that never
    /// wait use [`call`](Self::call).
    pub(crate) fn bounded<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce(&raw::cluster::Cluster) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let raw = self.raw().clone();
        self.bounded_call(operation, object, move || call(&raw))
    }

    /// Makes a call on other handles; otherwise like [`bounded`](Self::bounded).
    pub(crate) fn bounded_call<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let (operation, object) = refuse_in_callback(operation, object)?;
        let Some(timeout) = self.raw().call_timeout() else { return self.call(operation, object, call) };
        let wait = |started: Started<_>| started.wait(Some(timeout));
        self.outcome(operation, object, timeout, || start(call).map(wait))
    }

    /// Makes a call that reports progress: the timeout restarts with each step. The user's callback
    /// runs here, on the waiting thread.
    pub(crate) fn bounded_long<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        mut progress: Progress<'_>,
        call: impl FnOnce(Progress<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let (operation, object) = refuse_in_callback(operation, object)?;
        let Some(timeout) = self.raw().call_timeout() else {
            return self.call(operation, object, || call(progress));
        };
        let wanted = progress.is_wanted();
        let wait = |started: Started<_, (u64, u64)>| {
            started.wait_answering(Some(timeout), |(done, total)| progress.step(done, total))
        };
        self.outcome(operation, object, timeout, || {
            start_reporting(move |reporter| {
                call(Progress::new(move |done, total| {
                    if wanted {
                        return reporter.report((done, total));
                    }
                    reporter.alive();
                    ControlFlow::Continue(())
                }))
            })
            .map(wait)
        })
    }

    /// Makes a call that finds items one by one. The waiting thread receives them in batches.
    pub(crate) fn bounded_finding<T, E, M>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        mut found: impl FnMut(M) -> ControlFlow<()>,
        call: impl FnOnce(&mut (dyn FnMut(M) -> ControlFlow<()> + Send)) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
        M: Send + 'static,
    {
        /// The number of items in a batch.
        const LIST: usize = 512;
        let (operation, object) = refuse_in_callback(operation, object)?;
        let timeout = self.raw().call_timeout();
        let each = |list: Vec<M>| {
            // librbd waits for the answer but holds no lock.
            let _allowed = CallsAllowed::set();
            list.into_iter().try_for_each(&mut found)
        };
        let wait = |started: Started<_, Vec<M>>| started.wait_answering(timeout, each);
        self.outcome(operation, object, timeout.unwrap_or_default(), || {
            start_reporting(move |reporter| {
                let mut list = Vec::new();
                let mut stopped = false;
                let result = call(&mut |thing| {
                    list.push(thing);
                    if list.len() < LIST {
                        reporter.alive();
                        return ControlFlow::Continue(());
                    }
                    let answer = reporter.report(std::mem::take(&mut list));
                    stopped = answer.is_break();
                    answer
                });
                if !list.is_empty() && !stopped && result.is_ok() {
                    stopped = reporter.report(list).is_break();
                    if stopped {
                        return Err(Failure::Errno(crate::Errno::ECANCELED));
                    }
                }
                result.map_err(Into::into)
            })
            .map(wait)
        })
    }

    /// Converts the outcome of a call; `None` means that the call was given up.
    fn outcome<T, E: Into<Failure>>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        timeout: Duration,
        call: impl FnOnce() -> raw::RawResult<Option<Result<T, E>>>,
    ) -> Result<T> {
        let operation = operation.into();
        let mut given_up = false;
        let outcome = self.call(operation.clone(), object, || match call() {
            Ok(Some(result)) => result.map_err(Into::into),
            Ok(None) => {
                given_up = true;
                Err(Failure::Errno(crate::Errno::ETIMEDOUT))
            }
            Err(errno) => Err(Failure::Errno(errno)),
        });
        outcome.map_err(|error| if given_up { error.timed_out(timeout, changes(&operation)) } else { error })
    }
}

/// Refuses calls inside a callback, where they would wait for their own thread.
pub(crate) fn refuse_in_callback<O, F: FnOnce() -> Object>(
    operation: O,
    object: F,
) -> Result<(Cow<'static, str>, F)>
where
    O: Into<Cow<'static, str>>,
{
    if !must_not_call() {
        return Ok((operation.into(), object));
    }
    Err(Error::new(operation, object(), Errno::EDEADLK).with_detail(IN_CALLBACK))
}

/// The reason of EDEADLK: a call that would wait for its own thread.
pub(crate) const IN_CALLBACK: &str = "librbd or librados waits for this callback or wake, so \
    a call here would never end; call from another thread, or after the callback returns";

/// Returns whether an operation of this name can change data.
fn changes(operation: &str) -> bool {
    const READING: [&str; 9] =
        ["read", "list", "look up", "open", "close", "count", "wait", "watch", "flush"];
    !READING.iter().any(|reading| operation.starts_with(reading))
}
