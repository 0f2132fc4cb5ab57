//! Caches that acknowledge a write before the OSDs do.
//!
//! On a connection on which OSDs have a timeout such a write can be lost later without an error.
//! The connection turns the caches off, but an image's or a pool's own configuration can turn them
//! on again.

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::image::Image;

/// The caches, and the values that turn them off.
pub(crate) const CACHES: [(&str, &str); 2] =
    [("rbd_cache", "false"), ("rbd_persistent_cache_mode", "disabled")];

/// An image was not opened since its own configuration turns a cache on.
pub(crate) const CACHED: Errno = Errno::new(libc::EUCLEAN);

impl Image {
    /// Belongs to opening it for writing.
    pub(super) fn refuse_early_acknowledgements(&self) -> RawResult<()> {
        if !self.pool().cluster().has_osd_timeout() {
            return Ok(());
        }
        let options = self.config_options()?;
        let on = |(cache, off): &(&str, &str)| {
            options.iter().any(|option| option.name == *cache && option.value != *off)
        };
        if CACHES.iter().any(on) { Err(CACHED) } else { Ok(()) }
    }
}
