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
use crate::raw::ffi::weak::{Failure, WeakResult, library_of};
use crate::raw::op::io::Outcome;
use crate::raw::op::kind::Kind;
use crate::raw::op::request::Fault;
use crate::raw::thread::worker::Started;

/// An asynchronous operation on an image: a future that any executor can poll, and that a thread
/// can [`wait`](Op::wait) for.
///
/// The operation has been submitted when this exists; nothing needs to be polled for it to go on.
/// Several can be in flight at once, on one image as well, and end in any order. What was wrong
/// with the request comes out of the future, too.
///
/// **Dropping it does not cancel the operation**, since Ceph cannot. It goes on without its future:
/// a write takes effect or does not, and the buffers are freed when it ends.
///
/// The future is woken on a thread of librbd's. An executor that polls right there, inside the
/// wake, must not block in it: all completions of the image wait for that. The connection has few
/// such threads for all its images, `librados_thread_count`, 2 unless configured: with as many
/// wakes that block, nothing of the whole connection ends any more.
#[must_use = "the operation goes on without it, but nobody will hear how it ends"]
#[derive(Debug)]
pub struct Op<T: 'static> {
    flight: Flight<T>,
    about: OperationContext,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "mirror"), allow(dead_code))]
enum Flight<T: 'static> {
    Submitted(raw::op::operation::Operation<T>),
    /// A thread submits it, since librbd waits for OSDs before it takes it.
    Submitting(Started<WeakResult<(Answer, raw::op::operation::Operation<T>)>>),
    /// What its errno means tells the answer to a question that was asked before it.
    Asked {
        op: raw::op::operation::Operation<T>,
        answer: Answer,
        failed: Option<Errno>,
    },
    /// A request for data, and what comes out of its end.
    Request(raw::op::operation::Operation<Outcome>, Kind, Finish<T>),
    /// Ended without librbd: refused, or there was nothing to do. Empty once it was told.
    Ended(Option<Result<T>>),
}

/// Makes what comes out of the buffer and of what a compare-and-write found.
pub(super) type Finish<T> = fn(Buffer, Option<Compare>) -> T;

/// Adds to an error what it means.
pub(crate) type Explain = fn(Error) -> Error;

/// An operation of which comes out how errors of another one are explained.
pub(crate) type Answer = raw::op::operation::Operation<Explain>;

/// What an error of the operation must say.
#[derive(Debug, Clone)]
pub(super) struct OperationContext {
    pub(super) image: Arc<Label>,
    pub(super) operation: &'static str,
    /// Offset and length, for those that have some.
    pub(super) range: Option<(u64, u64)>,
    /// What is known of the operation's errors without asking anybody.
    pub(super) explain: Explain,
    /// How long a thread waits for it, unless it says otherwise.
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

    /// What becomes of an operation that was given up on.
    pub(super) fn goes_on(&self) -> &'static str {
        goes_on(self.changes())
    }

    /// Whether it changes anything.
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
        started: Started<WeakResult<(Answer, raw::op::operation::Operation<T>)>>,
        about: OperationContext,
    ) -> Op<T> {
        Op { flight: Flight::Submitting(started), about }
    }

    #[cfg_attr(not(feature = "mirror"), allow(dead_code))]
    pub(super) fn asked(
        op: raw::op::operation::Operation<T>,
        answer: Answer,
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

    /// Waits for the end of the operation on this thread. Blocks, for the [call
    /// timeout](crate::ClusterBuilder::call_timeout) at most, counted from here; for a discard or
    /// zeroes it is that long for each GiB. After that the operation goes on by itself.
    ///
    /// Inside a callback or a wake on a thread of librbd's it fails, unless the operation has
    /// ended: it would wait for itself.
    pub fn wait(self) -> Result<T> {
        let about = self.about.clone();
        timeout::wait(self, about)
    }

    /// Gives up on the operation after a while, with [`TimedOut`](crate::ErrorKind::TimedOut). See
    /// [`Timeout`].
    pub fn timeout(self, after: Duration) -> Timeout<Op<T>> {
        let about = self.about.clone();
        Timeout::new(self, about, after)
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

/// What comes out is not pinned: it is made when it is taken.
impl<T: 'static> Unpin for Op<T> {}

/// # Panics
/// When it is polled again after it was ready.
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
