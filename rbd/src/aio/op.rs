//! An operation in flight, as a future.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::timeout::{self, Timeout};
use crate::buffer::Buffer;
use crate::errno::Errno;
use crate::error::{Error, Result, goes_on};
use crate::image::check::{failure, on_range};
use crate::image::{Compare, Label};
use crate::raw;
use crate::raw::ffi::late::{Failure, LateResult, library_of};
use crate::raw::op::io::Outcome;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::Fault;
use crate::raw::thread::worker::Started;

/// An asynchronous operation on an image: a future that any executor can poll, and that a thread
/// can [`wait`](Op::wait) for.
///
/// The operation is already submitted and needs no polling. Several operations can be in flight on
/// one image, and they complete in any order. An invalid request also fails through the future.
///
/// **Dropping it does not cancel the operation**, because Ceph cannot cancel. The operation
/// completes in the background: a write may or may not take effect, and then the buffers are freed.
/// If it fails, [`Image::close`](crate::Image::close) returns its error.
///
/// A thread of librbd wakes the future. An executor that polls inside the wake must not block
/// there, because all completions of the image wait for it. A connection has
/// `librados_thread_count` such threads (2 by default) for all its images. If that many wakes
/// block, no operation of the connection completes.
#[must_use = "the operation continues without it, but its result is lost"]
#[derive(Debug)]
pub struct Op<T: 'static> {
    flight: Flight<T>,
    about: OperationContext,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "mirror"), allow(dead_code))]
enum Flight<T: 'static> {
    Submitted(raw::op::operation::Operation<T>),
    /// A thread makes the call, because librbd waits for OSDs before it returns.
    Submitting(Started<LateResult<(ErrorQuery, raw::op::operation::Operation<T>)>>),
    /// The meaning of its errno depends on the answer to a query that was made before it.
    Asked {
        op: raw::op::operation::Operation<T>,
        answer: ErrorQuery,
        failed: Option<Errno>,
    },
    /// A request for data, and the conversion of its result.
    Request(raw::op::operation::Operation<Outcome>, Kind, Finish<T>),
    /// Completed without librbd: refused, or nothing to do. `None` after the result was taken.
    Ended(Option<Result<T>>),
}

/// Makes the future's result from the buffer and from the result of a compare-and-write.
pub(super) type Finish<T> = fn(Buffer, Option<Compare>) -> T;

/// Explains an error.
pub(crate) type Explain = fn(Error) -> Error;

/// An operation whose result explains errors of another operation.
pub(crate) type ErrorQuery = raw::op::operation::Operation<Explain>;

/// The context that an error of the operation contains.
#[derive(Debug, Clone)]
pub(super) struct OperationContext {
    pub(super) image: Arc<Label>,
    pub(super) operation: &'static str,
    /// Offset and length, if the operation has a range.
    pub(super) range: Option<(u64, u64)>,
    /// Explains errors without a query.
    pub(super) explain: Explain,
    /// How long a thread waits for it by default.
    pub(super) patience: Option<Duration>,
}

impl OperationContext {
    #[cfg(feature = "tracing")]
    pub(super) fn subject(&self) -> crate::events::Subject<'_> {
        (self.operation, &self.image.spec, self.range)
    }

    pub(super) fn error(&self, errno: Errno) -> Error {
        let operation = match self.range {
            Some((offset, len)) => Cow::Owned(on_range(self.operation, offset, len)),
            None => Cow::Borrowed(self.operation),
        };
        (self.explain)(Error::new(operation, self.image.object(), errno))
    }

    pub(super) fn failure(&self, kind: Kind, fault: Fault) -> Error {
        failure(&self.image, kind, self.range.unwrap_or_default(), fault)
    }

    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(super) fn error_of(&self, failure: Failure) -> Error {
        match failure {
            Failure::Errno(errno) => self.error(errno),
            Failure::Missing { symbol, needs } => {
                let object = self.image.object();
                Error::unsupported(self.operation, object, symbol, needs, library_of(symbol))
            }
        }
    }

    pub(super) fn timed_out(&self, after: Duration) -> Error {
        self.error(Errno::ETIMEDOUT).timed_out(after, self.changes())
    }

    /// Describes what a timed-out operation can still do.
    pub(super) fn goes_on(&self) -> &'static str {
        goes_on(self.changes())
    }

    /// Returns whether the operation changes data.
    fn changes(&self) -> bool {
        !matches!(self.operation, "read" | "open" | "close" | "flush")
    }
}

impl<T: 'static> Op<T> {
    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(super) fn submitted(op: raw::op::operation::Operation<T>, about: OperationContext) -> Op<T> {
        Op { flight: Flight::Submitted(op), about }
    }

    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(super) fn submitting(
        started: Started<LateResult<(ErrorQuery, raw::op::operation::Operation<T>)>>,
        about: OperationContext,
    ) -> Op<T> {
        Op { flight: Flight::Submitting(started), about }
    }

    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(super) fn asked(
        op: raw::op::operation::Operation<T>,
        answer: ErrorQuery,
        about: OperationContext,
    ) -> Op<T> {
        Op { flight: Flight::Asked { op, answer, failed: None }, about }
    }

    pub(super) fn of_request(
        op: raw::op::operation::Operation<Outcome>,
        kind: Kind,
        finish: Finish<T>,
        about: OperationContext,
    ) -> Op<T> {
        Op { flight: Flight::Request(op, kind, finish), about }
    }

    pub(super) fn ended(outcome: Result<T>, about: OperationContext) -> Op<T> {
        Op { flight: Flight::Ended(Some(outcome)), about }
    }

    /// Waits on this thread until the operation completes. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout), counted from this call; discards and zeroes
    /// have that time for each GiB. After that, the operation continues in the background.
    ///
    /// Inside a callback or a wake on a thread of librbd, this fails unless the operation has
    /// completed: it would wait for itself.
    pub fn wait(self) -> Result<T> {
        let about = self.about.clone();
        timeout::wait(self, about)
    }

    /// Limits the wait for the operation. After the timeout, the future fails with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). See [`Timeout`].
    pub fn timeout(self, timeout: Duration) -> Timeout<Op<T>> {
        let about = self.about.clone();
        Timeout::new(self, about, timeout)
    }
}

#[cfg(feature = "tracing")]
impl<T: 'static> Drop for Op<T> {
    fn drop(&mut self) {
        let taken = match &self.flight {
            Flight::Submitted(op) | Flight::Asked { op, .. } => op.is_taken(),
            Flight::Request(op, ..) => op.is_taken(),
            Flight::Submitting(_) => false,
            Flight::Ended(_) => true,
        };
        if !taken {
            crate::events::left(self.about.subject());
        }
    }
}

/// The result is never pinned: it is made when it is taken.
impl<T: 'static> Unpin for Op<T> {}

/// # Panics
/// Panics if it is polled again after it was ready.
impl<T: 'static> Future for Op<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Op { flight, about } = &mut *self;
        if let Flight::Submitting(started) = flight {
            *flight = match ready!(Pin::new(started).poll(context)) {
                Ok((answer, op)) => Flight::Asked { op, answer, failed: None },
                Err(failure) => {
                    event!(about, Some(&failure));
                    Flight::Ended(Some(Err(about.error_of(failure))))
                }
            };
        }
        match flight {
            Flight::Submitting(_) => Poll::Pending,
            Flight::Submitted(op) => op.poll(context).map(|outcome| {
                event!(about, outcome.as_ref().err());
                outcome.map_err(|errno| about.error(errno))
            }),
            Flight::Asked { op, answer, failed } => {
                if failed.is_none() {
                    let Poll::Ready(outcome) = op.poll(context) else { return Poll::Pending };
                    event!(about, outcome.as_ref().err());
                    match outcome {
                        Ok(done) => return Poll::Ready(Ok(done)),
                        Err(errno) => *failed = Some(errno),
                    }
                }
                let error = about.error(failed.expect("just set"));
                answer.poll(context).map(|explain| {
                    Err(match explain {
                        Ok(explain) => explain(error),
                        Err(_) => error,
                    })
                })
            }
            Flight::Request(op, kind, finish) => op.poll(context).map(|outcome| {
                let outcome = outcome.map_err(Fault::from).and_then(|(buffer, end)| Ok((buffer, end?)));
                event!(about, outcome.as_ref().err());
                outcome
                    .map(|(buffer, compare)| finish(buffer, compare))
                    .map_err(|fault| about.failure(*kind, fault))
            }),
            Flight::Ended(outcome) => Poll::Ready(outcome.take().expect("polled after it was ready")),
        }
    }
}
