//! Blocking waits for futures.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::raw::thread::mark::must_not_call;

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The flag distinguishes a wake from other unparks of the thread.
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

fn parker() -> (Arc<Parker>, Waker) {
    let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
    (Arc::clone(&parker), Waker::from(parker))
}

thread_local! {
    /// Cached, so that waiting does not allocate.
    static PARKER: (Arc<Parker>, Waker) = parker();
}

/// Polls on this thread until the future is ready. With an end, it polls once more at that time,
/// and the future must be ready then. Returns `None` if it is not ready on a thread that must not
/// wait.
pub(crate) fn wait_until<T>(mut future: impl Future<Output = T> + Unpin, end: Option<Instant>) -> Option<T> {
    if must_not_call() {
        // A completed or refused operation needs no wait.
        return match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        };
    }
    let mut future = Some(future);
    let mut waiting = |(parker, waker): &(Arc<Parker>, Waker)| park(future.take()?, parker, waker, end);
    // The thread-local parker is gone when a destructor waits at the end of the thread.
    PARKER.try_with(&mut waiting).unwrap_or_else(|_| waiting(&parker()))
}

/// Polls on this thread until the future is ready. For threads of this crate, where no callback
/// runs.
pub(crate) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let (parker, waker) = parker();
    park(pin!(future), &parker, &waker, None).expect("there is no end")
}

/// A nested wait inside a poll on this thread may have consumed the outer wait's wake. When it
/// ends, even by a panic, the outer wait gets a wake.
struct GiveBack<'a>(&'a Parker);

impl Drop for GiveBack<'_> {
    fn drop(&mut self) {
        self.0.woken.store(true, Ordering::Relaxed);
    }
}

fn park<T>(
    mut future: impl Future<Output = T> + Unpin,
    parker: &Parker,
    waker: &Waker,
    end: Option<Instant>,
) -> Option<T> {
    let _give_back = GiveBack(parker);
    loop {
        parker.woken.store(false, Ordering::Relaxed);
        if let Poll::Ready(outcome) = Pin::new(&mut future).poll(&mut Context::from_waker(waker)) {
            return Some(outcome);
        }
        while !parker.woken.load(Ordering::Acquire) {
            match end.map(|end| end.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => break,
                Some(rest) => thread::park_timeout(rest),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;
    use std::future::{poll_fn, ready};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn wait<T>(future: impl Future<Output = T> + Unpin) -> T {
        wait_until(future, None).unwrap()
    }

    fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (sender, receiver) = channel();
        thread::spawn(move || sender.send(run()));
        receiver
    }

    const LIMIT: Duration = Duration::from_secs(10);

    /// The drop of a user's waker inside a poll can do this.
    #[test]
    fn a_wait_inside_of_a_wait_takes_no_wake() {
        let ended = on_a_thread(|| {
            let mut polls = 0;
            let outer = poll_fn(move |context| {
                polls += 1;
                if polls > 1 {
                    return Poll::Ready(polls);
                }
                context.waker().wake_by_ref();
                wait(ready(()));
                Poll::Pending
            });
            wait(outer)
        });
        assert_eq!(ended.recv_timeout(LIMIT), Ok(2));
    }

    #[test]
    fn a_wait_that_panics_inside_of_a_wait_takes_no_wake_either() {
        let ended = on_a_thread(|| {
            let mut polls = 0;
            let outer = poll_fn(move |context| {
                polls += 1;
                if polls > 1 {
                    return Poll::Ready(polls);
                }
                context.waker().wake_by_ref();
                let inner = poll_fn(|_| -> Poll<()> { resume_unwind(Box::new("no further")) });
                assert!(catch_unwind(AssertUnwindSafe(|| wait(inner))).is_err());
                Poll::Pending
            });
            wait(outer)
        });
        assert_eq!(ended.recv_timeout(LIMIT), Ok(2));
    }

    #[test]
    fn a_wait_with_a_deadline_needs_no_wake() {
        let ended = on_a_thread(|| {
            let (end, mut polls) = (Instant::now() + Duration::from_millis(30), 0);
            let late = poll_fn(|_| {
                polls += 1;
                if Instant::now() < end { Poll::Pending } else { Poll::Ready(polls) }
            });
            wait_until(late, Some(end)).unwrap()
        });
        assert_eq!(ended.recv_timeout(LIMIT), Ok(2), "not polled all the time either");
    }

    #[test]
    fn a_destructor_at_the_end_of_a_thread_can_wait() {
        struct AtTheEnd(Cell<Option<std::sync::mpsc::Sender<u32>>>);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                let mut polls = 0;
                let two_polls = poll_fn(|context| {
                    polls += 1;
                    context.waker().wake_by_ref();
                    if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
                });
                let outcome = wait(two_polls);
                self.0.take().unwrap().send(outcome).unwrap();
            }
        }
        thread_local! {
            static LAST: AtTheEnd = const { AtTheEnd(Cell::new(None)) };
        }
        let (sender, ended) = channel();
        thread::spawn(move || {
            LAST.with(|last| last.0.set(Some(sender)));
            // Created later, so it is dropped earlier.
            wait(ready(()));
        });
        assert_eq!(ended.recv_timeout(LIMIT), Ok(2));
    }
}
