//! The memory of a queue's operation.

use bytes::{Bytes, BytesMut};

use crate::raw::ffi::iovec::{iovec, total};

/// The memory of an operation, which comes back when it has ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Buffer {
    /// An operation without data.
    #[default]
    None,
    /// Data to be written that may be shared.
    Bytes(Bytes),
    /// A buffer of its own.
    BytesMut(BytesMut),
    /// Data in several places, to be written one behind the other.
    BytesVec(Vec<Bytes>),
    /// Several buffers of their own.
    BytesMutVec(Vec<BytesMut>),
    /// What a compare-and-write compares with, and what it writes.
    Compare {
        /// What the image is to hold already.
        expected: Bytes,
        /// What it is to hold then.
        data: Bytes,
    },
    /// The same, each in several places.
    CompareVec {
        /// What the image is to hold already.
        expected: Vec<Bytes>,
        /// What it is to hold then.
        data: Vec<Bytes>,
    },
}

impl From<BytesMut> for Buffer {
    fn from(buffer: BytesMut) -> Buffer {
        Buffer::BytesMut(buffer)
    }
}

impl From<Bytes> for Buffer {
    fn from(buffer: Bytes) -> Buffer {
        Buffer::Bytes(buffer)
    }
}

impl From<Vec<BytesMut>> for Buffer {
    fn from(buffers: Vec<BytesMut>) -> Buffer {
        Buffer::BytesMutVec(buffers)
    }
}

impl From<Vec<Bytes>> for Buffer {
    fn from(buffers: Vec<Bytes>) -> Buffer {
        Buffer::BytesVec(buffers)
    }
}

impl Buffer {
    /// The bytes, if it is one buffer.
    pub(crate) fn one(&self) -> Option<&[u8]> {
        match self {
            Buffer::Bytes(data) => Some(data),
            Buffer::BytesMut(data) => Some(data),
            _ => None,
        }
    }

    /// How many bytes there are in how many buffers, if it is a list of them.
    pub(crate) fn several(&self) -> Option<(u64, usize)> {
        match self {
            Buffer::BytesVec(buffers) => Some((total(buffers), buffers.len())),
            Buffer::BytesMutVec(buffers) => Some((total(buffers), buffers.len())),
            _ => None,
        }
    }

    /// Appends addresses and lengths of lists to an array for C, what is expected before what is written. Gives how many of
    /// them come first.
    ///
    /// The addresses stay good when this is moved, but not when a buffer of it is changed.
    pub(in crate::raw) fn list(&mut self, array: &mut Vec<libc::iovec>) -> usize {
        match self {
            Buffer::BytesVec(buffers) => {
                array.extend(buffers.iter().map(|one| iovec(one.as_ptr(), one.len())));
            }
            // Addresses that may be written to: from an exclusive reference.
            Buffer::BytesMutVec(buffers) => {
                array.extend(buffers.iter_mut().map(|one| iovec(one.as_mut_ptr(), one.len())));
            }
            Buffer::CompareVec { expected, data } => {
                array.extend(expected.iter().chain(data.iter()).map(|one| iovec(one.as_ptr(), one.len())));
                return expected.len();
            }
            _ => {}
        }
        array.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_told_from_single_buffers() {
        let one = Bytes::from_static(b"abc");
        assert_eq!(Buffer::from(one.clone()).one(), Some(&b"abc"[..]));
        assert_eq!(Buffer::from(BytesMut::with_capacity(9)).one(), Some(&b""[..]));
        assert_eq!(Buffer::from(vec![one.clone(); 3]).several(), Some((9, 3)));
        assert_eq!(Buffer::from(vec![BytesMut::zeroed(2); 2]).several(), Some((4, 2)));
        let compare = Buffer::Compare { expected: one.clone(), data: one.clone() };
        for neither in [Buffer::None, compare] {
            assert_eq!((neither.one(), neither.several()), (None, None));
        }
    }

    #[test]
    fn the_array_has_both_lists() {
        let part = |len: usize| Bytes::from(vec![0; len]);
        let (expected, data) = (vec![part(4), part(2)], vec![part(1), part(2), part(3)]);
        let addresses: Vec<_> = expected.iter().chain(&data).map(|one| (one.as_ptr(), one.len())).collect();
        let mut array = Vec::new();
        assert_eq!(Buffer::CompareVec { expected, data }.list(&mut array), 2);
        let listed: Vec<_> =
            array.iter().map(|one| (one.iov_base.cast_const().cast(), one.iov_len)).collect();
        assert_eq!(listed, addresses);
    }
}
