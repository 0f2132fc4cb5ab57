//! The memory of a queue's operation.

use bytes::{Bytes, BytesMut};

/// The memory of an operation. The operation returns it when it ends.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Buffer {
    /// An operation without data.
    #[default]
    None,
    /// Data to write, which may be shared.
    Bytes(Bytes),
    /// A buffer that nothing else shares.
    BytesMut(BytesMut),
    /// Data in several places, written consecutively.
    BytesVec(Vec<Bytes>),
    /// Several buffers that nothing else shares.
    BytesMutVec(Vec<BytesMut>),
    /// What a compare-and-write compares with, and what it writes.
    Compare {
        /// The bytes that the range must contain.
        expected: Bytes,
        /// The bytes to write.
        data: Bytes,
    },
    /// What a compare-and-write compares with, and what it writes, each in several places.
    CompareVec {
        /// The bytes that the range must contain.
        expected: Vec<Bytes>,
        /// The bytes to write.
        data: Vec<Bytes>,
    },
}

/// Returns the total length of all buffers. The sum saturates, because a list may name the same
/// memory many times.
pub(crate) fn total<B: AsRef<[u8]>>(buffers: &[B]) -> u64 {
    buffers.iter().fold(0, |sum, buffer| sum.saturating_add(buffer.as_ref().len() as u64))
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

impl From<Vec<u8>> for Buffer {
    fn from(data: Vec<u8>) -> Buffer {
        Buffer::Bytes(data.into())
    }
}

impl From<&'static [u8]> for Buffer {
    fn from(data: &'static [u8]) -> Buffer {
        Buffer::Bytes(data.into())
    }
}

impl From<&'static str> for Buffer {
    fn from(data: &'static str) -> Buffer {
        Buffer::Bytes(data.into())
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

    /// Returns the total length and the number of buffers, if this is a list.
    pub(crate) fn several(&self) -> Option<(u64, usize)> {
        match self {
            Buffer::BytesVec(buffers) => Some((total(buffers), buffers.len())),
            Buffer::BytesMutVec(buffers) => Some((total(buffers), buffers.len())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_distinguished_from_single_buffers() {
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
}
