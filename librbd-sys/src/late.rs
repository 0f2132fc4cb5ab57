//! What is newer than Ceph 16.2: functions that are looked up at run time, with the types and
//! constants they brought.
//!
//! A program that merely contains a call of such a function still links and starts with an older
//! library.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem;
use std::sync::OnceLock;

#[path = "generated/late.rs"]
#[allow(
    missing_docs,
    unused_imports,
    non_camel_case_types,
    non_upper_case_globals,
    clippy::pedantic,
    clippy::type_complexity
)]
#[allow(clippy::undocumented_unsafe_blocks)] // `Late::new`: name and type come from one declaration
mod items;

pub use items::*;

/// A function that the loaded library may or may not have. `F` is the type of a pointer to it.
///
/// ```no_run
/// use librbd_sys::late::rbd_clone4;
///
/// match rbd_clone4.get() {
///     Some(clone4) => { /* unsafe { clone4(…) } */ }
///     None => eprintln!("{} needs {}", rbd_clone4.symbol(), rbd_clone4.needs()),
/// }
/// ```
pub struct Late<F> {
    symbol: &'static CStr,
    needs: &'static str,
    found: OnceLock<Option<F>>,
}

impl<F: Copy> Late<F> {
    /// Declares a function of librbd or librados, one newer than these bindings for instance.
    /// `needs` says in words what has it, as in `Ceph 20.2`.
    ///
    /// # Safety
    ///
    /// `F` must be the type of an `unsafe extern "C"` function pointer that agrees with the C
    /// declaration of `symbol`.
    pub const unsafe fn new(symbol: &'static CStr, needs: &'static str) -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>(), "not a function pointer") };
        Self { symbol, needs, found: OnceLock::new() }
    }

    /// The function, if the loaded library has it. The first call looks it up, the others are as
    /// cheap as a load.
    pub fn get(&self) -> Option<F> {
        *self.found.get_or_init(|| {
            let address = resolve(self.symbol);
            // SAFETY: F is the type of a pointer to this function by the contract of `new`, which
            // also checked the size.
            (!address.is_null()).then(|| unsafe { mem::transmute_copy(&address) })
        })
    }

    /// The function's name in C.
    pub fn symbol(&self) -> &'static str {
        self.symbol.to_str().unwrap_or("not a C identifier")
    }

    /// What has the function: the first Ceph release known to, as in `Ceph 20.2`. Point releases of
    /// an older one may have it too, so ask [`Late::get`], not the version.
    pub fn needs(&self) -> &'static str {
        self.needs
    }
}

impl<F: Copy> fmt::Debug for Late<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late")
            .field("symbol", &self.symbol)
            .field("needs", &self.needs)
            .field("found", &self.get().is_some())
            .finish()
    }
}

/// The address of a symbol as the dynamic linker sees it from here, null if there is none.
fn resolve(symbol: &CStr) -> *mut c_void {
    // Linkers drop a library that nothing refers to; what is only looked up here does not count as
    // a reference.
    std::hint::black_box(crate::rbd_version as *const ());
    // SAFETY: the name ends in a NUL byte; dlsym has no other demands.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }
}
