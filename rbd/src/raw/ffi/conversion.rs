//! The patterns of Ceph's C interface: negative errnos, buffers that must grow, strings that must
//! be copied.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;

use crate::errno::Errno;
use crate::raw::RawResult;

/// The largest buffer that a call gets, in elements. A library that asks for more is broken.
const LIMIT: usize = 1 << 26;

/// Checks the result of a call that returns 0 or a count, or a negative errno.
pub(crate) fn check(code: c_int) -> RawResult<c_int> {
    if code < 0 { Err(Errno::new(code)) } else { Ok(code) }
}

/// Checks the result of a call that returns a count of bytes, or a negative errno.
pub(crate) fn check_len(code: isize) -> RawResult<usize> {
    usize::try_from(code).map_err(|_| Errno::new(i32::try_from(code).unwrap_or(-libc::EIO)))
}

/// Calls `fetch` with a buffer that grows until the answer fits.
///
/// `fetch` gets the buffer and its capacity. It returns the C result and the length that the
/// library reported: on success the length used, on `-ERANGE` the length needed.
///
/// # Safety
/// All zeros must be a valid `T`, and `fetch` must write at most `capacity` elements.
pub(crate) unsafe fn grow<T: Copy>(
    first: usize,
    mut fetch: impl FnMut(*mut T, usize) -> (c_int, usize),
) -> RawResult<Vec<T>> {
    let mut capacity = first.max(1);
    loop {
        let mut buffer = vec![MaybeUninit::<T>::zeroed(); capacity];
        let (code, len) = fetch(buffer.as_mut_ptr().cast(), capacity);
        if code == -libc::ERANGE && capacity < LIMIT {
            capacity = len.max(capacity * 2).min(LIMIT);
            continue;
        }
        check(code)?;
        buffer.truncate(len);
        // SAFETY: the buffer was zeroed, and the caller promises that zeros are a valid T.
        return Ok(buffer.into_iter().map(|item| unsafe { item.assume_init() }).collect());
    }
}

/// Calls [`grow`] for one string, which ends before the first NUL.
///
/// # Safety
/// `fetch` must write at most `capacity` bytes.
pub(crate) unsafe fn grow_string(
    first: usize,
    fetch: impl FnMut(*mut c_char, usize) -> (c_int, usize),
) -> RawResult<String> {
    // On success, some calls count the NUL in the length and others do not, so it is not used.
    let mut fetch = fetch;
    // SAFETY: zero is a valid c_char; the caller promises what `fetch` writes.
    let bytes = unsafe {
        grow(first, |buffer, capacity| {
            let (code, len) = fetch(buffer, capacity);
            (code, if code < 0 { len } else { capacity })
        })
    }?;
    Ok(split(&bytes).next().unwrap_or_default())
}

/// Calls [`grow`] for a list of strings, each ended by a NUL.
///
/// # Safety
/// `fetch` must write at most `capacity` bytes.
pub(crate) unsafe fn grow_strings(
    first: usize,
    fetch: impl FnMut(*mut c_char, usize) -> (c_int, usize),
) -> RawResult<Vec<String>> {
    // SAFETY: zero is a valid c_char; the caller promises what `fetch` writes.
    let bytes = unsafe { grow(first, fetch) }?;
    Ok(split(&bytes).filter(|word| !word.is_empty()).collect())
}

/// Returns the NUL-terminated strings of a buffer.
pub(in crate::raw) fn split(bytes: &[c_char]) -> impl Iterator<Item = String> {
    bytes.split(|byte| *byte == 0).map(|word| {
        let word: Vec<u8> = word.iter().map(|byte| *byte as u8).collect();
        String::from_utf8_lossy(&word).into_owned()
    })
}

/// Copies a C string. Returns an empty string for null.
///
/// # Safety
/// `text` must be null or point to a NUL-terminated string.
pub(crate) unsafe fn copy_string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller promises a terminated string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Copies the string of a fixed array in a C struct. The NUL may be missing.
#[cfg(feature = "mirror")]
pub(crate) fn array_string(text: &[c_char]) -> String {
    split(text).next().unwrap_or_default()
}

/// Converts the error of a system call.
pub(crate) fn system_errno(error: rustix::io::Errno) -> Errno {
    Errno::new(error.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_until_it_fits() {
        let mut asked = Vec::new();
        // SAFETY: writes exactly `capacity` bytes.
        let names = unsafe {
            grow_strings(2, |buffer, capacity| {
                asked.push(capacity);
                if capacity < 6 {
                    return (-libc::ERANGE, 6);
                }
                buffer.copy_from_nonoverlapping([b'a', 0, b'b', 0, b'c', 0].as_ptr().cast(), 6);
                (0, 6)
            })
        };
        assert_eq!(names.unwrap(), ["a", "b", "c"]);
        assert_eq!(asked, [2, 6]);
    }

    #[test]
    fn a_library_that_never_is_content_gives_an_error() {
        // SAFETY: writes nothing.
        let result = unsafe { grow::<u8>(LIMIT / 2, |_, _| (-libc::ERANGE, 0)) };
        assert_eq!(result.unwrap_err(), Errno::ERANGE);
    }

    #[test]
    fn other_errors_end_it() {
        // SAFETY: writes nothing.
        assert_eq!(unsafe { grow_string(8, |_, _| (-2, 0)) }.unwrap_err(), Errno::ENOENT);
        assert_eq!(check_len(-110).unwrap_err(), Errno::ETIMEDOUT);
    }
}
