//! Reads that lend librbd's memory to the caller, so that nothing is copied.

use std::ffi::{c_char, c_int, c_void};
use std::ops::ControlFlow;
use std::slice;
use std::time::Duration;

use librbd_sys as sys;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::image::Image;
use crate::raw::op::request::Fault;
use crate::raw::thread::callback::Callback;
use crate::raw::thread::worker::{Reporter, start_reporting};

/// The most bytes of one call of librbd. A shrink of the image waits for a call in progress.
const MOST: u64 = 4 << 20;

/// Stands for data that librbd reports as a hole.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Data of librbd, on its way to the waiting thread. It is valid until that thread has answered.
struct Lent {
    offset: u64,
    start: *const u8,
    len: usize,
}

// SAFETY: the data is only read, and the thread of librbd does not touch it meanwhile.
unsafe impl Send for Lent {}

/// Receives data, and returns whether to continue.
type Each<'a> = &'a mut (dyn FnMut(Lent) -> ControlFlow<()> + Send);

/// The state of one call of librbd.
struct Part<'a> {
    offset: u64,
    done: &'a mut u64,
    /// The image was shorter than the range.
    short: &'a mut bool,
    each: Each<'a>,
}

impl Image {
    /// Reads a range in parts, and calls back on this thread with the offset and the data of each.
    /// Returns `None` if no part arrives within the timeout: the last call of librbd continues in
    /// the background.
    ///
    /// The outer result says whether a thread could be started.
    pub(crate) fn read_each(
        &self,
        offset: u64,
        len: u64,
        timeout: Option<Duration>,
        mut each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> RawResult<Option<Result<(), Fault>>> {
        let raw = self.share();
        let started = start_reporting(move |reporter: Reporter<_, Lent>| {
            let mut lend = |lent| {
                if reporter.is_abandoned() { ControlFlow::Break(()) } else { reporter.report(lent) }
            };
            let mut done = 0;
            while done < len {
                let part = (len - done).min(MOST);
                raw.read_part(offset + done, part, &mut lend)?;
                done += part;
            }
            Ok(())
        })?;
        Ok(started.wait_answering(timeout, |lent| {
            // SAFETY: the thread of librbd waits for this answer, and keeps the data until then.
            each(lent.offset, unsafe { slice::from_raw_parts(lent.start, lent.len) })
        }))
    }

    /// Reads a range within the image in one call.
    fn read_part(&self, offset: u64, len: u64, each: Each<'_>) -> Result<(), Fault> {
        let (_passage, _) = self.pass(offset, len, true)?;
        let (mut done, mut short) = (0, false);
        let part = Part { offset, done: &mut done, short: &mut short, each };
        // SAFETY: the image is open; the callback's state lives through the call, which passes it
        // to `lend` only.
        let result = unsafe {
            Callback::during(part, |arg| sys::rbd_read_iterate2(self.as_ptr(), offset, len, Some(lend), arg))
        };
        match result {
            Err(errno) if !(short && errno == Errno::ECANCELED) => Err(errno.into()),
            _ => self.check_count(offset, len, done as usize, true).map(drop),
        }
    }
}

/// The callback for librbd, which runs on the thread that makes the call.
unsafe extern "C" fn lend(at: u64, len: usize, data: *const c_char, arg: *mut c_void) -> c_int {
    let each = |part: &mut Part<'_>| {
        if len == 0 {
            // librbd would ask again without an end.
            *part.short = true;
            return ControlFlow::Break(());
        }
        let offset = part.offset + at;
        *part.done += len as u64;
        if !data.is_null() {
            return (part.each)(Lent { offset, start: data.cast(), len });
        }
        (0..len).step_by(ZEROS.len()).try_for_each(|from| {
            let len = ZEROS.len().min(len - from);
            (part.each)(Lent { offset: offset + from as u64, start: ZEROS.as_ptr(), len })
        })
    };
    // SAFETY: `read_part` passes a Callback<Part> that outlives the C call.
    unsafe { Callback::enter(arg, each) }
}
