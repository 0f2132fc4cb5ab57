//! Looks up the functions of the headers in the loaded library.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::ffi::{CString, c_int};
use std::{fs, path::Path};

use librbd_sys::late::{self, Late};
use librbd_sys::{SYMBOLS, Symbol};

/// Returns whether the libraries with which this program is linked have the symbol.
fn loaded(symbol: &Symbol) -> bool {
    let (mut major, mut minor, mut extra) = (0, 0, 0);
    // SAFETY: plain integers to write to. The calls make the linker keep both libraries.
    unsafe {
        librbd_sys::rbd_version(&raw mut major, &raw mut minor, &raw mut extra);
        librbd_sys::rados_version(&raw mut major, &raw mut minor, &raw mut extra);
    }
    let name = CString::new(symbol.name).unwrap();
    // SAFETY: the name ends in a NUL byte.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.is_null()
}

/// Returns every late function: symbol, release, whether it is present.
fn late_functions() -> Vec<(&'static str, &'static str, bool)> {
    macro_rules! list {
        ($($name:ident)*) => { vec![$((late::$name.symbol(), late::$name.needs(), late::$name.get().is_some())),*] };
    }
    list! {
        rados_stat2 rados_aio_stat2 rados_aio_write_op_operate2 rados_read_op_stat2
        rbd_clone4 rbd_mirror_remote_namespace_get rbd_mirror_remote_namespace_set rbd_encryption_load2
        rbd_snap_get_trash_namespace2 rbd_snap_trash_namespace_cleanup rbd_diff_iterate3 rbd_aio_write_with_crc32c
        rbd_aio_compare_and_writev rbd_group_get_id rbd_group_snap_list2 rbd_group_snap_list2_cleanup
        rbd_group_snap_get_info rbd_group_snap_get_info_cleanup
    }
}

#[test]
fn the_headers_are_bound_whole() {
    let count = |header| SYMBOLS.iter().filter(|symbol| symbol.header == header).count();
    assert_eq!((count("rbd/librbd.h"), count("rados/librados.h")), (294, 243));
    let names: BTreeSet<_> = SYMBOLS.iter().map(|symbol| symbol.name).collect();
    assert_eq!(names.len(), SYMBOLS.len());
}

#[test]
fn every_baseline_function_is_in_the_loaded_library() {
    let missing: Vec<_> = SYMBOLS.iter().filter(|symbol| symbol.needs.is_none() && !loaded(symbol)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn late_functions_are_the_late_symbols() {
    let listed: BTreeSet<_> = late_functions().into_iter().map(|(name, needs, _)| (name, needs)).collect();
    let expected: BTreeSet<_> =
        SYMBOLS.iter().filter_map(|symbol| Some((symbol.name, symbol.needs?))).collect();
    assert_eq!(listed, expected);
}

#[test]
fn a_late_function_is_there_if_the_header_declares_it() {
    let include = env!("LIBRBD_SYS_INCLUDE_DIR", "the tests need librbd-dev and librados-dev");
    let text = |header| fs::read_to_string(Path::new(include).join(header)).unwrap();
    let headers = text("rbd/librbd.h") + &text("rados/librados.h");
    for (name, _, present) in late_functions() {
        let declared = headers.contains(&format!("{name}("));
        assert_eq!(present, declared, "{name}: in the library {present}, in the header {declared}");
    }
}

#[cfg(librbd = "1.20")]
#[test]
fn the_newest_known_library_has_every_function() {
    let missing: Vec<_> = SYMBOLS.iter().filter(|symbol| !loaded(symbol)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_function_that_no_library_has_is_absent() {
    // SAFETY: the symbol does not exist, so its type cannot differ.
    static NONE: Late<unsafe extern "C" fn()> = unsafe { Late::new(c"rbd_no_such_function", "Ceph 99.2") };
    assert!(NONE.get().is_none());
    assert!(NONE.get().is_none());
    assert_eq!((NONE.symbol(), NONE.needs()), ("rbd_no_such_function", "Ceph 99.2"));
}

#[test]
fn a_function_found_at_run_time_is_the_linked_one() {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int);
    // SAFETY: the type is that of the declaration of rbd_version.
    static VERSION: Late<Version> = unsafe { Late::new(c"rbd_version", "any") };
    let (mut linked, mut found) = ([0; 3], [0; 3]);
    let [a, b, c] = &mut linked;
    // SAFETY: plain integers to write to.
    unsafe { librbd_sys::rbd_version(a, b, c) };
    let [a, b, c] = &mut found;
    // SAFETY: as above.
    unsafe { VERSION.get().expect("librbd has it")(a, b, c) };
    assert_eq!(linked, found);
    assert!(found >= [1, 16, 0], "{found:?}");
}
