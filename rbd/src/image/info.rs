//! What can be asked of an open image. None of it blocks for long: librbd keeps the answers, except
//! for the watchers.

use std::time::{Duration, SystemTime};

use super::Image;
use crate::error::{Error, Result};
use crate::features::{Features, Flags, OpFeatures};
use crate::holder::Watcher;
use crate::raw::image::info::When;

/// The shape of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// Size of one object in bytes.
    pub object_size: u64,
    /// Number of objects that the size amounts to; not all of them exist.
    pub objects: u64,
    /// The object size as a power of two.
    pub order: u8,
    /// What the names of the data objects begin with.
    pub block_name_prefix: String,
}

impl Image {
    /// Size, objects and object size.
    ///
    /// Implements: `rbd_stat`.
    #[doc(alias = "rbd_stat")]
    pub fn stat(&self) -> Result<Stat> {
        let stat = self.bounded("read the shape of", move |raw| raw.stat())?;
        Ok(Stat {
            size: stat.size,
            object_size: stat.object_size,
            objects: stat.objects,
            order: u8::try_from(stat.order).unwrap_or(0),
            block_name_prefix: stat.block_name_prefix,
        })
    }

    /// The size in bytes; of the snapshot, when it is opened at one. Blocks where the image has
    /// been changed by another client, while librbd reads it again.
    ///
    /// Implements: `rbd_get_size`.
    #[doc(alias = "rbd_get_size")]
    pub fn size(&self) -> Result<u64> {
        self.bounded("read the size of", move |raw| raw.size())
    }

    /// Returns the name that the image has now. Blocks: it asks the pool.
    ///
    /// Implements: `rbd_get_name`.
    #[doc(alias = "rbd_get_name")]
    pub fn name(&self) -> Result<String> {
        self.bounded("read the name of", |raw| raw.name())
    }

    /// The id, which a rename does not change.
    ///
    /// Implements: `rbd_get_id`.
    #[doc(alias = "rbd_get_id")]
    pub fn id(&self) -> Result<String> {
        self.call("read the id of", |raw| raw.id())
    }

    /// What the names of the data objects begin with.
    ///
    /// Implements: `rbd_get_block_name_prefix`.
    #[doc(alias = "rbd_get_block_name_prefix")]
    pub fn block_name_prefix(&self) -> Result<String> {
        self.call("read the object prefix of", |raw| raw.block_name_prefix())
    }

    /// Whether it is of the old format 1, which cannot be created any more.
    ///
    /// Implements: `rbd_get_old_format`.
    #[doc(alias = "rbd_get_old_format")]
    pub fn is_old_format(&self) -> Result<bool> {
        self.bounded("read the format of", move |raw| raw.is_old_format())
    }

    /// The features.
    ///
    /// Implements: `rbd_get_features`.
    #[doc(alias = "rbd_get_features")]
    pub fn features(&self) -> Result<Features> {
        Ok(Features::from_bits_retain(self.bounded("read the features of", move |raw| raw.features())?))
    }

    /// The operations it takes part in.
    ///
    /// Implements: `rbd_get_op_features`.
    #[doc(alias = "rbd_get_op_features")]
    pub fn op_features(&self) -> Result<OpFeatures> {
        Ok(OpFeatures::from_bits_retain(
            self.bounded("read the op features of", move |raw| raw.op_features())?,
        ))
    }

    /// Whether its object map and fast-diff data can be trusted.
    ///
    /// Implements: `rbd_get_flags`.
    #[doc(alias = "rbd_get_flags")]
    pub fn flags(&self) -> Result<Flags> {
        Ok(Flags::from_bits_retain(self.bounded("read the flags of", move |raw| raw.flags())?))
    }

    /// The stripe unit in bytes; the object size, when it is not striped.
    ///
    /// Implements: `rbd_get_stripe_unit`.
    #[doc(alias = "rbd_get_stripe_unit")]
    pub fn stripe_unit(&self) -> Result<u64> {
        self.call("read the stripe unit of", |raw| raw.stripe_unit())
    }

    /// The number of objects a stripe runs over; 1, when it is not striped.
    ///
    /// Implements: `rbd_get_stripe_count`.
    #[doc(alias = "rbd_get_stripe_count")]
    pub fn stripe_count(&self) -> Result<u64> {
        self.call("read the stripe count of", |raw| raw.stripe_count())
    }

    /// The id of the pool that holds its data; the image's own pool, unless it was created with a
    /// data pool.
    ///
    /// Implements: `rbd_get_data_pool_id`.
    #[doc(alias = "rbd_get_data_pool_id")]
    pub fn data_pool_id(&self) -> Result<i64> {
        self.call("read the data pool of", |raw| raw.data_pool_id())
    }

    /// How many bytes from the start may still come from the parent, for a clone; else 0. With
    /// encryption loaded they are counted from behind the header.
    ///
    /// Implements: `rbd_get_overlap`.
    #[doc(alias = "rbd_get_overlap")]
    pub fn overlap(&self) -> Result<u64> {
        let overlap = |image: &Image| image.bounded("read the overlap of", |raw| raw.overlap());
        if !self.is_encrypted() {
            return overlap(self);
        }
        // Releases differ in whether they count the header.
        Ok(overlap(&self.as_stored()?)?.saturating_sub(self.header_size()?))
    }

    /// When it was created.
    ///
    /// Implements: `rbd_get_create_timestamp`.
    #[doc(alias = "rbd_get_create_timestamp")]
    pub fn created(&self) -> Result<SystemTime> {
        self.time(When::Create)
    }

    /// When it was last read, roughly: the time is written at most once in a while
    /// (`rbd_atime_update_interval`).
    ///
    /// Implements: `rbd_get_access_timestamp`.
    #[doc(alias = "rbd_get_access_timestamp")]
    pub fn accessed(&self) -> Result<SystemTime> {
        self.time(When::Access)
    }

    /// When it was last written, roughly: see [`accessed`](Self::accessed).
    ///
    /// Implements: `rbd_get_modify_timestamp`.
    #[doc(alias = "rbd_get_modify_timestamp")]
    pub fn modified(&self) -> Result<SystemTime> {
        self.time(When::Modify)
    }

    /// The clients that have it open for writing or mapped, this one included. Asks the cluster.
    ///
    /// Implements: `rbd_watchers_list`.
    #[doc(alias = "rbd_watchers_list")]
    pub fn watchers(&self) -> Result<Vec<Watcher>> {
        self.bounded("list the watchers of", move |raw| raw.watchers())
    }

    /// The watchers without those of this connection.
    pub fn other_watchers(&self) -> Result<Vec<Watcher>> {
        let own = self.ioctx.cluster().instance_id();
        Ok(self.watchers()?.into_iter().filter(|watcher| watcher.client != own).collect())
    }

    fn time(&self, when: When) -> Result<SystemTime> {
        let time = self.bounded("read the times of", move |raw| raw.time(when))?;
        system_time(time).ok_or_else(|| {
            Error::invalid("read the times of", self.object(), "the time does not exist in this system")
        })
    }
}

/// A time of C's; `None` where the system's clock cannot hold it.
pub(super) fn system_time(time: libc::timespec) -> Option<SystemTime> {
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let whole = if time.tv_sec >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    };
    whole?.checked_add(Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)))
}
