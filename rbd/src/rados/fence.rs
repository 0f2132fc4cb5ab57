//! Whether this client is fenced off.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::ioctx::IoCtx;

/// Calls back when this client is fenced off, until it is dropped: see
/// [`IoCtx::watch_blocklisting`].
#[must_use = "dropping it ends the watch"]
pub struct BlocklistWatch {
    /// Its end ends the thread.
    _alive: Sender<()>,
}

impl IoCtx {
    /// Whether this client is fenced off: asks an OSD of the pool, which is who refuses. Blocks up
    /// to the OSD timeout.
    ///
    /// A client whose fence was lifted may talk again, but what it had open then is not to be
    /// trusted: connect anew.
    ///
    /// Implements: `rados_stat`.
    pub fn is_blocklisted(&self) -> Result<bool> {
        // Every pool of images has it; where it lacks, the OSD has answered as well.
        match self.objects().stat("rbd_directory") {
            Err(error) if error.is_blocklisted() => Ok(true),
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(false),
        }
    }

    /// Asks every `interval` whether this client is [fenced off](Self::is_blocklisted), on a thread
    /// of its own, and calls back there once when it is. While no answer is to be had it goes on
    /// asking.
    pub fn watch_blocklisting(
        &self,
        interval: Duration,
        callback: impl FnOnce() + Send + 'static,
    ) -> Result<BlocklistWatch> {
        let (alive, ended) = channel::<()>();
        let ioctx = self.clone();
        let watch = move || {
            while !ioctx.is_blocklisted().unwrap_or(false) {
                if ended.recv_timeout(interval) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
            // Dropped while it was asking.
            if ended.recv_timeout(Duration::ZERO) != Err(RecvTimeoutError::Disconnected) {
                callback();
            }
        };
        std::thread::Builder::new().name("rbd-blocklist".into()).spawn(watch).map_err(|error| {
            let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EAGAIN));
            Error::new("start a thread to watch", self.pool_object(), errno)
        })?;
        Ok(BlocklistWatch { _alive: alive })
    }
}

impl fmt::Debug for BlocklistWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlocklistWatch").finish_non_exhaustive()
    }
}
