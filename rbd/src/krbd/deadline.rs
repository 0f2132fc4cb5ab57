//! Deadlines, also for system calls without a timeout.

use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{io, thread};

/// A point in time at which waiting ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Deadline {
        // Practically never, but within the range of `Instant`.
        const FAR: Duration = Duration::from_secs(30 * 365 * 86400);
        Deadline(Instant::now() + time.min(FAR))
    }

    /// Returns the time that is left; zero after the deadline.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn over(self) -> bool {
        self.left().is_zero()
    }

    /// Sleeps for `time`, or less if the deadline comes first.
    pub(crate) fn sleep(self, time: Duration) {
        thread::sleep(self.left().min(time));
    }

    /// Runs a call that may block without limit on its own thread. Returns `ETIMEDOUT` at the
    /// deadline; the call then continues, and `too_late` gets its result on that thread. Any other
    /// error means that the call was not started.
    ///
    /// A write to sysfs cannot be cancelled: its thread lives until the kernel returns. A map ends
    /// with its process. An unmap waits for requests in flight and ignores signals, so the process
    /// cannot end before.
    pub(crate) fn run<T: Send + 'static>(
        self,
        name: &str,
        call: impl FnOnce() -> T + Send + 'static,
        too_late: impl FnOnce(T) + Send + 'static,
    ) -> io::Result<T> {
        // Capacity 0: a result is either taken or returned to its thread, and never lost.
        let (give, take) = mpsc::sync_channel(0);
        let body = move || {
            if let Err(mpsc::SendError(result)) = give.send(call()) {
                too_late(result);
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(body)?;
        take.recv_timeout(self.left()).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => io::Error::from_raw_os_error(libc::ETIMEDOUT),
            mpsc::RecvTimeoutError::Disconnected => io::Error::other("the helper thread panicked"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_in_time_is_returned() {
        let soon = Deadline::after(Duration::from_secs(10));
        assert_eq!(soon.run("test", || 5, |_| panic!("not late")).unwrap(), 5);
    }

    #[test]
    fn a_late_result_goes_to_the_clean_up() {
        let (tell, told) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let deadline = Deadline::after(Duration::from_millis(20));
        let call = move || {
            held.recv().unwrap();
            7
        };
        let late = deadline.run("test", call, move |result| tell.send(result).unwrap()).unwrap_err();
        assert_eq!(late.raw_os_error(), Some(libc::ETIMEDOUT));
        assert!(deadline.over());
        release.send(()).unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(7));
    }

    #[test]
    fn an_endless_time_is_no_overflow() {
        assert!(!Deadline::after(Duration::MAX).over());
    }
}
