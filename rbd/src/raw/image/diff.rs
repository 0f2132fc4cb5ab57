//! Differences between two versions of an image.

use std::ffi::{CString, c_int, c_void};
use std::ops::ControlFlow;

use librbd_sys as sys;

use crate::raw::ffi::late::{LateResult, need};
use crate::raw::image::Image;
use crate::raw::thread::callback::Callback;

/// The version from which a diff starts. It ends at the version that the handle shows.
#[derive(Debug)]
pub(crate) enum From {
    /// The empty image.
    Nothing,
    Name(CString),
    Id(u64),
}

/// The range and the options of a diff. The range must lie within the image.
#[derive(Debug)]
pub(crate) struct DiffSpec {
    pub(crate) from: From,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) include_parent: bool,
    pub(crate) whole_objects: bool,
}

/// Receives offset and length of an extent in bytes, and whether it contains data now.
type Each<'a> = &'a mut (dyn FnMut(u64, u64, bool) -> ControlFlow<()> + Send);

impl Image {
    pub(crate) fn diff(&self, spec: &DiffSpec, each: Each<'_>) -> LateResult<()> {
        let DiffSpec { ref from, offset, len, include_parent, whole_objects } = *spec;
        let from = match from {
            From::Nothing => std::ptr::null(),
            From::Name(name) => name.as_ptr(),
            From::Id(id) => return self.diff_by_id(*id, spec, each),
        };
        let (parent, whole) = (u8::from(include_parent), u8::from(whole_objects));
        // SAFETY: the image is open; the name and the callback's state live through the call.
        unsafe {
            Callback::during(each, |arg| {
                sys::rbd_diff_iterate2(self.as_ptr(), from, offset, len, parent, whole, Some(extent), arg)
            })
        }?;
        Ok(())
    }

    fn diff_by_id(&self, from: u64, spec: &DiffSpec, each: Each<'_>) -> LateResult<()> {
        let iterate = need(&sys::late::rbd_diff_iterate3)?;
        let mut flags = 0;
        if spec.include_parent {
            flags |= sys::late::RBD_DIFF_ITERATE_FLAG_INCLUDE_PARENT;
        }
        if spec.whole_objects {
            flags |= sys::late::RBD_DIFF_ITERATE_FLAG_WHOLE_OBJECT;
        }
        // SAFETY: the image is open; the callback's state lives through the call.
        unsafe {
            Callback::during(each, |arg| {
                iterate(self.as_ptr(), from, spec.offset, spec.len, flags, Some(extent), arg)
            })
        }?;
        Ok(())
    }
}

unsafe extern "C" fn extent(offset: u64, len: usize, exists: c_int, arg: *mut c_void) -> c_int {
    // SAFETY: `diff` passes a Callback<Each> that outlives the C call.
    unsafe { Callback::enter(arg, |each: &mut Each<'_>| each(offset, len as u64, exists != 0)) }
}
