//! Checks of requests before librbd gets them, and explanations of its failures. They serve
//! blocking calls, futures and queues.

use std::borrow::Cow;

use super::{Image, Label};
use crate::buffer::Buffer;
use crate::buffer::total;
use crate::cluster::bounded::IN_CALLBACK;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::raw::ffi::late::{Failure, library_of};
use crate::raw::ffi::version::librbd_version;
use crate::raw::image::io::MOST;
use crate::raw::op::answer::{Cause, needs_cause};
use crate::raw::op::kind::Kind;
use crate::raw::op::request::{Fault, Request};

/// Returns the text for an operation on a range in errors.
pub(crate) fn on_range(operation: &str, offset: u64, len: u64) -> String {
    let bytes = if len == 1 { "byte" } else { "bytes" };
    format!("{operation} {len} {bytes} at offset {offset} of")
}

impl Image {
    /// Checks an asynchronous request. Compares its range with the size that is known: see
    /// [`check_range_now`](Self::check_range_now).
    pub(crate) fn check(&self, request: &Request) -> Result<()> {
        let (kind, len) = (request.kind, request.len);
        match &request.buffer {
            _ if kind == Kind::Flush => return Ok(()),
            Buffer::BytesVec(list) => self.check_count(kind, list.len())?,
            Buffer::BytesMutVec(list) => self.check_count(kind, list.len())?,
            Buffer::Compare { expected, .. } => self.check_same_length(expected.len() as u64, len)?,
            Buffer::CompareVec { expected, data } => {
                self.check_count(kind, expected.len())?;
                self.check_count(kind, data.len())?;
                self.check_same_length(total(expected), len)?;
            }
            pattern if kind == Kind::WriteSame => {
                self.check_pattern(pattern.one().map_or(0, |bytes| bytes.len() as u64), len)?;
            }
            _ => {}
        }
        if kind.moves_data() && len > MOST as u64 {
            let why = format!("{len} bytes exceed the limit of 1 GiB per request; split the request");
            return Err(self.refuse(kind.name(), why));
        }
        self.check_range_now(kind, request.offset, len)
    }

    /// Checks the number of buffers, which C counts with an int.
    pub(crate) fn check_count(&self, kind: Kind, count: usize) -> Result<()> {
        match count {
            0 => Err(self.refuse(kind.name(), "the list of buffers is empty; pass at least one buffer")),
            count if i32::try_from(count).is_err() => Err(self.refuse(
                kind.name(),
                format!(
                    "{count} buffers exceed the limit of one request; split the \
                    request"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that repetitions of a pattern of `unit` bytes fill the range.
    pub(crate) fn check_pattern(&self, unit: u64, len: u64) -> Result<()> {
        if unit == 0 || unit > MOST as u64 || len % unit != 0 {
            let why = match unit {
                0 => "the pattern is empty; pass at least one byte".to_owned(),
                _ if unit > MOST as u64 => {
                    format!("a pattern of {unit} bytes exceeds the limit of 1 GiB; write the data itself")
                }
                _ => format!("the length {len} is not a multiple of the pattern's {unit} bytes"),
            };
            return Err(self.refuse(Kind::WriteSame.name(), why));
        }
        Ok(())
    }

    /// Checks that expected and new data have the same length.
    pub(crate) fn check_same_length(&self, expected: u64, data: u64) -> Result<()> {
        if expected == data {
            return Ok(());
        }
        let why =
            format!("{expected} bytes to compare with and {data} to write: both must have the same length");
        Err(self.refuse(Kind::CompareAndWrite.name(), why))
    }

    /// Checks that a range lies within the image: librbd would truncate it silently or return
    /// EINVAL. Asks librbd for the size, unless the range lies within the known size. Blocks.
    pub(crate) fn check_range(&self, kind: Kind, offset: u64, len: u64) -> Result<()> {
        let known = self.raw().fresh_size().filter(|size| {
            !self.raw().is_forked() && offset.checked_add(len).is_some_and(|end| end <= *size)
        });
        let size = known.map_or_else(|| self.size_for_io(kind.name()), Ok)?;
        self.check_against(size, kind, offset, len)
    }

    /// Checks a range as [`check_range`](Self::check_range) does, but without waiting for the
    /// cluster. After a change by another client, the check happens later, when the size is known.
    pub(crate) fn check_range_now(&self, kind: Kind, offset: u64, len: u64) -> Result<()> {
        match self.raw().fresh_size() {
            Some(size) => self.check_against(size, kind, offset, len),
            None => self.check_against(u64::MAX, kind, offset, len),
        }
    }

    fn check_against(&self, size: u64, kind: Kind, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= size) {
            return Ok(());
        }
        Err(failure(self.label(), kind, (offset, len), Fault::Cut(size)))
    }

    /// Returns a size for checking a range with this end: see
    /// [`check_range_now`](Self::check_range_now).
    #[cfg_attr(not(feature = "tokio"), allow(dead_code))]
    pub(crate) fn size_now(&self, end: u64) -> Result<u64> {
        self.raw().size_for(end).map_err(|errno| {
            let error = Error::new("read the size of", self.object(), errno);
            match errno {
                Errno::EDEADLK => error.with_detail(
                    "another client has changed it, and a callback or wake on a thread of librbd \
                     cannot wait for the size; submit the request on another thread, or later",
                ),
                _ => error,
            }
        })
    }

    /// Explains a failure of a blocking call. Asks the cluster if needed. Blocks.
    pub(crate) fn explain_failure(&self, kind: Kind, offset: u64, len: u64, fault: Fault) -> Error {
        let fault = match fault {
            Fault::Failed(Failure::Errno(Errno::EINVAL)) => {
                if let Err(error) = self.check_range(kind, offset, len) {
                    return error;
                }
                fault
            }
            Fault::Failed(Failure::Errno(errno)) if needs_cause(errno) => {
                match self.cause().filter(|cause| cause.explains(errno)) {
                    Some(cause) => Fault::Caused(errno, cause),
                    None => fault,
                }
            }
            fault => fault,
        };
        failure(self.label(), kind, (offset, len), fault)
    }
}

/// Returns the error of a failure whose cause the cluster reported.
pub(crate) fn explain_cause(label: &Label, error: Error, cause: Cause) -> Error {
    match cause {
        Cause::Kept(holder) => error.with_kind(ErrorKind::Busy { holders: vec![*holder] }),
        Cause::LeftLock => error.with_kind(ErrorKind::Busy { holders: Vec::new() }).with_detail(
            "an earlier request had timed out, and its exclusive lock had stayed with this connection; the \
             lock is free now: repeat the request",
        ),
        Cause::Released => error.with_detail(
            "the handle does not have the exclusive lock, and after a call of `acquire` it does not take it \
             by writing; acquire it again, or close the image and open it again",
        ),
        Cause::PoolDeleted { id, data: true } => error.data_pool_deleted(id),
        Cause::PoolDeleted { id, data: false } => error.pool_deleted(&label.pool, id),
    }
}

fn in_a_sector(offset: u64, len: u64) -> bool {
    len > 0 && offset / 512 == offset.saturating_add(len - 1) / 512
}

/// Returns the error of a failed request. I/O errors contain no log lines: librbd writes none for
/// them, and looking would cost a system call per operation.
pub(crate) fn failure(label: &Label, kind: Kind, (offset, len): (u64, u64), fault: Fault) -> Error {
    let operation = match kind {
        Kind::Flush => Cow::Borrowed(kind.name()),
        _ => Cow::Owned(on_range(kind.name(), offset, len)),
    };
    let error = |errno| Error::new(operation, label.object(), errno);
    match fault {
        Fault::Cut(size) => error(Errno::EINVAL).with_kind(ErrorKind::OutOfRange { offset, len, size }),
        Fault::Caused(errno, cause) => explain_cause(label, error(errno), cause),
        Fault::Failed(Failure::Missing { symbol, needs }) => {
            Error::unsupported(kind.name(), label.object(), symbol, needs, library_of(symbol))
        }
        Fault::Failed(Failure::Errno(errno)) => match (kind, errno) {
            (Kind::CompareAndWrite, Errno::EINVAL)
                if librbd_version().minor > 16 || !in_a_sector(offset, len) =>
            {
                error(errno).with_detail(if librbd_version().minor <= 16 {
                    "with librbd 1.16 the range must lie within one sector of 512 bytes"
                } else {
                    "the range must lie within one object, and within one stripe unit if the image is striped"
                })
            }
            (kind, Errno::ETIMEDOUT) if kind.changes_data() => match label.osd_timeout {
                Some(timeout) => error(errno).with_detail(format!(
                    "an OSD did not answer within {timeout:?} (`osd_timeout`); the {} may still take effect; \
                     check that the OSDs are up and reachable",
                    if kind == Kind::Discard { "discard" } else { "write" }
                )),
                None => error(errno),
            },
            (_, Errno::EDEADLK) => error(errno).with_detail(IN_CALLBACK),
            (Kind::Read, Errno::ENODATA) => error(errno).with_detail(
                "the image was briefly shorter, and part of the range was not read; read it again",
            ),
            (Kind::Write, Errno::ENODATA) => error(errno).with_detail(
                "the image was briefly shorter, and part of the range was not written; write it again",
            ),
            _ => error(errno),
        },
    }
}
