//! Exclusive locks that stayed when their image was closed, since no OSD took the release.
//!
//! librbd takes such a lock for that of a client that is alive: this one. It neither waits for it
//! nor breaks it, and fails each write. So a connection keeps in mind which locks stayed, and drops
//! one when the image is opened anew.

use std::any::Any;
use std::ffi::CString;
use std::sync::Arc;

use crate::raw::RawResult;
use crate::raw::image::Image;

impl Image {
    /// Belongs to opening it for writing.
    pub(super) fn prepare_to_write(&self) -> RawResult<()> {
        self.refuse_early_acknowledgements()?;
        self.drop_left_lock()
    }

    /// Belongs to opening it for writing.
    fn drop_left_lock(&self) -> RawResult<()> {
        let (key, cluster) = ((self.pool().id(), self.id()?), self.pool().cluster());
        let handle: Arc<dyn Any + Send + Sync> = Arc::clone(&self.shared) as _;
        if !cluster.writers().opened(&key, Arc::downgrade(&handle)) {
            return Ok(());
        }
        let own = format!("client.{}", cluster.instance_id());
        for (client, cookie, _) in self.lockers()?.lockers {
            // Those of the exclusive lock begin so; an advisory lock is a user's.
            if client == own && cookie.starts_with("auto ") {
                self.unlock(&CString::new(cookie).unwrap_or_default())?;
            }
        }
        cluster.writers().dropped(&key);
        Ok(())
    }
}
