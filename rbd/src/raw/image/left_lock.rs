//! Exclusive locks that were not released when their image was closed, because no OSD answered.
//!
//! librbd takes such a lock for that of a living client, namely this one. It neither waits for it
//! nor breaks it, and fails each write. So a connection remembers which locks were not released,
//! and removes one when its image is opened again.

use std::any::Any;
use std::ffi::CString;
use std::sync::Arc;

use crate::raw::RawResult;
use crate::raw::image::Image;

impl Image {
    /// Part of opening an image for writing.
    pub(super) fn prepare_to_write(&self) -> RawResult<()> {
        self.refuse_dangerous_options()?;
        self.drop_left_lock()
    }

    /// Part of opening an image for writing.
    fn drop_left_lock(&self) -> RawResult<()> {
        let (key, cluster) = ((self.pool().id(), self.id()?), self.pool().cluster());
        let handle: Arc<dyn Any + Send + Sync> = Arc::clone(&self.shared) as _;
        if !cluster.writers().opened(&key, Arc::downgrade(&handle)) {
            return Ok(());
        }
        let own = format!("client.{}", cluster.instance_id());
        for (client, cookie, _) in self.lockers()?.lockers {
            // Cookies of the exclusive lock begin so. Other locks are advisory and belong to a
            // user.
            if client == own && cookie.starts_with("auto ") {
                self.unlock(&CString::new(cookie).unwrap_or_default())?;
            }
        }
        cluster.writers().dropped(&key);
        Ok(())
    }
}
