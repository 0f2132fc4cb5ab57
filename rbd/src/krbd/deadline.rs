//! Ends of waiting, also for system calls that know none.

use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{io, thread};

/// A point in time at which waiting ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Deadline {
        // So far away that nobody will see it, yet within what an Instant can hold.
        const FAR: Duration = Duration::from_secs(30 * 365 * 86400);
        Deadline(Instant::now() + time.min(FAR))
    }

    /// What is left; zero when it is over.
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

    /// Runs a call that may block for ever on a thread of its own. `ETIMEDOUT` at the deadline:
    /// then the call goes on, and when it ends `too_late` is given its result, on that thread.
    /// Another error: it was not started.
    ///
    /// There is no way to take a write to sysfs back once the kernel has it: its thread lives as
    /// long as the kernel keeps it. A map ends with its process. An unmap waits for the requests
    /// under way without heeding signals: the process cannot end before.
    pub(crate) fn run<T: Send + 'static>(
        self,
        name: &str,
        call: impl FnOnce() -> T + Send + 'static,
        too_late: impl FnOnce(T) + Send + 'static,
    ) -> io::Result<T> {
        // Of capacity 0: a result is either taken, or handed back to its thread, never lost in
        // between.
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
    fn a_late_result_goes_to_the_one_who_cleans_up() {
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
