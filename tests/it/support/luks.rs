//! Encryption headers of the tests, at the least cost.
//!
//! LUKS makes each guess of a passphrase expensive: libcryptsetup measures the machine, and chooses
//! as many rounds of the key derivation as take two seconds of a processor. Each format pays this
//! twice, and each load once. The tests check what this crate and librbd do with a header, and only
//! one depends on the number of rounds: it calls [`the_usual_cost`]. The others ask for the fewest,
//! as the unit tests of librbd do. The campaign of faults has the usual cost, too.

use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a passphrase becomes a key: `struct crypt_pbkdf_type`.
#[repr(C)]
struct Derivation {
    kind: *const c_char,
    hash: *const c_char,
    milliseconds: u32,
    rounds: u32,
    kibibytes: u32,
    threads: u32,
    flags: u32,
}

/// Take the number of rounds as it is, without a measurement.
const NO_BENCHMARK: u32 = 1 << 1;
/// The fewest that libcryptsetup allows.
const FEWEST: u32 = 1000;

static USUAL: AtomicBool = AtomicBool::new(false);

/// From now on, this process makes headers as every other program does.
pub(crate) fn the_usual_cost() {
    USUAL.store(true, Ordering::Relaxed);
}

type Init = unsafe extern "C" fn(*mut *mut c_void, *const c_char) -> c_int;
type Set = unsafe extern "C" fn(*mut c_void, *const Derivation) -> c_int;

/// Returns the address of libcryptsetup's function, which is the next one of this name.
fn real(name: &'static std::ffi::CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null(), "{name:?} is in no library");
    found
}

fn functions() -> (Init, Set) {
    static FOUND: OnceLock<(Init, Set)> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let (init, set) = (real(c"crypt_init"), real(c"crypt_set_pbkdf_type"));
        // SAFETY: libcryptsetup declares them with these arguments.
        unsafe {
            (std::mem::transmute::<*mut c_void, Init>(init), std::mem::transmute::<*mut c_void, Set>(set))
        }
    })
}

/// librbd calls this function of the program instead of the one of libcryptsetup, because the
/// dynamic linker looks into the program first.
///
/// # Safety
///
/// `device` is the address of a pointer, and `path` is a C string or null. The real function
/// demands the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn crypt_init(device: *mut *mut c_void, path: *const c_char) -> c_int {
    let (init, set) = functions();
    // SAFETY: the arguments are the caller's.
    let made = unsafe { init(device, path) };
    if made < 0 || USUAL.load(Ordering::Relaxed) {
        return made;
    }
    let cheap = Derivation {
        kind: c"pbkdf2".as_ptr(),
        hash: c"sha256".as_ptr(),
        milliseconds: 0,
        rounds: FEWEST,
        kibibytes: 0,
        threads: 0,
        flags: NO_BENCHMARK,
    };
    // SAFETY: the device has just been made; the function copies what it is given.
    let set = unsafe { set(*device, &raw const cheap) };
    assert_eq!(set, 0, "libcryptsetup refuses the fewest rounds");
    made
}
