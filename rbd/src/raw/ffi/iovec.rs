//! The arrays of addresses and lengths that vectored calls take.

use std::ffi::c_int;

/// How many elements the operation itself contains; more cost an allocation.
const INLINE: usize = 8;

/// An array of iovecs. The operation owns it, because librbd reads it until the operation ends.
pub(crate) struct Iovecs {
    inline: [Iovec; INLINE],
    count: usize,
    /// Used instead of `inline` if there are more elements than fit there.
    spilled: Vec<Iovec>,
}

/// One element of the array.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Iovec(libc::iovec);

// SAFETY: the address of a buffer that the operation owns and that is Send, or of memory for which
// the caller promised it.
unsafe impl Send for Iovec {}

impl std::fmt::Debug for Iovecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Iovecs({})", self.count)
    }
}

const NOTHING: Iovec = iovec(std::ptr::null(), 0);

const fn iovec(start: *const u8, len: usize) -> Iovec {
    Iovec(libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len })
}

impl Iovecs {
    pub(crate) const fn new() -> Iovecs {
        Iovecs { inline: [NOTHING; INLINE], count: 0, spilled: Vec::new() }
    }

    /// Takes over the memory of another array. Its content is lost.
    pub(crate) fn reuse(&mut self, other: &mut Iovecs) {
        if self.spilled.capacity() < other.spilled.capacity() {
            other.spilled.clear();
            other.spilled.append(&mut self.spilled);
            std::mem::swap(&mut self.spilled, &mut other.spilled);
        }
    }

    /// Appends addresses and lengths.
    pub(crate) fn extend(&mut self, buffers: impl ExactSizeIterator<Item = (*const u8, usize)>) {
        let before = self.count;
        self.count += buffers.len();
        let iovecs = buffers.map(|(start, len)| iovec(start, len));
        if self.count <= INLINE {
            self.inline[before..].iter_mut().zip(iovecs).for_each(|(place, iovec)| *place = iovec);
            return;
        }
        if before <= INLINE {
            self.spilled.extend_from_slice(&self.inline[..before]);
        }
        self.spilled.extend(iovecs);
    }

    /// Returns address and count for C. The address is valid as long as `self` does not move.
    pub(crate) fn as_raw(&self) -> (*const libc::iovec, c_int) {
        let start = if self.spilled.is_empty() { self.inline.as_ptr() } else { self.spilled.as_ptr() };
        (start.cast(), c_int::try_from(self.count).unwrap_or(c_int::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::buffer::total;

    #[test]
    fn few_stand_inside_and_many_outside() {
        for count in [0, 1, INLINE, INLINE + 1, 100] {
            let bytes = vec![0_u8; count];
            let list: Vec<_> = bytes.iter().enumerate().map(|(at, byte)| (&raw const *byte, at)).collect();
            let mut iovecs = Iovecs::new();
            let (one, other) = list.split_at(count / 2);
            iovecs.extend(one.iter().copied());
            iovecs.extend(other.iter().copied());
            let (start, len) = iovecs.as_raw();
            assert_eq!(len as usize, count);
            for (at, byte) in bytes.iter().enumerate() {
                // SAFETY: the array has `count` elements.
                let iovec = unsafe { *start.add(at) };
                assert_eq!((iovec.iov_base.cast_const().cast(), iovec.iov_len), (&raw const *byte, at));
            }
        }
    }

    /// A list may name the same memory many times. A sum that overflowed would look like a short
    /// request.
    #[test]
    fn a_sum_beyond_all_numbers_is_not_a_small_one() {
        let (len, none) = (1_usize << 45, ptr::null_mut());
        let (access, flags) =
            (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new mapping, which is never read, and which lasts until the process ends.
        let huge = unsafe {
            let start = libc::mmap(none, len, access, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            std::slice::from_raw_parts(start.cast::<u8>(), len)
        };
        let mut list = vec![huge; 1 << 19];
        assert_eq!(total(&list), u64::MAX);
        list.truncate(3);
        assert_eq!(total(&list), 3 << 45);
    }
}
