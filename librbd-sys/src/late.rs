//! Late functions: those newer than Ceph 16.2, which are looked up at run time, and their types
//! and constants.
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

/// A function that the loaded library may lack. `F` is the type of a pointer to it.
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
    /// Declares a function of librbd or librados, for instance one newer than these bindings.
    /// `needs` names the release that has it, such as `Ceph 20.2`.
    ///
    /// # Safety
    ///
    /// `F` must be the type of an `unsafe extern "C"` function pointer that agrees with the C
    /// declaration of `symbol`.
    pub const unsafe fn new(symbol: &'static CStr, needs: &'static str) -> Self {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>(), "not a function pointer") };
        Self { symbol, needs, found: OnceLock::new() }
    }

    /// Returns the function, if the loaded library has it. The first call looks it up. Later calls
    /// cost as much as a load.
    pub fn get(&self) -> Option<F> {
        *self.found.get_or_init(|| {
            let address = resolve(self.symbol);
            // SAFETY: F is the type of a pointer to this function, by the contract of `new`, which
            // also checked the size.
            (!address.is_null()).then(|| unsafe { mem::transmute_copy(&address) })
        })
    }

    /// Returns the function's name in C.
    pub fn symbol(&self) -> &'static str {
        self.symbol.to_str().unwrap_or("not a C identifier")
    }

    /// Returns the first Ceph release known to have the function, such as `Ceph 20.2`. Point
    /// releases of older ones may have it too, so check [`Late::get`], not the version.
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

/// Returns the address of a symbol for the dynamic linker, or null if there is none.
fn resolve(symbol: &CStr) -> *mut c_void {
    // Linkers drop a library without references, and a look-up is no reference.
    std::hint::black_box(crate::rbd_version as *const ());
    // SAFETY: the name ends in a NUL byte; dlsym needs nothing else.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) }
}
