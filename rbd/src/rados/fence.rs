//! Detection that this client is fenced.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::ioctx::IoCtx;

/// Calls back when this client is fenced, until it is dropped: see
/// [`IoCtx::watch_blocklisting`].
#[must_use = "dropping it ends the watch"]
pub struct BlocklistWatch {
    /// Dropping it ends the thread.
    _alive: Sender<()>,
}

impl IoCtx {
    /// Returns whether this client is fenced. Asks an OSD of the pool, because the OSDs refuse
    /// fenced clients. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout).
    ///
    /// A client that was removed from the blocklist can send requests again, but its open images
    /// are not reliable: connect again.
    ///
    /// Implements: `rados_stat`.
    pub fn is_blocklisted(&self) -> Result<bool> {
        // Every pool of images has this object. If it is missing, the OSD has answered too.
        match self.objects().stat("rbd_directory") {
            Err(error) if error.is_blocklisted() => Ok(true),
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(false),
        }
    }

    /// Checks every `interval` whether this client is [fenced](Self::is_blocklisted). When it is,
    /// calls back once. Checks and the callback run on a thread of their own. Continues to check
    /// while no OSD answers.
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
            // The watch was dropped during the check.
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
