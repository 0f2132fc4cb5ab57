//! Ceph's log lines about an operation, read without blocking.

use std::task::{Context, Poll};
use std::time::Instant;

use super::timer::Alarm;
use crate::ioctx::IoCtx;
use crate::raw::cluster::log::PATIENCE;
use crate::raw::thread::background::run_in_background;

/// The connection's log since the operation began.
#[derive(Debug)]
pub(super) struct Reasons {
    /// Ending the connection blocks, so a future does not drop what may be the last reference to
    /// it.
    ioctx: Option<IoCtx>,
    mark: u64,
    /// The deadline for further lines, once the log was read.
    end: Option<(Instant, Alarm)>,
}

impl Reasons {
    /// Starts to collect lines.
    pub(super) fn new(ioctx: &IoCtx) -> Reasons {
        let mark = ioctx.cluster().log_mark();
        Reasons { ioctx: Some(ioctx.clone()), mark, end: None }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Vec<String>> {
        let log = self.ioctx.as_ref().and_then(|ioctx| ioctx.cluster().log_written_since(self.mark));
        let Some(lines) = log else { return Poll::Ready(Vec::new()) };
        let now = Instant::now();
        if !lines.is_empty() || self.end.as_ref().is_some_and(|(end, _)| *end <= now) {
            self.end = None;
            return Poll::Ready(lines);
        }
        match &mut self.end {
            Some((_, alarm)) => alarm.set_waker(context.waker()),
            none => match Alarm::new(now + PATIENCE, context.waker().clone()) {
                Ok(alarm) => *none = Some((now + PATIENCE, alarm)),
                Err(_) => return Poll::Ready(Vec::new()),
            },
        }
        Poll::Pending
    }
}

impl Drop for Reasons {
    fn drop(&mut self) {
        let ioctx = self.ioctx.take();
        run_in_background(move || drop(ioctx));
    }
}
