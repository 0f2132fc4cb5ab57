//! The connection to a cluster (`rados_t`).

pub(crate) mod log;
pub(crate) mod service;
pub(in crate::raw) mod writers;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::cluster::log::Log;
use crate::raw::cluster::writers::Writers;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::{check, copy_string, grow_string, grow_strings};
use crate::raw::thread::background::{outside_callback, spawn_detached};
use crate::raw::thread::leave::Connection;
use crate::raw::thread::worker::start;

/// A client of a cluster. It is shut down when it is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    handle: Address<c_void>,
    /// The id of the process that has librados's threads. A fork of it has only the memory.
    process: u32,
    /// Dropped after the handle was shut down.
    open: Option<Connection>,
    /// The file of the client's log. Ceph opens it by the number of its descriptor, also late in
    /// connecting, so it is closed after the handle was shut down.
    log: OnceLock<Log>,
    /// Whether the cluster's log is watched: librados allows one watch for each connection.
    log_watched: AtomicBool,
    writers: Writers,
    /// The timeout of OSDs, if there is one. Set before the first use.
    osd_timeout: OnceLock<Duration>,
    /// How long a call may take before it is given up. Set before the handle is shared.
    call_timeout: Option<Duration>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_forked() {
            return;
        }
        let (handle, open, log) = (self.handle, self.open.take(), self.log.take());
        let shut_down = move || {
            // SAFETY: we own the handle. Everything made from it held a reference to this value, so
            // it is gone. The call also works on a handle that was never connected.
            unsafe { sys::rados_shutdown(handle.get()) }
            drop((open, log));
        };
        // librados waits for its threads, and so for callbacks, which can contain code of the user.
        let Some(timeout) = self.call_timeout else { return outside_callback(shut_down) };
        let shut_down = Arc::new(Mutex::new(Some(shut_down)));
        let shut_down = move || {
            let shut_down = shut_down.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(shut_down) = shut_down {
                shut_down();
            }
        };
        outside_callback(move || match start(shut_down.clone()) {
            Ok(call) => drop(call.wait(Some(timeout))),
            // The pool has no more threads. Without any thread, the connection is leaked.
            Err(_) => spawn_detached(shut_down),
        });
    }
}

/// Usage of a whole cluster as librados counts it.
pub(crate) use sys::rados_cluster_stat_t as ClusterStat;

/// The daemon that receives a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandTarget {
    Monitors,
    Monitor(CString),
    Manager,
    NamedManager(CString),
    Osd(c_int),
    PlacementGroup(CString),
}

impl Cluster {
    pub(crate) fn as_ptr(&self) -> sys::rados_t {
        self.handle.get()
    }

    pub(crate) fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    pub(crate) fn set_call_timeout(&mut self, timeout: Option<Duration>) {
        self.call_timeout = timeout;
    }

    /// Keeps the log open as long as the connection.
    pub(crate) fn keep_log(&self, log: Log) {
        let _ = self.log.set(log);
    }

    pub(crate) fn osd_timeout(&self) -> Option<Duration> {
        self.osd_timeout.get().copied()
    }

    pub(crate) fn set_osd_timeout(&self, timeout: Duration) {
        let _ = self.osd_timeout.set(timeout);
    }

    /// Returns the images that are open for writing.
    pub(in crate::raw) fn writers(&self) -> &Writers {
        &self.writers
    }

    /// Returns whether this process is a fork of the one that connected. The fork leaks the
    /// inherited handles and cannot use them: each call would wait for threads that the fork does
    /// not have.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    pub(in crate::raw) fn log_watched(&self) -> &AtomicBool {
        &self.log_watched
    }

    /// Creates a handle for a user such as `client.admin`. It is not connected yet.
    pub(crate) fn create(cluster_name: &CStr, user: &CStr) -> RawResult<Cluster> {
        let open = Connection::new()?;
        let mut handle = ptr::null_mut();
        // SAFETY: the out pointer and both strings live through the call.
        check(unsafe { sys::rados_create2(&raw mut handle, cluster_name.as_ptr(), user.as_ptr(), 0) })?;
        Ok(Cluster {
            // SAFETY: librados serialises access to it, so any thread may use it.
            handle: unsafe { Address::new(handle) },
            process: std::process::id(),
            open: Some(open),
            log: OnceLock::new(),
            log_watched: AtomicBool::new(false),
            writers: Writers::default(),
            osd_timeout: OnceLock::new(),
            call_timeout: None,
        })
    }

    /// Reads a configuration file. Without a path, reads the file that CEPH_CONF names, or the
    /// default search path.
    pub(crate) fn conf_read_file(&self, path: Option<&CStr>) -> RawResult<()> {
        // SAFETY: the handle is valid, the path is null or a C string.
        check(unsafe { sys::rados_conf_read_file(self.as_ptr(), path.map_or(ptr::null(), CStr::as_ptr)) })?;
        Ok(())
    }

    /// Reads the options in CEPH_ARGS.
    pub(crate) fn conf_parse_env(&self) -> RawResult<()> {
        // SAFETY: the handle is valid; null stands for CEPH_ARGS.
        check(unsafe { sys::rados_conf_parse_env(self.as_ptr(), ptr::null()) })?;
        Ok(())
    }

    pub(crate) fn conf_set(&self, option: &CStr, value: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, both strings live through the call.
        check(unsafe { sys::rados_conf_set(self.as_ptr(), option.as_ptr(), value.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn conf_get(&self, option: &CStr) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes.
            let code = unsafe { sys::rados_conf_get(self.as_ptr(), option.as_ptr(), buffer, len) };
            // librados returns ENAMETOOLONG if the value did not fit.
            (if code == -libc::ENAMETOOLONG { -libc::ERANGE } else { code }, 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(256, fetch) }
    }

    pub(crate) fn connect(&self) -> RawResult<()> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::rados_connect(self.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn fsid(&self) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes.
            (unsafe { sys::rados_cluster_fsid(self.as_ptr(), buffer, len) }.min(0), 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(64, fetch) }
    }

    /// Returns the global id of this client: the number in `client.4123`.
    pub(crate) fn instance_id(&self) -> u64 {
        // SAFETY: the handle is valid and connected.
        unsafe { sys::rados_get_instance_id(self.as_ptr()) }
    }

    /// Returns the addresses of this client in the form that the blocklist takes.
    pub(crate) fn addresses(&self) -> RawResult<String> {
        let mut addresses: *mut c_char = ptr::null_mut();
        // SAFETY: the out pointer lives through the call.
        check(unsafe { sys::rados_getaddrs(self.as_ptr(), &raw mut addresses) })?;
        // SAFETY: on success it is a C string of the library, which we copy and free.
        unsafe {
            let copy = copy_string(addresses);
            sys::rados_buffer_free(addresses);
            Ok(copy)
        }
    }

    /// Sends a command. Returns its output and its status text, or the errno and the status text.
    pub(crate) fn command(
        &self,
        to: &CommandTarget,
        json: &CStr,
        input: &[u8],
    ) -> Result<Vec<u8>, (Errno, String)> {
        let mut argv = [json.as_ptr()];
        let (mut out, mut out_len) = (ptr::null_mut::<c_char>(), 0_usize);
        let (mut said, mut said_len) = (ptr::null_mut::<c_char>(), 0_usize);
        let (input, input_len) = (input.as_ptr().cast(), input.len());
        let (argc, argv) = (argv.len(), argv.as_mut_ptr());
        let (out_to, out_len_to, said_to, said_len_to) =
            (&raw mut out, &raw mut out_len, &raw mut said, &raw mut said_len);
        macro_rules! send {
            ($call:path $(, $target:expr)?) => {
                // SAFETY: all pointers live through the call; the library allocates the outputs or
                // leaves them null.
                unsafe {
                    $call(
                        self.as_ptr(), $($target,)? argv, argc, input, input_len, out_to, out_len_to, said_to, said_len_to,
                    )
                }
            };
        }
        let code = match to {
            CommandTarget::Monitors => send!(sys::rados_mon_command),
            CommandTarget::Monitor(name) => send!(sys::rados_mon_command_target, name.as_ptr()),
            CommandTarget::Manager => send!(sys::rados_mgr_command),
            CommandTarget::NamedManager(name) => send!(sys::rados_mgr_command_target, name.as_ptr()),
            CommandTarget::Osd(number) => send!(sys::rados_osd_command, *number),
            CommandTarget::PlacementGroup(id) => send!(sys::rados_pg_command, id.as_ptr()),
        };
        // SAFETY: the buffers are null or hold the reported lengths; taken once each.
        let (out, said) = unsafe { (take_buffer(out, out_len), take_buffer(said, said_len)) };
        match check(code) {
            Ok(_) => Ok(out),
            Err(errno) => Err((errno, String::from_utf8_lossy(&said).trim().to_owned())),
        }
    }

    pub(crate) fn pools(&self) -> RawResult<Vec<String>> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes. The call returns the length it needs, and ends
            // the list with an empty name.
            let needed = unsafe { sys::rados_pool_list(self.as_ptr(), buffer, len) };
            match usize::try_from(needed) {
                Ok(needed) if needed > len => (-libc::ERANGE, needed),
                Ok(needed) => (0, needed),
                Err(_) => (needed, 0),
            }
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_strings(1024, fetch) }
    }

    pub(crate) fn pool_lookup(&self, name: &CStr) -> RawResult<i64> {
        // SAFETY: the handle is valid, the name lives through the call.
        let id = unsafe { sys::rados_pool_lookup(self.as_ptr(), name.as_ptr()) };
        if id < 0 { Err(Errno::new(i32::try_from(id).unwrap_or(-libc::EIO))) } else { Ok(id) }
    }

    pub(crate) fn pool_name(&self, id: i64) -> RawResult<String> {
        let fetch = |buffer: *mut c_char, len: usize| {
            // SAFETY: the buffer has `len` bytes.
            (unsafe { sys::rados_pool_reverse_lookup(self.as_ptr(), id, buffer, len) }.min(0), 0)
        };
        // SAFETY: `fetch` writes at most the length it is given.
        unsafe { grow_string(128, fetch) }
    }

    pub(crate) fn pool_create(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rados_pool_create(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn pool_delete(&self, name: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the name lives through the call.
        check(unsafe { sys::rados_pool_delete(self.as_ptr(), name.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn stat(&self) -> RawResult<ClusterStat> {
        let mut stat = ClusterStat { kb: 0, kb_used: 0, kb_avail: 0, num_objects: 0 };
        // SAFETY: the out pointer lives through the call.
        check(unsafe { sys::rados_cluster_stat(self.as_ptr(), &raw mut stat) })?;
        Ok(stat)
    }

    /// Fences a client. 0 seconds mean the cluster's default (one hour).
    pub(crate) fn blocklist_add(&self, address: &CStr, seconds: u32) -> RawResult<()> {
        // SAFETY: the handle is valid. The C function takes a mutable string, but librados only
        // copies it.
        check(unsafe { sys::rados_blocklist_add(self.as_ptr(), address.as_ptr().cast_mut(), seconds) })?;
        Ok(())
    }

    /// Waits until this client knows the newest OSD map.
    pub(crate) fn wait_for_latest_osdmap(&self) -> RawResult<()> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::rados_wait_for_latest_osdmap(self.as_ptr()) })?;
        Ok(())
    }
}

/// Copies a buffer of the library and frees it.
///
/// # Safety
/// `buffer` must be null, or a buffer of librados with `len` bytes, not yet freed.
unsafe fn take_buffer(buffer: *mut c_char, len: usize) -> Vec<u8> {
    if buffer.is_null() {
        return Vec::new();
    }
    // SAFETY: not null, so it has `len` bytes and is ours to free.
    unsafe {
        let copy = std::slice::from_raw_parts(buffer.cast::<u8>(), len).to_vec();
        sys::rados_buffer_free(buffer);
        copy
    }
}
