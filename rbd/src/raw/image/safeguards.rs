//! Options that an image must not have when it is opened for writing: they lose writes or abort the
//! process.
//!
//! - librbd's cache with the policy `writearound` forgets a write that fails after its
//!   acknowledgement, unless another write is in flight when the next flush begins (seen with 16.2,
//!   and in the code of 20.2): flush and close return Ok.
//! - With a timeout for OSDs, every cache loses writes without an error.
//! - Closing an image frees librbd's scheduler of writes, and librbd may still use it after that.
//!
//! The connection turns all of this off, but the configuration of an image or its pool can turn it
//! on again.

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::image::Image;

/// The caches, and the values that turn them off.
pub(crate) const CACHES: [(&str, &str); 2] = [(CACHE, "false"), ("rbd_persistent_cache_mode", "disabled")];

/// The option of the cache that can forget writes.
pub(crate) const CACHE: &str = "rbd_cache";
pub(crate) const POLICY: &str = "rbd_cache_policy";
pub(crate) const FORGETFUL: &str = "writearound";

/// The scheduler of writes, and the value that turns it off.
pub(crate) const SCHEDULER: &str = "rbd_io_scheduler";
pub(crate) const NO_SCHEDULER: &str = "none";

/// The image was not opened because its configuration turns a cache on.
pub(crate) const CACHED: Errno = Errno::new(libc::EUCLEAN);
/// The same, for the cache that forgets writes.
pub(crate) const FORGETS: Errno = Errno::new(libc::ENOTUNIQ);
/// The same, for the scheduler.
pub(crate) const SCHEDULED: Errno = Errno::new(libc::ENOTNAM);

impl Image {
    /// Part of opening an image for writing.
    pub(super) fn refuse_dangerous_options(&self) -> RawResult<()> {
        let options = match self.config_options() {
            // librbd could not read this configuration either.
            Err(Errno::EPERM | Errno::EACCES) => return Ok(()),
            options => options?,
        };
        let is = |name: &str, value: &str| {
            options.iter().any(|option| option.name == name && option.value == value)
        };
        let on = |(name, off): &(&str, &str)| {
            options.iter().any(|option| option.name == *name && option.value != *off)
        };
        let cached = CACHES.iter().any(on);
        // librbd makes the caches when it opens the image, so this stays true.
        let _ = self.shared().has_cache.set(cached);
        if cached && self.pool().cluster().osd_timeout().is_some() {
            Err(CACHED)
        } else if is(CACHE, "true") && is(POLICY, FORGETFUL) {
            Err(FORGETS)
        } else if on(&(SCHEDULER, NO_SCHEDULER)) {
            Err(SCHEDULED)
        } else {
            Ok(())
        }
    }
}
