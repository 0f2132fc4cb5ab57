//! What an image must not be closed without, and what can fail of it.

use std::fmt;

use crate::errno::Errno;
use crate::raw::image::Image;

/// What failed of a closing. The image is closed all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseFailure {
    /// What was written since the last flush may be lost.
    Flush(Errno),
    /// The exclusive lock may have stayed.
    Lock(Errno),
    Close(Errno),
}

impl CloseFailure {
    pub(crate) fn errno(self) -> Errno {
        let (CloseFailure::Flush(errno) | CloseFailure::Lock(errno) | CloseFailure::Close(errno)) = self;
        errno
    }
}

impl fmt::Display for CloseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            CloseFailure::Flush(_) => {
                "the last flush failed, so what was written since the one before may be lost"
            }
            CloseFailure::Lock(_) => "the exclusive lock could not be released, and may have stayed",
            CloseFailure::Close(_) => "closing failed",
        };
        write!(f, "{what} ({})", self.errno())
    }
}

impl Image {
    /// Flushes, and releases the exclusive lock. librbd's own closing does so, too, but does not tell of failures. Blocks.
    pub(super) fn finish(&self) -> Result<(), CloseFailure> {
        let flushed = self.flush().map_err(CloseFailure::Flush);
        let released = self.release_lock_to_close().map_err(CloseFailure::Lock);
        flushed.and(released)
    }
}
