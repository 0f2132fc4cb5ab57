//! Pool handles (`rados_ioctx_t`): a pool and a namespace in it.

pub(crate) mod application;
pub(crate) mod deleted;
pub(crate) mod stats;
pub(crate) mod trash;
pub(in crate::raw) mod watch;

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::cluster::Cluster;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::{check, copy_string, grow, grow_string, grow_strings};
use crate::raw::ffi::options::ImageOptions;
use crate::raw::op::answer::Stored;
use crate::raw::thread::progress::with_progress;

/// A pool handle. It keeps its cluster alive. The namespace is set before the handle is shared, and
/// never changes.
#[derive(Debug)]
pub(crate) struct IoCtx {
    handle: Address<c_void>,
    /// Keeps the cluster connected.
    cluster: Arc<Cluster>,
}

impl Drop for IoCtx {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        // SAFETY: we own the handle. Open images are not affected, because librbd keeps its own
        // copies. The call only drops references, so Ceph's threads may make it.
        unsafe { sys::rados_ioctx_destroy(self.as_ptr()) }
    }
}

/// Usage of one pool as librados counts it.
pub(crate) use sys::rados_pool_stat_t as PoolStat;

impl IoCtx {
    /// See [`Cluster::is_forked`].
    pub(crate) fn is_forked(&self) -> bool {
        self.cluster.is_forked()
    }

    pub(crate) fn as_ptr(&self) -> sys::rados_ioctx_t {
        self.handle.get()
    }

    /// Returns the id of the pool.
    pub(crate) fn id(&self) -> i64 {
        // SAFETY: the handle is valid.
        unsafe { sys::rados_ioctx_get_id(self.as_ptr()) }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn open(cluster: Arc<Cluster>, pool_id: i64, namespace: &CStr) -> RawResult<IoCtx> {
        let mut handle = ptr::null_mut();
        // SAFETY: the cluster handle is valid, the out pointer lives through the call.
        check(unsafe { sys::rados_ioctx_create2(cluster.as_ptr(), pool_id, &raw mut handle) })?;
        // SAFETY: librados lets any thread use it, with two exceptions. Calls that change it
        // (namespace, locator, snapshot) are made only here and in `open_when_full`. Requests write
        // the version of the last object without a lock, and this crate never reads it.
        let ioctx = IoCtx { handle: unsafe { Address::new(handle) }, cluster };
        // SAFETY: the handle is not shared yet; the string is copied.
        unsafe { sys::rados_ioctx_set_namespace(ioctx.as_ptr(), namespace.as_ptr()) };
        Ok(ioctx)
    }

    /// Opens another pool, with the same namespace.
    pub(in crate::raw) fn sibling(&self, pool_id: i64) -> RawResult<IoCtx> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes.
            let code = unsafe { sys::rados_ioctx_get_namespace(self.as_ptr(), buffer, len as u32) };
            (code.min(0), 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        let namespace = unsafe { grow_string(128, fetch) }?;
        let namespace = CString::new(namespace).map_err(|_| Errno::EINVAL)?;
        IoCtx::open(Arc::clone(&self.cluster), pool_id, &namespace)
    }

    /// Like [`open`](IoCtx::open), for calls that free space: their requests are carried out even
    /// if the pool or the cluster is full.
    pub(crate) fn open_when_full(cluster: Arc<Cluster>, pool_id: i64, namespace: &CStr) -> RawResult<IoCtx> {
        let ioctx = IoCtx::open(cluster, pool_id, namespace)?;
        // SAFETY: the handle is valid, and not shared yet.
        unsafe { sys::rados_set_pool_full_try(ioctx.as_ptr()) };
        Ok(ioctx)
    }

    pub(crate) fn pool_name(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes.
            let code = unsafe { sys::rados_ioctx_get_pool_name(self.as_ptr(), buffer, len as u32) };
            (code.min(0), 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(128, fetch) }
    }

    pub(crate) fn pool_stat(&self) -> RawResult<PoolStat> {
        // SAFETY: a struct of integers; all zeros are valid.
        let mut stat: PoolStat = unsafe { std::mem::zeroed() };
        // SAFETY: the out pointer lives through the call.
        check(unsafe { sys::rados_ioctx_pool_stat(self.as_ptr(), &raw mut stat) })?;
        Ok(stat)
    }

    pub(crate) fn pool_init(&self, force: bool) -> RawResult<()> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::rbd_pool_init(self.as_ptr(), force) })?;
        Ok(())
    }

    pub(crate) fn namespace_create(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rbd_namespace_create(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn namespace_remove(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rbd_namespace_remove(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn namespace_exists(&self, name: &CStr) -> RawResult<bool> {
        let mut exists = false;
        // SAFETY: the handle is valid, name and out pointer live through the call.
        check(unsafe { sys::rbd_namespace_exists(self.as_ptr(), name.as_ptr(), &raw mut exists) })?;
        Ok(exists)
    }

    pub(crate) fn namespaces(&self) -> RawResult<Vec<String>> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed or used comes back in `len`.
            let code = unsafe { sys::rbd_namespace_list(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_strings(1024, fetch) }
    }

    /// Returns the id and name of each image.
    pub(crate) fn images(&self) -> RawResult<Vec<(String, String)>> {
        let fetch = |buffer: *mut sys::rbd_image_spec_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
            let code = unsafe { sys::rbd_list2(self.as_ptr(), buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: a struct of two pointers; all zeros are valid; `fetch` writes at most as many
        // elements as it is given.
        let mut specs = unsafe { grow(128, fetch) }?;
        // SAFETY: on success both strings of each are set.
        let images =
            specs.iter().map(|spec| unsafe { (copy_string(spec.id), copy_string(spec.name)) }).collect();
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe { sys::rbd_image_spec_list_cleanup(specs.as_mut_ptr(), specs.len()) };
        Ok(images)
    }

    /// Returns the name of the image with this id, from the pool's directory. Images in the trash
    /// are not listed there.
    pub(crate) fn image_name(&self, id: &CStr) -> RawResult<String> {
        // Ceph encodes a text as its length in 4 bytes, followed by the text. A request, and
        // thereby a name, is always shorter than 4 GiB.
        let id = id.to_bytes();
        let mut input = u32::try_from(id.len()).map_err(|_| Errno::EINVAL)?.to_le_bytes().to_vec();
        input.extend_from_slice(id);
        self.ask_rbd_class_for_text(c"rbd_directory", c"dir_get_name", &input)
    }

    /// Returns the id in the object of an image's name, `rbd_id.NAME`.
    pub(crate) fn image_id(&self, object: &CStr) -> RawResult<String> {
        self.ask_rbd_class_for_text(object, c"get_id", &[])
    }

    /// The size in an image's header object, `rbd_header.ID`, of the image or of a snapshot. Fails
    /// with `ENOENT` if that does not exist.
    pub(crate) fn stored(&self, object: &CStr, snapshot: Option<u64>) -> RawResult<Stored> {
        const HEAD: u64 = u64::MAX - 1;
        let answer = self.ask_rbd_class(object, c"get_size", &snapshot.unwrap_or(HEAD).to_le_bytes())?;
        let (order, size) = answer.split_first().ok_or(Errno::EBADMSG)?;
        let size = u64::from_le_bytes(*size.first_chunk().ok_or(Errno::EBADMSG)?);
        Ok(Stored { size, order: *order })
    }

    /// Calls a method of the OSDs' class `rbd` that returns a text.
    fn ask_rbd_class_for_text(&self, object: &CStr, method: &CStr, input: &[u8]) -> RawResult<String> {
        let output = self.ask_rbd_class(object, method, input)?;
        let (len, text) = output.split_first_chunk::<4>().ok_or(Errno::EBADMSG)?;
        let text = text.get(..u32::from_le_bytes(*len) as usize).ok_or(Errno::EBADMSG)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Calls a method of the OSDs' class `rbd`.
    fn ask_rbd_class(&self, object: &CStr, method: &CStr, input: &[u8]) -> RawResult<Vec<u8>> {
        self.object_execute(object, c"rbd", method, input)
    }

    pub(crate) fn create(&self, name: &CStr, size: u64, options: &ImageOptions) -> RawResult<()> {
        // SAFETY: handle and options are valid, the name lives through the call.
        check(unsafe { sys::rbd_create4(self.as_ptr(), name.as_ptr(), size, options.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn remove(&self, name: &CStr, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: handle, name and the progress state live through the call.
        unsafe {
            with_progress(progress, |report, arg| {
                sys::rbd_remove_with_progress(self.as_ptr(), name.as_ptr(), Some(report), arg)
            })
        }?;
        Ok(())
    }
}
