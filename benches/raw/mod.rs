//! Safe wrappers of the C twin, and measurements of this process.

#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::process::Child;
use std::ptr::{self, NonNull};
use std::time::Duration;

use super::work::Work;

#[repr(C)]
struct RawTwin {
    _private: [u8; 0],
}

#[repr(C)]
struct RawWork {
    offsets: *const u64,
    writes: *const u8,
    count: u64,
    block: u64,
    depth: u32,
}

unsafe extern "C" {
    fn twin_open(
        conf: *const c_char,
        pool: *const c_char,
        image: *const c_char,
        queued: c_int,
        osd_timeout: *const c_char,
        out: *mut *mut RawTwin,
    ) -> c_int;
    fn twin_close(twin: *mut RawTwin);
    fn twin_run(twin: *mut RawTwin, work: *const RawWork) -> c_int;
    fn twin_run_blocking(twin: *mut RawTwin, work: *const RawWork) -> c_int;
}

/// An image opened by C, on a separate connection.
pub struct Twin(NonNull<RawTwin>);

impl Twin {
    /// Opens an image, for callbacks or for librbd's queue, with a timeout for OSDs in seconds, or
    /// without one.
    pub fn open(conf: &Path, pool: &str, image: &str, queued: bool, osd_timeout: Option<&str>) -> Twin {
        let text = |text: &str| CString::new(text).expect("no NUL");
        let (conf, pool, image) = (text(conf.to_str().expect("UTF-8")), text(pool), text(image));
        let timeout = osd_timeout.map(text);
        let timeout = timeout.as_ref().map_or(ptr::null(), |text| text.as_ptr());
        let mut twin = ptr::null_mut();
        // SAFETY: strings and out pointer live through the call.
        let code = unsafe {
            twin_open(conf.as_ptr(), pool.as_ptr(), image.as_ptr(), queued.into(), timeout, &raw mut twin)
        };
        assert_eq!(code, 0, "the C twin cannot open the image");
        Twin(NonNull::new(twin).expect("set on success"))
    }

    pub fn run(&mut self, work: &Work) {
        self.call(twin_run, work);
    }

    /// Runs blocking calls. The twin must not have a queue.
    pub fn run_blocking(&mut self, work: &Work) {
        self.call(twin_run_blocking, work);
    }

    fn call(&mut self, run: unsafe extern "C" fn(*mut RawTwin, *const RawWork) -> c_int, work: &Work) {
        let raw = RawWork {
            offsets: work.offsets.as_ptr(),
            writes: work.writes.as_ptr().cast(),
            count: work.offsets.len() as u64,
            block: work.block as u64,
            depth: work.depth as u32,
        };
        assert_eq!(work.offsets.len(), work.writes.len());
        // SAFETY: the twin is open; the arrays have `count` elements, and a bool is a byte of 0 or
        // 1.
        let code = unsafe { run(self.0.as_ptr(), &raw const raw) };
        assert_eq!(code, 0, "the C twin failed");
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // SAFETY: the twin is open, and we own it.
        unsafe { twin_close(self.0.as_ptr()) }
    }
}

/// Returns the processor time of this process so far, in user and system mode, of all threads.
pub fn cpu_time() -> Duration {
    time_of(&usage())
}

/// Returns the peak memory of this process, in bytes.
pub fn peak_memory() -> u64 {
    peak_of(&usage())
}

/// Waits for the end of a child. Returns whether it succeeded, its processor time, and its peak
/// memory in bytes, including its own children.
pub fn wait(child: Child) -> (bool, Duration, u64) {
    let (mut status, mut usage) = (0, zeroed());
    // SAFETY: out pointers live through the call. We own the child, so nothing else waits for it.
    let code = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    assert!(code > 0, "wait4: {}", std::io::Error::last_os_error());
    (libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, time_of(&usage), peak_of(&usage))
}

fn usage() -> libc::rusage {
    let mut usage = zeroed();
    // SAFETY: the out pointer lives through the call.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) }, 0);
    usage
}

fn zeroed() -> libc::rusage {
    // SAFETY: a struct of integers; zeros are valid.
    unsafe { std::mem::zeroed() }
}

fn time_of(usage: &libc::rusage) -> Duration {
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Returns the peak memory. Linux counts it in KiB.
fn peak_of(usage: &libc::rusage) -> u64 {
    usage.ru_maxrss as u64 * 1024
}
