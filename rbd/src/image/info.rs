//! Properties of an open image. librbd caches all of them except the name and the watchers.

use std::time::{Duration, SystemTime};

use super::Image;
use crate::error::{Error, Result};
use crate::features::{Features, Flags, OpFeatures};
use crate::holder::Watcher;
use crate::raw::image::info::When;

/// The size and object layout of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// Size of one object in bytes.
    pub object_size: u64,
    /// Number of objects that the size corresponds to; not all of them exist.
    pub objects: u64,
    /// The object size as a power of two.
    pub order: u8,
    /// The prefix of the data objects' names.
    pub block_name_prefix: String,
}

/// The group of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageGroup {
    /// The id of the group's pool.
    pub pool_id: i64,
    /// The group's name.
    pub name: String,
}

impl Image {
    /// Returns the size, the number of objects and the object size.
    ///
    /// Implements: `rbd_stat`.
    #[doc(alias = "rbd_stat")]
    pub fn stat(&self) -> Result<Stat> {
        let stat = self.bounded_unguarded("read the shape of", || self.object(), move |raw| raw.stat())?;
        Ok(Stat {
            size: stat.size,
            object_size: stat.object_size,
            objects: stat.objects,
            order: u8::try_from(stat.order).unwrap_or(0),
            block_name_prefix: stat.block_name_prefix,
        })
    }

    /// Returns the size in bytes of the image, or of the snapshot that it is opened at. Blocks if
    /// another client has changed the image, while librbd reads it again.
    ///
    /// Implements: `rbd_get_size`.
    #[doc(alias = "rbd_get_size")]
    pub fn size(&self) -> Result<u64> {
        self.bounded_unguarded("read the size of", || self.object(), move |raw| raw.size())
    }

    /// Returns the image's current name. Blocks, because it asks the cluster.
    ///
    /// Implements: `rbd_get_name`.
    #[doc(alias = "rbd_get_name")]
    pub fn name(&self) -> Result<String> {
        self.bounded("read the name of", |raw| raw.name())
    }

    /// Returns the id, which a rename does not change. Empty for an image of format 1.
    ///
    /// Implements: `rbd_get_id`.
    #[doc(alias = "rbd_get_id")]
    pub fn id(&self) -> Result<String> {
        self.call("read the id of", |raw| raw.id())
    }

    /// Returns the prefix of the data objects' names.
    ///
    /// Implements: `rbd_get_block_name_prefix`.
    #[doc(alias = "rbd_get_block_name_prefix")]
    pub fn block_name_prefix(&self) -> Result<String> {
        self.call("read the object prefix of", |raw| raw.block_name_prefix())
    }

    /// Returns whether the image has the old format 1, in which no new images can be created.
    ///
    /// Implements: `rbd_get_old_format`.
    #[doc(alias = "rbd_get_old_format")]
    pub fn is_old_format(&self) -> Result<bool> {
        self.bounded("read the format of", move |raw| raw.is_old_format())
    }

    /// Returns the features.
    ///
    /// Implements: `rbd_get_features`.
    #[doc(alias = "rbd_get_features")]
    pub fn features(&self) -> Result<Features> {
        Ok(Features::from_bits_retain(self.bounded("read the features of", move |raw| raw.features())?))
    }

    /// Returns the operation features: whether the image has clones, is a clone, belongs to a
    /// group, or has snapshots in the trash.
    ///
    /// Implements: `rbd_get_op_features`.
    #[doc(alias = "rbd_get_op_features")]
    pub fn op_features(&self) -> Result<OpFeatures> {
        Ok(OpFeatures::from_bits_retain(
            self.bounded("read the op features of", move |raw| raw.op_features())?,
        ))
    }

    /// Returns the flags, which say whether the object map and the fast-diff data are invalid.
    ///
    /// Implements: `rbd_get_flags`.
    #[doc(alias = "rbd_get_flags")]
    pub fn flags(&self) -> Result<Flags> {
        Ok(Flags::from_bits_retain(self.bounded("read the flags of", move |raw| raw.flags())?))
    }

    /// Returns the stripe unit in bytes, which is the object size if the image is not striped.
    ///
    /// Implements: `rbd_get_stripe_unit`.
    #[doc(alias = "rbd_get_stripe_unit")]
    pub fn stripe_unit(&self) -> Result<u64> {
        self.call("read the stripe unit of", |raw| raw.stripe_unit())
    }

    /// Returns the number of objects in a stripe, which is 1 if the image is not striped.
    ///
    /// Implements: `rbd_get_stripe_count`.
    #[doc(alias = "rbd_get_stripe_count")]
    pub fn stripe_count(&self) -> Result<u64> {
        self.call("read the stripe count of", |raw| raw.stripe_count())
    }

    /// Returns the id of the pool that holds the data: the image's own pool, unless it was created
    /// with a data pool.
    ///
    /// Implements: `rbd_get_data_pool_id`.
    #[doc(alias = "rbd_get_data_pool_id")]
    pub fn data_pool_id(&self) -> Result<i64> {
        self.call("read the data pool of", |raw| raw.data_pool_id())
    }

    /// Returns how many bytes from the start a clone may still read from its parent; 0 if the image
    /// is no clone. With encryption loaded, the header is not counted.
    ///
    /// Implements: `rbd_get_overlap`.
    #[doc(alias = "rbd_get_overlap")]
    pub fn overlap(&self) -> Result<u64> {
        let overlap = |image: &Image| image.bounded("read the overlap of", |raw| raw.overlap());
        if !self.is_encrypted() {
            return overlap(self);
        }
        // Releases differ in whether they count the header.
        Ok(overlap(&self.as_stored()?)?.saturating_sub(self.header_size()))
    }

    /// Returns when the image was created.
    ///
    /// Implements: `rbd_get_create_timestamp`.
    #[doc(alias = "rbd_get_create_timestamp")]
    pub fn created(&self) -> Result<SystemTime> {
        self.time(When::Create)
    }

    /// Returns roughly when the image was last read. librbd updates the time at most once per
    /// `rbd_atime_update_interval`.
    ///
    /// Implements: `rbd_get_access_timestamp`.
    #[doc(alias = "rbd_get_access_timestamp")]
    pub fn accessed(&self) -> Result<SystemTime> {
        self.time(When::Access)
    }

    /// Returns roughly when the image was last written: see [`accessed`](Self::accessed).
    ///
    /// Implements: `rbd_get_modify_timestamp`.
    #[doc(alias = "rbd_get_modify_timestamp")]
    pub fn modified(&self) -> Result<SystemTime> {
        self.time(When::Modify)
    }

    /// Returns the clients that have the image mapped or open for writing, including this one. Asks
    /// the cluster.
    ///
    /// Implements: `rbd_watchers_list`.
    #[doc(alias = "rbd_watchers_list")]
    pub fn watchers(&self) -> Result<Vec<Watcher>> {
        self.bounded("list the watchers of", move |raw| raw.watchers())
    }

    /// Returns the watchers without those of this connection.
    pub fn other_watchers(&self) -> Result<Vec<Watcher>> {
        let own = self.ioctx.cluster().instance_id();
        Ok(self.watchers()?.into_iter().filter(|watcher| watcher.client != own).collect())
    }

    /// Checks that the version which this handle shows was not removed. From its removal on, librbd
    /// reads zeros.
    pub(super) fn check_existence(&self) -> Result<()> {
        if self.read_only {
            let snapshot = self.snapshot().map(str::to_owned);
            return self.bounded("look up", move |raw| raw.check_existence(snapshot.as_deref()));
        }
        // Other clients cannot remove an image that is open for writing.
        if self.snapshot().is_some() { self.size().map(drop) } else { Ok(()) }
    }

    fn time(&self, when: When) -> Result<SystemTime> {
        let time = self.bounded("read the times of", move |raw| raw.time(when))?;
        system_time(time).ok_or_else(|| Error::bad_answer("read the times of", self.object(), STRANGE_TIME))
    }
}

pub(super) const STRANGE_TIME: &str = "this system cannot represent the time that the cluster stores";

/// Converts a C time; `None` if this system cannot represent it.
pub(super) fn system_time(time: libc::timespec) -> Option<SystemTime> {
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    let whole = if time.tv_sec >= 0 {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    };
    whole?.checked_add(Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0)))
}
