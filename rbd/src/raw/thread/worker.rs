//! Blocking calls on threads of this crate, so that the waiting thread can stop waiting.
//!
//! librbd and librados cannot cancel a call. A timed-out call keeps its thread and its values until
//! it returns.
//!
//! [`start`] begins a call. The returned [`Started`] waits for it ([`Started::wait`]), or is
//! awaited as a future. Through a [`Reporter`], a call can report to the waiting thread and get an
//! answer. Thus a user's callbacks run on the user's thread.

use std::any::Any;
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::raw::RawResult;
use crate::raw::thread::exit::Pending;
use crate::raw::thread::mark::CallbackMark;
use crate::raw::thread::pool;

/// The state of a call. `M` is the type of its reports.
enum State<T, M> {
    /// The call is running. The waker is that of a future.
    Working(Option<Waker>),
    /// The call waits for the answer to a report.
    Reported(M),
    /// The waiting thread is computing the answer.
    Answering,
    /// The answer, which the call has not read yet.
    Answered(ControlFlow<()>),
    /// The result, or a panic of the call.
    Ended(Result<T, Box<dyn Any + Send>>),
    /// The waiting side has left, or the result was taken.
    Left,
}

struct Shared<T, M> {
    state: Mutex<State<T, M>>,
    changed: Condvar,
    /// How many signs of life the call has given.
    signs: AtomicUsize,
}

impl<T, M> Shared<T, M> {
    fn lock(&self) -> MutexGuard<'_, State<T, M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State<T, M>>,
        end: Option<Instant>,
    ) -> MutexGuard<'a, State<T, M>> {
        match end {
            None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(end) => {
                let rest = end.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Passes news of the call to the waiting thread. Returns false if it does not wait any more.
    fn tell(&self, mut state: MutexGuard<'_, State<T, M>>, news: State<T, M>) {
        let before = std::mem::replace(&mut *state, news);
        drop(state);
        self.changed.notify_all();
        if let State::Working(Some(waker)) = before {
            waker.wake();
        }
    }

    fn end(&self, result: Result<T, Box<dyn Any + Send>>) {
        let state = self.lock();
        if matches!(*state, State::Left) {
            drop(state);
            // If nobody waits, the result is dropped here: an image closes itself in the
            // background.
            return drop(result);
        }
        self.tell(state, State::Ended(result));
    }
}

/// The channel of a call to the thread that waits for it.
pub(crate) struct Reporter<T, M>(Arc<Shared<T, M>>);

impl<T, M> Reporter<T, M> {
    /// Shows that the call makes progress: the timeout starts again.
    pub(crate) fn alive(&self) {
        self.0.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns whether the waiting thread has given up, so that nobody gets a report any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(*self.0.lock(), State::Left)
    }

    /// Passes a report and waits for the answer. After the call timed out, the answer is always to
    /// continue.
    pub(crate) fn report(&self, report: M) -> ControlFlow<()> {
        let state = self.0.lock();
        if !matches!(*state, State::Working(_)) {
            return ControlFlow::Continue(());
        }
        self.0.tell(state, State::Reported(report));
        let mut state = self.0.lock();
        loop {
            match *state {
                State::Answered(answer) => {
                    *state = State::Working(None);
                    return answer;
                }
                State::Left => return ControlFlow::Continue(()),
                _ => state = self.0.wait(state, None),
            }
        }
    }
}

/// A call in progress. Dropping it abandons the call.
pub(crate) struct Started<T, M = ()>(Arc<Shared<T, M>>);

impl<T, M> std::fmt::Debug for Started<T, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").finish_non_exhaustive()
    }
}

/// Begins a call on a separate thread. Fails with EAGAIN if no thread can be started.
///
/// The values that the call owns are dropped before its result is visible.
pub(crate) fn start<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> RawResult<Started<T>> {
    start_reporting(|_| call())
}

/// Runs a call as blocking calls run, for the bench `overhead`.
#[cfg(feature = "bench-internals")]
pub fn on_a_thread<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    start(call).ok()?.wait(Some(Duration::from_secs(120)))
}

/// Like [`start`], for a call that reports.
pub(crate) fn start_reporting<T: Send + 'static, M: Send + 'static>(
    call: impl FnOnce(Reporter<T, M>) -> T + Send + 'static,
) -> RawResult<Started<T, M>> {
    let shared = Arc::new(Shared {
        state: Mutex::new(State::Working(None)),
        changed: Condvar::new(),
        signs: AtomicUsize::new(0),
    });
    let caller = Arc::clone(&shared);
    let pending = Pending::new();
    pool::run(move || {
        let reporter = Reporter(Arc::clone(&caller));
        let result = catch_unwind(AssertUnwindSafe(|| call(reporter)));
        caller.end(result);
        drop(pending);
    })?;
    Ok(Started(shared))
}

impl<T> Started<T> {
    /// Waits for the result. Returns `None` after the timeout. Resumes a panic of the call.
    pub(crate) fn wait(self, timeout: Option<Duration>) -> Option<T> {
        self.wait_answering(timeout, |()| ControlFlow::Continue(()))
    }
}

impl<T, M> Started<T, M> {
    /// Like [`Started::wait`], for a call that reports. The timeout counts from the last report, or
    /// approximately from the last sign of life.
    ///
    /// A panic of `answer` is resumed when the call has ended or timed out.
    pub(crate) fn wait_answering(
        self,
        timeout: Option<Duration>,
        mut answer: impl FnMut(M) -> ControlFlow<()>,
    ) -> Option<T> {
        let until = || timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut end = until();
        let (mut panic, mut signs) = (None, 0);
        let mut state = self.0.lock();
        let outcome = loop {
            match std::mem::replace(&mut *state, State::Left) {
                State::Ended(result) => break Some(result),
                State::Reported(report) => {
                    *state = State::Answering;
                    drop(state);
                    let said = answer_one(&mut answer, report, &mut panic);
                    state = self.0.lock();
                    *state = State::Answered(said);
                    self.0.changed.notify_all();
                    end = until();
                }
                before => {
                    // The drop of `self` abandons the call.
                    if end.is_some_and(|end| end <= Instant::now()) {
                        let seen = self.0.signs.load(Ordering::Relaxed);
                        if seen == signs {
                            break None;
                        }
                        (signs, end) = (seen, until());
                    }
                    *state = before;
                    state = self.0.wait(state, end);
                }
            }
        };
        drop(state);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        outcome.map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

fn answer_one<M>(
    answer: &mut impl FnMut(M) -> ControlFlow<()>,
    report: M,
    panic: &mut Option<Box<dyn Any + Send>>,
) -> ControlFlow<()> {
    if panic.is_some() {
        return ControlFlow::Break(());
    }
    // librbd waits for the answer, so this thread counts as one of librbd's.
    let _mark = CallbackMark::set();
    catch_unwind(AssertUnwindSafe(|| answer(report))).unwrap_or_else(|thrown| {
        *panic = Some(thrown);
        ControlFlow::Break(())
    })
}

impl<T, M> Drop for Started<T, M> {
    fn drop(&mut self) {
        let before = std::mem::replace(&mut *self.0.lock(), State::Left);
        self.0.changed.notify_all();
        drop(before);
    }
}

/// Returns the result of the call. Polling resumes a panic of the call.
impl<T> Future for Started<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock();
        match std::mem::replace(&mut *state, State::Left) {
            State::Ended(Ok(value)) => Poll::Ready(value),
            State::Ended(Err(panic)) => {
                drop(state);
                resume_unwind(panic)
            }
            State::Left => panic!("polled after it was ready"),
            _ => {
                *state = State::Working(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    const SHORT: Option<Duration> = Some(Duration::from_millis(30));
    const LONG: Option<Duration> = Some(Duration::from_secs(60));

    #[test]
    fn a_result_arrives_after_the_calls_values_are_dropped() {
        let owned = Arc::new(());
        let held = Arc::clone(&owned);
        let result = start(move || {
            thread::sleep(Duration::from_millis(5));
            Arc::strong_count(&held)
        });
        assert_eq!(result.unwrap().wait(LONG), Some(2));
        assert_eq!(Arc::strong_count(&owned), 1);
        assert_eq!(start(|| 7).unwrap().wait(None), Some(7));
    }

    #[test]
    fn a_timed_out_call_keeps_its_values_until_it_ends() {
        let owned = Arc::new(());
        let held = Arc::clone(&owned);
        let (go, wait) = channel::<()>();
        let call = start(move || {
            let _ = wait.recv();
            held
        });
        assert!(call.unwrap().wait(SHORT).is_none());
        assert_eq!(Arc::strong_count(&owned), 2);
        drop(go);
        while Arc::strong_count(&owned) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_panic_is_resumed_at_the_wait() {
        let call = start(|| -> u32 { resume_unwind(Box::new("in the call")) }).unwrap();
        let caught = catch_unwind(AssertUnwindSafe(|| call.wait(LONG)));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in the call");
    }

    #[test]
    fn reports_are_answered_on_the_thread_that_waits_and_keep_it_waiting() {
        let here = thread::current().id();
        let call = start_reporting(|reporter| {
            let mut done = 0;
            while reporter.report(done).is_continue() {
                done += 1;
                thread::sleep(SHORT.unwrap() / 2);
            }
            done
        });
        let mut seen = Vec::new();
        let stopped = call.unwrap().wait_answering(Some(Duration::from_secs(1)), |done: u32| {
            assert_eq!(thread::current().id(), here);
            seen.push(done);
            if done == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((stopped, seen), (Some(4), vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn signs_of_life_keep_it_waiting() {
        let call = start_reporting(|reporter: Reporter<_, ()>| {
            for _ in 0..12 {
                reporter.alive();
                thread::sleep(Duration::from_millis(100));
            }
        });
        let never = |()| unreachable!("it reports nothing");
        assert_eq!(call.unwrap().wait_answering(Some(Duration::from_millis(600)), never), Some(()));
    }

    #[test]
    fn nothing_is_reported_after_the_call_was_given_up() {
        let (go, wait) = channel::<()>();
        let (ended, outcome) = channel();
        let call = start_reporting(move |reporter| {
            let _ = wait.recv();
            ended.send(reporter.report(1)).unwrap();
        });
        let given_up = call.unwrap().wait_answering(SHORT, |_: u32| unreachable!("it was given up"));
        assert!(given_up.is_none());
        drop(go);
        assert_eq!(outcome.recv_timeout(LONG.unwrap()), Ok(ControlFlow::Continue(())));
    }

    #[test]
    fn a_panic_of_an_answer_stops_the_call_and_is_resumed() {
        let (ended, outcome) = channel();
        let call = start_reporting(move |reporter| ended.send(reporter.report(())).unwrap()).unwrap();
        let caught =
            catch_unwind(AssertUnwindSafe(|| call.wait_answering(LONG, |()| panic!("in the answer"))));
        assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in the answer");
        assert_eq!(outcome.recv(), Ok(ControlFlow::Break(())));
    }

    #[test]
    fn a_future_is_woken() {
        struct Unpark(thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let (go, wait) = channel::<()>();
        let mut call = start(move || wait.recv().is_err()).unwrap();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        assert!(Pin::new(&mut call).poll(&mut context).is_pending());
        drop(go);
        loop {
            if let Poll::Ready(value) = Pin::new(&mut call).poll(&mut context) {
                return assert!(value);
            }
            thread::park_timeout(LONG.unwrap());
        }
    }
}
