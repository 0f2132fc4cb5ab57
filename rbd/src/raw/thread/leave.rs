//! The end of a process that has a connection.
//!
//! Ceph's threads go on while an exiting process destroys the statics of its libraries, and crash
//! if they touch one. With Ceph 20.2, each thread that sends a message touches one: the counters of
//! its buffers. So with an open connection, the process ends right before these destructors.
//! Without a connection they run, and from then on no connection can be opened.

#[cfg(target_env = "gnu")]
use std::ffi::{c_int, c_void};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::thread::openssl;

/// How long the buffers of C's files may take to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The id of a process in the upper half, and the number of its connections in the lower one, or
/// [`CLOSED`]. A fork has another id, and none of the threads.
static OPEN: AtomicU64 = AtomicU64::new(0);

/// In place of the number: the destructors run, so that no connection may begin.
const CLOSED: u64 = u32::MAX as u64;

/// Whether the status will be stored. A fork inherits the registration.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The exit status, once the exit has begun.
static STATUS: AtomicI32 = AtomicI32::new(NONE);
const NONE: i32 = i32::MIN;

/// A connection whose threads may run.
#[derive(Debug)]
pub(crate) struct Connection(u32);

impl Connection {
    /// Must be called before Ceph is called for the connection. Fails if the destructors run.
    pub(crate) fn new() -> RawResult<Connection> {
        openssl::keep_until_the_end();
        if !REGISTERED.swap(true, Ordering::Relaxed) {
            remember_the_status();
        }
        let own = process::id();
        let add = |open| match number(open, own) {
            0 => Some(with(own, 1)),
            CLOSED => None,
            _ => Some(open + 1),
        };
        match OPEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
            Ok(_) => Ok(Connection(own)),
            Err(_) => Err(Errno::ECONNABORTED),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = OPEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (number(open, self.0) > 0).then(|| open - 1)
        });
    }
}

/// Returns the number of connections of this process.
fn number(open: u64, own: u32) -> u64 {
    if open >> 32 == u64::from(own) { open & u64::from(u32::MAX) } else { 0 }
}

fn with(own: u32, number: u64) -> u64 {
    u64::from(own) << 32 | number
}

/// Forbids connections. Returns false if one is open.
fn close() -> bool {
    let own = process::id();
    let close = |open| (number(open, own) == 0).then(|| with(own, CLOSED));
    OPEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, close).is_ok()
}

/// Has the exit status stored when the exit begins.
#[cfg(target_env = "gnu")]
fn remember_the_status() {
    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), data: *mut c_void) -> c_int;
    }
    extern "C" fn remember(status: c_int, _: *mut c_void) {
        STATUS.store(status, Ordering::Release);
    }
    // SAFETY: the function may run at any time, also twice.
    let _ = unsafe { on_exit(remember, ptr::null_mut()) };
}

/// Other C libraries do not tell the status, so there the destructors run.
#[cfg(not(target_env = "gnu"))]
fn remember_the_status() {}

/// The loader calls this after the exit handlers of the program, and before the destructors of the
/// libraries that this code needs. LeakSanitizer looks for leaks later, so it goes without.
#[cfg(not(sanitizer_canary))]
#[used]
// SAFETY: the section has pointers to functions like this one.
#[unsafe(link_section = ".fini_array")]
static LEAVE: extern "C" fn() = leave;

#[cfg_attr(sanitizer_canary, allow(dead_code))]
extern "C" fn leave() {
    let status = STATUS.load(Ordering::Acquire);
    // Without a status, a library that contains this crate is being unloaded.
    if status == NONE || close() {
        return;
    }
    write_files();
    // SAFETY: it ends the process.
    unsafe { libc::_exit(status) }
}

/// Writes the buffers of C's files, as the rest of the exit would. Another thread may hold a file
/// locked while it waits for input, so the wait has a limit.
fn write_files() {
    let written = Arc::new((Mutex::new(false), Condvar::new()));
    let tell = written.clone();
    let writer = thread::Builder::new().spawn(move || {
        // SAFETY: null stands for all files.
        unsafe { libc::fflush(ptr::null_mut()) };
        *tell.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        tell.1.notify_all();
    });
    if writer.is_ok() {
        let done = written.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(written.1.wait_timeout_while(done, PATIENCE, |done| !*done));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::raw::thread::fork::{alone, in_fork};

    #[test]
    fn a_fork_has_no_connections() {
        let own = process::id();
        let open = with(own, 3);
        assert_eq!(number(open, own), 3);
        assert_eq!(number(open, own + 1), 0);
    }

    #[test]
    fn nothing_connects_once_the_destructors_run() {
        if !alone(concat!(module_path!(), "::nothing_connects_once_the_destructors_run")) {
            return;
        }
        let one = Connection::new().unwrap();
        let two = Connection::new().unwrap();
        drop(one);
        assert!(!close());
        drop(two);
        assert!(close());
        assert_eq!(Connection::new().unwrap_err(), Errno::ECONNABORTED);
        // A fork may connect.
        assert!(in_fork(|| Connection::new().is_ok()));
    }
}
