//! Secrets from C. Only the returned copy stays in memory.

use std::ffi::{c_char, c_int};

use zeroize::Zeroizing;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;

/// The longest buffer for a secret. A longer one is an error.
const LIMIT: usize = 1 << 20;

/// Like [`grow_string`](crate::raw::ffi::conversion::grow_string), for a secret.
///
/// # Safety
/// `fetch` must write at most `capacity` bytes.
pub(crate) unsafe fn grow_secret(
    first: usize,
    mut fetch: impl FnMut(*mut c_char, usize) -> (c_int, usize),
) -> RawResult<Zeroizing<String>> {
    let mut capacity = first.max(1);
    loop {
        let mut buffer = Zeroizing::new(vec![0_u8; capacity]);
        let (code, len) = fetch(buffer.as_mut_ptr().cast(), capacity);
        if code == -libc::ERANGE && capacity < LIMIT {
            capacity = len.max(capacity * 2).min(LIMIT);
            continue;
        }
        check(code)?;
        return words(&buffer).next().ok_or(Errno::EBADMSG);
    }
}

/// Returns the NUL-terminated strings of a buffer.
pub(crate) fn words(buffer: &[u8]) -> impl Iterator<Item = Zeroizing<String>> {
    buffer.split(|byte| *byte == 0).map(|word| Zeroizing::new(String::from_utf8_lossy(word).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_until_it_fits() {
        let mut asked = Vec::new();
        // SAFETY: writes at most `capacity` bytes.
        let secret = unsafe {
            grow_secret(2, |buffer, capacity| {
                asked.push(capacity);
                if capacity < 6 {
                    return (-libc::ERANGE, 6);
                }
                buffer.copy_from_nonoverlapping(c"token".as_ptr(), 6);
                (0, 6)
            })
        };
        assert_eq!(**secret.unwrap(), *"token");
        assert_eq!(asked, [2, 6]);
    }
}
