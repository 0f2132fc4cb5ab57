//! Waiting for a future on a thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::op::About;
use crate::errno::Errno;
use crate::error::Result;
use crate::raw::thread::in_callback;

struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The flag tells a wake from other unparks of the thread.
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    /// Kept, so that waiting does not allocate each time.
    static PARKER: (Arc<Parker>, Waker) = {
        let parker = Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) });
        (Arc::clone(&parker), Waker::from(parker))
    };
}

/// Polls on this thread until it is ready.
pub(super) fn wait<T>(mut future: impl Future<Output = Result<T>> + Unpin, about: &About) -> Result<T> {
    if in_callback() {
        return Err(about
            .error(Errno::EDEADLK)
            .with_detail("a callback or wake on a thread of librbd's cannot wait for librbd"));
    }
    PARKER.with(|(parker, waker)| {
        loop {
            parker.woken.store(false, Ordering::Relaxed);
            if let Poll::Ready(outcome) = Pin::new(&mut future).poll(&mut Context::from_waker(waker)) {
                return outcome;
            }
            while !parker.woken.load(Ordering::Acquire) {
                thread::park();
            }
        }
    })
}
