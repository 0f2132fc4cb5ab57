//! What is refused before librbd hears of it, in whichever way an operation is submitted: blocking, as a future, by a queue.

use super::Image;
use crate::errno::Errno;
use crate::error::{Error, Result};
use crate::raw::ffi::version::librbd_version;
use crate::raw::image::io::MOST;

/// What a compare-and-write is called in errors.
pub(crate) const COMPARE: &str = "compare and write";

/// What is done to a range, as errors say it.
pub(crate) fn on_range(operation: &str, offset: u64, len: u64) -> String {
    let bytes = if len == 1 { "byte" } else { "bytes" };
    format!("{operation} {len} {bytes} at offset {offset} of")
}

impl Image {
    /// An asynchronous request that moves data: not more at once than librbd counts, and within the image.
    pub(crate) fn check_data(&self, operation: &'static str, offset: u64, len: u64) -> Result<()> {
        if len > MOST as u64 {
            let why = format!("{len} bytes are more than the 1 GiB that can be moved at once: split it");
            return Err(self.refuse(operation, why));
        }
        self.check_range_now(operation, offset, len)
    }

    /// C counts buffers from 1 to what fits an int.
    pub(crate) fn check_count(&self, operation: &'static str, count: usize) -> Result<()> {
        match count {
            0 => Err(self.refuse(operation, "an empty list of buffers: at least one is needed")),
            count if i32::try_from(count).is_err() => {
                Err(self.refuse(operation, format!("{count} buffers are more than C counts: split it")))
            }
            _ => Ok(()),
        }
    }

    /// The repetitions of a pattern of `unit` bytes must fill the range.
    pub(crate) fn check_pattern(&self, unit: u64, len: u64) -> Result<()> {
        if unit == 0 || unit > MOST as u64 || len % unit != 0 {
            let why = match unit {
                0 => "the pattern is empty: it needs one byte at least".to_owned(),
                _ => format!("a pattern of {unit} bytes does not fill {len} bytes evenly"),
            };
            return Err(self.refuse("write a pattern to", why));
        }
        Ok(())
    }

    /// What is expected and what is written in its place.
    pub(crate) fn check_same_length(&self, expected: u64, data: u64) -> Result<()> {
        if expected == data {
            return Ok(());
        }
        let why =
            format!("{expected} bytes to compare with and {data} to write: both must have the same length");
        Err(self.refuse(COMPARE, why))
    }
}

/// Says of a failed compare-and-write what librbd leaves to be guessed.
pub(crate) fn explain_compare(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EINVAL) => error.with_detail(if librbd_version().minor <= 16 {
            "with librbd 1.16 the range must lie within one sector of 512 bytes"
        } else {
            "the range must lie within one object, of a striped image within one stripe unit"
        }),
        _ => error,
    }
}
