//! Waiting for a queue's descriptor, in one system call.
//!
//! The wait is edge-triggered: each announcement is reported once, so the descriptor need not be
//! read before the next wait.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::raw::RawResult;
use crate::raw::ffi::conversion::system_errno;

#[derive(Debug)]
pub(super) struct EventWaiter(OwnedFd);

impl EventWaiter {
    pub(super) fn of(event: BorrowedFd<'_>) -> RawResult<EventWaiter> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system_errno)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, event, epoll::EventData::new_u64(0), flags).map_err(system_errno)?;
        Ok(EventWaiter(epoll))
    }

    /// Waits for an announcement, at most for the timeout if there is one. Returns whether there
    /// was one.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> RawResult<bool> {
        // Whole milliseconds, rounded up: older kernels have nothing finer.
        let millis = timeout.map(|timeout| timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128));
        let timeout = millis.map(|millis| Timespec {
            tv_sec: (millis / 1000) as i64,
            tv_nsec: (millis % 1000) as i64 * 1_000_000,
        });
        let mut events = [MaybeUninit::uninit(); 1];
        let (heard, _) = epoll::wait(&self.0, &mut events, timeout.as_ref()).map_err(system_errno)?;
        Ok(!heard.is_empty())
    }
}
