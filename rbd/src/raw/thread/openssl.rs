//! OpenSSL without its exit handler.
//!
//! OpenSSL registers a function with `atexit` that frees all of its data. Ceph's threads use
//! OpenSSL in each handshake, and crash if they use it after that.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Once;

/// The option of `OPENSSL_init_crypto` that registers nothing with `atexit`.
const NO_ATEXIT: u64 = 0x0008_0000;

type Init = unsafe extern "C" fn(u64, *const c_void) -> c_int;

/// Initialises the OpenSSL that librados uses, so that it stays usable during the exit of the
/// process. Without effect if the process has initialised that OpenSSL before: the first
/// initialisation decides. LeakSanitizer would report what OpenSSL does not free.
pub(super) fn keep_until_the_end() {
    static DONE: Once = Once::new();
    if cfg!(sanitizer_canary) {
        return;
    }
    DONE.call_once(|| {
        let Some(init) = find() else { return };
        // SAFETY: null stands for the default settings. The call may be made at any time, also
        // beside others.
        unsafe { init(NO_ATEXIT, ptr::null()) };
    });
}

/// Looks in librados and in the libraries that it needs. `None` if it uses no OpenSSL, or one
/// before 1.1.0.
fn find() -> Option<Init> {
    // SAFETY: the name is a C string. The library is not loaded by this, only found.
    let librados = unsafe { libc::dlopen(c"librados.so.2".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    // In a program that contains librados, all libraries are searched.
    let place = if librados.is_null() { libc::RTLD_DEFAULT } else { librados };
    // SAFETY: the place is valid, and the name is a C string.
    let address = unsafe { libc::dlsym(place, c"OPENSSL_init_crypto".as_ptr()) };
    if !librados.is_null() {
        // SAFETY: opened above. The program needs librados, so it stays loaded.
        unsafe { libc::dlclose(librados) };
    }
    // SAFETY: OpenSSL declares the function in this way since 1.1.0.
    (!address.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, Init>(address) })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_openssl_of_librados_is_found() {
        assert!(find().is_some());
    }
}
