//! Calls on single RADOS objects.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::time::{Duration, SystemTime};

use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::names::c_string;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// The RADOS objects of a pool and namespace: see [`IoCtx::objects`].
#[derive(Debug, Clone, Copy)]
pub struct Objects<'a> {
    pub(super) ioctx: &'a IoCtx,
}

/// Size and time of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectStat {
    /// Size in bytes.
    pub size: u64,
    /// When the object was last changed; in whole seconds before Ceph 18.
    pub modified: SystemTime,
}

impl IoCtx {
    /// Returns the group of calls on the RADOS objects of the pool, such as `rbd_directory`,
    /// `rbd_header.ID` and `rbd_data.ID.NUMBER`.
    ///
    /// Use it for inspection. **Changing the objects of an image destroys the image.** You may
    /// store your own objects under other names.
    ///
    /// ```no_run
    /// # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// for object in pool.objects().list()? {
    ///     let name = object?.name;
    ///     println!("{name} {}", pool.objects().stat(&name)?.size);
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn objects(&self) -> Objects<'_> {
        Objects { ioctx: self }
    }
}

impl Objects<'_> {
    /// Returns the size and the modification time of an object.
    ///
    /// Implements: `rados_stat`, `rados_stat2` (Ceph 18.2).
    #[doc(alias = "rados_stat")]
    #[doc(alias = "rados_stat2")]
    pub fn stat(&self, object: &str) -> Result<ObjectStat> {
        let (size, seconds, nanoseconds) = self.call("look up", object, |raw, name| raw.object_stat(name))?;
        let since = Duration::from_secs(seconds.max(0).unsigned_abs())
            .saturating_add(Duration::from_nanos(nanoseconds.max(0).unsigned_abs()));
        let modified = SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(ObjectStat { size, modified })
    }

    /// Reads from an object. Returns the number of bytes read. A read is short only at the end of
    /// the object; past the end it returns 0.
    ///
    /// Implements: `rados_read`.
    #[doc(alias = "rados_read")]
    pub fn read_at(&self, object: &str, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let len = buffer.len();
        let read = move |raw: &RawIoCtx, name: &CStr| {
            let mut data = vec![0; len];
            let read = raw.object_read(name, offset, &mut data)?;
            data.truncate(read);
            Ok(data)
        };
        let data = self.call("read", object, read)?;
        buffer[..data.len()].copy_from_slice(&data);
        Ok(data.len())
    }

    /// Writes to an object, and creates it if it does not exist. The cluster limits an object's
    /// size (128 MiB by default).
    ///
    /// Implements: `rados_write`.
    #[doc(alias = "rados_write")]
    pub fn write_at(&self, object: &str, data: &[u8], offset: u64) -> Result<()> {
        let data = data.to_vec();
        self.call("write", object, move |raw, name| raw.object_write(name, offset, &data))
    }

    /// Replaces all data of an object, and creates it if it does not exist.
    ///
    /// Implements: `rados_write_full`.
    #[doc(alias = "rados_write_full")]
    pub fn write_full(&self, object: &str, data: &[u8]) -> Result<()> {
        let data = data.to_vec();
        self.call("write", object, move |raw, name| raw.object_write_full(name, &data))
    }

    /// Removes an object.
    ///
    /// Implements: `rados_remove`.
    #[doc(alias = "rados_remove")]
    pub fn remove(&self, object: &str) -> Result<()> {
        self.call("remove", object, |raw, name| raw.object_remove(name))
    }

    /// Returns the extended attributes of an object.
    ///
    /// Implements: `rados_getxattrs`, `rados_getxattrs_next`.
    #[doc(alias = "rados_getxattr")]
    #[doc(alias = "rados_getxattrs")]
    #[doc(alias = "rados_getxattrs_next")]
    pub fn attributes(&self, object: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let read = |raw: &RawIoCtx, name: &CStr| raw.object_attributes(name);
        Ok(self.call("read the attributes of", object, read)?.into_iter().collect())
    }

    /// Returns the keys and values of an object, in which RBD stores names, ids and all metadata.
    ///
    /// Implements: `rados_read_op_omap_get_vals2`, `rados_omap_get_next2`.
    #[doc(alias = "rados_read_op_omap_get_vals2")]
    #[doc(alias = "rados_omap_get_next2")]
    pub fn omap(&self, object: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let read = |raw: &RawIoCtx, name: &CStr| raw.omap(name);
        Ok(self.call("read the keys of", object, read)?.into_iter().collect())
    }

    /// Sets keys of an object atomically, and creates it if it does not exist.
    ///
    /// Implements: `rados_write_op_omap_set2`.
    #[doc(alias = "rados_write_op_omap_set2")]
    pub fn set_omap(&self, object: &str, pairs: &[(&[u8], &[u8])]) -> Result<()> {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        self.call("set keys of", object, move |raw, name| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (&**key, &**value)).collect();
            raw.omap_set(name, &pairs)
        })
    }

    /// Removes keys of an object atomically. Ignores missing keys.
    ///
    /// Implements: `rados_write_op_omap_rm_keys2`.
    #[doc(alias = "rados_write_op_omap_rm_keys2")]
    pub fn remove_omap(&self, object: &str, keys: &[&[u8]]) -> Result<()> {
        let keys: Vec<_> = keys.iter().map(|key| key.to_vec()).collect();
        self.call("remove keys of", object, move |raw, name| {
            let keys: Vec<_> = keys.iter().map(|key| &**key).collect();
            raw.omap_remove(name, &keys)
        })
    }

    /// Calls a method of a class that the OSDs have loaded, such as `rbd` or `lock`, with an
    /// encoded input. Returns the encoded answer; a method that changes the object has none.
    ///
    /// A class defines its own encoding. Methods of the class `rbd` that change an object can
    /// destroy the image.
    ///
    /// Blocks. A missing object, class or method and a refusal by the method are errors with the
    /// errno that the OSD returned. If the answer is longer than 512 bytes, the method is called
    /// again.
    ///
    /// Implements: `rados_exec`.
    #[doc(alias = "rados_exec")]
    pub fn execute(&self, object: &str, class: &str, method: &str, input: &[u8]) -> Result<Vec<u8>> {
        let about = || Object::new(ObjectKind::Object, self.ioctx.spec(object));
        let (class, method) = (c_string("call", about, class)?, c_string("call", about, method)?);
        let input = input.to_vec();
        self.call("call a method on", object, move |raw, name| {
            raw.object_execute(name, &class, &method, &input)
        })
    }

    fn call<T>(
        self,
        operation: &'static str,
        object: &str,
        call: impl FnOnce(&RawIoCtx, &CStr) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
    {
        let about = || Object::new(ObjectKind::Object, self.ioctx.spec(object));
        if object.is_empty() {
            return Err(Error::invalid(operation, about(), "the name is empty"));
        }
        let name: CString = c_string(operation, about, object)?;
        self.ioctx.bounded(operation, about, move |raw| call(raw, &name))
    }
}
