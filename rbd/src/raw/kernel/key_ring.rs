//! The kernel's key rings: system calls that neither the standard library nor rustix has.

use std::ffi::CStr;
use std::marker::PhantomData;

use crate::errno::Errno;

/// A key in the key ring of the thread that added it. Dropping it invalidates the key. Otherwise
/// the kernel would remove it only some time after the end of the thread.
///
/// Not `Send`: only the thread that added the key can reach it.
#[derive(Debug)]
pub(crate) struct ThreadKey {
    serial: libc::c_long,
    _not_send: PhantomData<*const ()>,
}

impl ThreadKey {
    /// Adds a key to the calling thread's own key ring.
    pub(crate) fn add(kind: &CStr, description: &CStr, payload: &[u8]) -> Result<ThreadKey, Errno> {
        // SAFETY: both strings end in NUL, and the payload is `len` readable bytes; the kernel
        // copies all three.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                kind.as_ptr(),
                description.as_ptr(),
                payload.as_ptr(),
                payload.len(),
                libc::c_long::from(libc::KEY_SPEC_THREAD_KEYRING),
            )
        };
        if serial < 0 { Err(Errno::last()) } else { Ok(ThreadKey { serial, _not_send: PhantomData }) }
    }
}

impl Drop for ThreadKey {
    fn drop(&mut self) {
        // A seccomp filter may forbid one call and allow the other. If both fail, the key
        // disappears after its thread has ended.
        for way in [libc::KEYCTL_INVALIDATE, libc::KEYCTL_REVOKE] {
            // SAFETY: no pointers. The serial is that of this thread's key.
            let done = unsafe { libc::syscall(libc::SYS_keyctl, libc::c_long::from(way), self.serial) };
            if done == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn an_unknown_type_of_key_is_refused_by_the_kernel() {
        let refused = ThreadKey::add(c"no-such-type", c"client.x", b"1").unwrap_err();
        // A seccomp filter may return its own errno.
        assert!([Errno::ENODEV, Errno::ENOSYS, Errno::EPERM].contains(&refused), "{refused:?}");
    }

    #[test]
    fn a_key_is_of_no_use_after_the_drop() {
        let find = || {
            // SAFETY: both strings end in NUL; no call-out information, no ring to link to.
            let found = unsafe {
                libc::syscall(
                    libc::SYS_request_key,
                    c"user".as_ptr(),
                    c"rbd-test".as_ptr(),
                    ptr::null::<u8>(),
                    0,
                )
            };
            found >= 0
        };
        match ThreadKey::add(c"user", c"rbd-test", b"1") {
            Ok(key) => {
                assert!(find());
                drop(key);
                assert!(!find(), "the thread still finds its key");
            }
            // The errno of a seccomp filter, or of a kernel without key rings.
            Err(refused) => assert!([Errno::ENOSYS, Errno::EPERM].contains(&refused), "{refused:?}"),
        }
    }
}
