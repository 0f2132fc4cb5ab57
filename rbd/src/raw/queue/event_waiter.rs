//! Waiting for what a queue's descriptor announces, in one system call.
//!
//! Edge-triggered: each announcement is heard once, so nothing has to be read from the descriptor before it can be waited for
//! the next one.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;

#[derive(Debug)]
pub(super) struct EventWaiter(OwnedFd);

impl EventWaiter {
    pub(super) fn of(event: BorrowedFd<'_>) -> RawResult<EventWaiter> {
        // SAFETY: no memory is passed.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map_err(|_| Errno::last())?;
        // SAFETY: the descriptor is new and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let mut what = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        let (to, add) = (epoll.as_raw_fd(), libc::EPOLL_CTL_ADD);
        // SAFETY: both descriptors are open, and `what` lives through the call.
        check(unsafe { libc::epoll_ctl(to, add, event.as_raw_fd(), &raw mut what) })
            .map_err(|_| Errno::last())?;
        Ok(EventWaiter(epoll))
    }

    /// Whether there was one. Blocks, at most for the timeout if there is one.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> RawResult<bool> {
        let millis = timeout
            .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let mut heard = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that may be told of.
        match unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut heard, 1, millis) } {
            -1 => Err(Errno::last()),
            count => Ok(count > 0),
        }
    }
}
