//! A `rbd_image_t`: an open image, and what can be asked of it.

pub(crate) mod aio;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod encryption;
pub(crate) mod io;
pub(crate) mod lineage;
pub(crate) mod locks;
pub(crate) mod metadata;
pub(crate) mod open;
pub(crate) mod quiesce;
pub(crate) mod size;
pub(crate) mod snapshot;
pub(crate) mod snapshot_namespace;
pub(crate) mod watch;

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::holder::Watcher;
use crate::progress::Progress;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{array_string, check, copy_string, grow, grow_string};
use crate::raw::image::open::{Address, Handle};
use crate::raw::image::size::Judge;
use crate::raw::image::watch::Watch;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::in_flight::Lane;
use crate::raw::op::operation::Op;
use crate::raw::thread::exit::settle_operations_of;
use crate::raw::thread::progress::with_progress;
use crate::raw::thread::{in_callback, is_shared, try_apart};

/// An open image that keeps its pool, and by it the cluster, alive. Closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Image {
    /// Null once it was taken over by whoever closes it.
    handle: sys::rbd_image_t,
    /// Goes with the handle: the connection may end with it, which is not for the thread that drops this.
    ioctx: Option<Arc<IoCtx>>,
    /// The asynchronous operations in flight. They point to it; it is freed after they have left.
    lane: Arc<Lane>,
    /// Tells the lane of changes of the header. `None` until the size was learnt.
    header_watch: Option<Watch>,
    /// Dropping it does not wait for the closing.
    background: bool,
}

// SAFETY: librbd's calls on an image may be made from any thread, at the same time.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

/// Whether an image is named by its name or its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Name,
    Id,
}

/// What `rbd_stat` tells, with the text copied out.
#[derive(Debug)]
pub(crate) struct RawStat {
    pub(crate) size: u64,
    pub(crate) object_size: u64,
    pub(crate) objects: u64,
    pub(crate) order: i32,
    pub(crate) block_name_prefix: String,
}

/// The three times of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Create,
    Access,
    Modify,
}

impl Drop for Image {
    fn drop(&mut self) {
        let background = self.background || is_shared();
        let Some(image) = self.take() else { return };
        // Who drops an image cannot hear how the close went; `close` tells.
        if background {
            drop(image.start_close());
        } else {
            let _ = image.close();
        }
    }
}

impl Image {
    /// Takes over a handle, which is open and nobody else's.
    pub(in crate::raw) fn new(handle: sys::rbd_image_t, ioctx: Arc<IoCtx>) -> Image {
        let lane = Arc::new(Lane::new());
        settle_operations_of(&lane);
        Image { handle, ioctx: Some(ioctx), lane, header_watch: None, background: false }
    }

    pub(crate) fn as_ptr(&self) -> sys::rbd_image_t {
        self.handle
    }

    pub(in crate::raw) fn lane(&self) -> &Lane {
        &self.lane
    }

    pub(crate) fn close_in_background(&mut self, background: bool) {
        self.background = background;
    }

    pub(crate) fn closes_in_background(&self) -> bool {
        self.background
    }

    /// Whether its completions go to a queue, so that no others may be submitted.
    pub(crate) fn is_queued(&self) -> bool {
        self.lane.is_queued()
    }

    /// Leaves an empty shell behind, whose drop does nothing.
    fn take(&mut self) -> Option<Handle> {
        let handle = std::mem::replace(&mut self.handle, ptr::null_mut());
        let watch = self.header_watch.take();
        let ioctx = self.ioctx.take()?;
        (!handle.is_null()).then(|| Handle::new(handle, ioctx, Arc::clone(&self.lane), watch))
    }

    /// Closes it after all I/O in flight. Blocks. Must not run on a thread of Ceph's: see [`crate::raw::thread`].
    pub(crate) fn close(mut self) -> RawResult<()> {
        self.take().map_or(Ok(()), Handle::close)
    }

    /// Closes it after all I/O in flight, without waiting for that.
    pub(crate) fn start_close(mut self) -> RawResult<Op<()>> {
        self.take().map_or(Err(Errno::EBADF), Handle::start_close)
    }

    pub(crate) fn open(
        ioctx: Arc<IoCtx>,
        by: By,
        name: &CStr,
        snapshot: Option<&CStr>,
        read_only: bool,
    ) -> RawResult<Image> {
        let mut handle = ptr::null_mut();
        let call = match (by, read_only) {
            (By::Name, false) => sys::rbd_open,
            (By::Name, true) => sys::rbd_open_read_only,
            (By::Id, false) => sys::rbd_open_by_id,
            (By::Id, true) => sys::rbd_open_by_id_read_only,
        };
        let snapshot = snapshot.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the pool handle is valid, strings and out pointer live through the call.
        check(unsafe { call(ioctx.as_ptr(), name.as_ptr(), &raw mut handle, snapshot) })?;
        let mut image = Image::new(handle, ioctx);
        image.learn_size()?;
        Ok(image)
    }

    fn number(
        &self,
        call: unsafe extern "C" fn(sys::rbd_image_t, *mut u64) -> std::ffi::c_int,
    ) -> RawResult<u64> {
        let mut value = 0;
        // SAFETY: the image is open; every function passed here writes one u64.
        check(unsafe { call(self.handle, &raw mut value) })?;
        Ok(value)
    }

    pub(crate) fn size(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_size).map(positive)
    }

    /// Belongs to the opening, and blocks as that does: [`size_for`](Image::size_for) has the answer from here on.
    pub(in crate::raw) fn learn_size(&mut self) -> RawResult<()> {
        let lane = Arc::clone(&self.lane);
        // First, so that no change comes in between.
        self.header_watch = Some(self.watch_updates(move || lane.size().changed())?);
        self.ask_size().map(drop)
    }

    /// A size by which a range with this end can be judged. Only an end beyond the size that is known of waits, where a newer one
    /// may be had: see [`crate::raw::image::size`].
    pub(crate) fn size_for(&self, end: u64) -> RawResult<u64> {
        match self.lane.size().for_end(end) {
            Judge::By(size) => Ok(size),
            Judge::ByOld(size) => {
                self.ask_size_apart();
                Ok(size)
            }
            // librbd would read the header with the threads that call back here.
            Judge::ByWaiting if in_callback() => {
                self.ask_size_apart();
                Err(Errno::EDEADLK)
            }
            Judge::ByWaiting => self.ask_size(),
        }
    }

    /// A call of ours may have changed the size: what is known of it is asked for anew.
    pub(in crate::raw) fn size_changed(&self) {
        // An answer that is under way may be that of before.
        self.lane.size().changed();
        // Without an answer it is asked for later.
        let _ = self.ask_size();
    }

    fn ask_size(&self) -> RawResult<u64> {
        // SAFETY: the image is open.
        unsafe { ask_size(self.handle, &self.lane) }
    }

    /// Has the size asked for in the background. Without a thread for that the next one tries again.
    fn ask_size_apart(&self) {
        if !self.lane.begin_asking() {
            return;
        }
        let (handle, lane) = (Address(self.handle), Arc::clone(&self.lane));
        let begun = try_apart(move || {
            let handle = handle;
            // SAFETY: the image is open until the lane hears of the end.
            unsafe {
                // Without an answer the next one tries again, too.
                let _ = ask_size(handle.0, &lane);
                Lane::end_asking(&raw const *lane);
            }
        });
        if !begun {
            // SAFETY: begun above, and the image has its lane.
            unsafe { Lane::end_asking(&raw const *self.lane) };
        }
    }

    pub(crate) fn features(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_features)
    }

    pub(crate) fn op_features(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_op_features)
    }

    pub(crate) fn flags(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_flags)
    }

    pub(crate) fn stripe_unit(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_stripe_unit)
    }

    pub(crate) fn stripe_count(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_stripe_count)
    }

    pub(crate) fn overlap(&self) -> RawResult<u64> {
        self.number(sys::rbd_get_overlap)
    }

    pub(crate) fn is_old_format(&self) -> RawResult<bool> {
        let mut old = 0_u8;
        // SAFETY: the image is open, the out pointer lives through the call.
        check(unsafe { sys::rbd_get_old_format(self.handle, &raw mut old) })?;
        Ok(old != 0)
    }

    pub(crate) fn data_pool_id(&self) -> RawResult<i64> {
        // SAFETY: the image is open.
        let id = unsafe { sys::rbd_get_data_pool_id(self.handle) };
        if id < 0 { Err(Errno::new(i32::try_from(id).unwrap_or(-libc::EIO))) } else { Ok(id) }
    }

    pub(crate) fn stat(&self) -> RawResult<RawStat> {
        // SAFETY: a struct of integers and a char array; zeros are valid.
        let mut info: sys::rbd_image_info_t = unsafe { std::mem::zeroed() };
        // SAFETY: the image is open; librbd is told the size of the struct.
        check(unsafe { sys::rbd_stat(self.handle, &raw mut info, size_of_val(&info)) })?;
        Ok(RawStat {
            size: positive(info.size),
            object_size: info.obj_size,
            objects: info.num_objs,
            order: info.order,
            block_name_prefix: array_string(&info.block_name_prefix),
        })
    }

    pub(crate) fn time(&self, when: When) -> RawResult<libc::timespec> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let call = match when {
            When::Create => sys::rbd_get_create_timestamp,
            When::Access => sys::rbd_get_access_timestamp,
            When::Modify => sys::rbd_get_modify_timestamp,
        };
        // SAFETY: the image is open; both timespec types are the system's struct timespec.
        check(unsafe { call(self.handle, (&raw mut time).cast()) })?;
        Ok(time)
    }

    pub(crate) fn name(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, mut len: usize| {
            // SAFETY: the buffer has `len` bytes; the length needed comes back in `len`.
            let code = unsafe { sys::rbd_get_name(self.handle, buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(128, fetch) }
    }

    pub(crate) fn id(&self) -> RawResult<String> {
        // SAFETY: the buffer has `len` bytes.
        let fetch =
            |buffer: *mut c_char, len: usize| (unsafe { sys::rbd_get_id(self.handle, buffer, len) }, 0);
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }
    }

    pub(crate) fn block_name_prefix(&self) -> RawResult<String> {
        // SAFETY: the buffer has `len` bytes.
        let fetch = |buffer: *mut c_char, len: usize| unsafe {
            (sys::rbd_get_block_name_prefix(self.handle, buffer, len), 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }
    }

    pub(crate) fn update_features(&self, features: u64, enable: bool) -> RawResult<()> {
        // SAFETY: the image is open.
        check(unsafe { sys::rbd_update_features(self.handle, features, u8::from(enable)) })?;
        Ok(())
    }

    pub(crate) fn resize(&self, size: u64, allow_shrink: bool, progress: Progress<'_>) -> RawResult<()> {
        // SAFETY: the image is open; the progress state lives through the call.
        let resized = with_progress(progress, |report, arg| unsafe {
            sys::rbd_resize2(self.handle, size, allow_shrink, Some(report), arg)
        });
        self.size_changed();
        resized.map(drop)
    }

    pub(crate) fn watchers(&self) -> RawResult<Vec<Watcher>> {
        let fetch = |buffer: *mut sys::rbd_image_watcher_t, mut len: usize| {
            // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
            let code = unsafe { sys::rbd_watchers_list(self.handle, buffer, &raw mut len) };
            (code, len)
        };
        // SAFETY: a struct of a pointer and integers, of which zeros are valid; `fetch` writes at most what it is given.
        let mut raw = unsafe { grow(16, fetch) }?;
        let watchers = raw
            .iter()
            .map(|watcher| Watcher {
                // SAFETY: on success each address is set.
                address: unsafe { copy_string(watcher.addr) },
                client: u64::try_from(watcher.id).unwrap_or(0),
                cookie: watcher.cookie,
            })
            .collect();
        // SAFETY: the addresses are the library's; they are not used after this.
        unsafe { sys::rbd_watchers_list_cleanup(raw.as_mut_ptr(), raw.len()) };
        Ok(watchers)
    }
}

/// Asks for the size, and keeps it with the lane, which is that of the image.
///
/// # Safety
/// The image must be open.
unsafe fn ask_size(image: sys::rbd_image_t, lane: &Lane) -> RawResult<u64> {
    let changes = lane.size().changes();
    let mut size = 0;
    // SAFETY: the image is open, the out pointer lives through the call.
    check(unsafe { sys::rbd_get_size(image, &raw mut size) })?;
    let size = positive(size);
    lane.size().learn(size, changes);
    Ok(size)
}

/// librbd subtracts the encryption header. Where the image has been cut below that, nothing is left, and I/O would abort the
/// process.
fn positive(size: u64) -> u64 {
    if i64::try_from(size).is_ok() { size } else { 0 }
}
