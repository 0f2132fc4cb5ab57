//! `rbd_image_options_t`: the options of a new image.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::address::Address;
use crate::raw::ffi::conversion::check;

/// An option, by librbd's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opt {
    Format,
    Features,
    Order,
    StripeUnit,
    StripeCount,
    JournalOrder,
    JournalSplayWidth,
    JournalPool,
    DataPool,
    Flatten,
    CloneFormat,
}

impl Opt {
    fn number(self) -> c_int {
        (match self {
            Opt::Format => sys::RBD_IMAGE_OPTION_FORMAT,
            Opt::Features => sys::RBD_IMAGE_OPTION_FEATURES,
            Opt::Order => sys::RBD_IMAGE_OPTION_ORDER,
            Opt::StripeUnit => sys::RBD_IMAGE_OPTION_STRIPE_UNIT,
            Opt::StripeCount => sys::RBD_IMAGE_OPTION_STRIPE_COUNT,
            Opt::JournalOrder => sys::RBD_IMAGE_OPTION_JOURNAL_ORDER,
            Opt::JournalSplayWidth => sys::RBD_IMAGE_OPTION_JOURNAL_SPLAY_WIDTH,
            Opt::JournalPool => sys::RBD_IMAGE_OPTION_JOURNAL_POOL,
            Opt::Flatten => sys::RBD_IMAGE_OPTION_FLATTEN,
            Opt::CloneFormat => sys::RBD_IMAGE_OPTION_CLONE_FORMAT,
            Opt::DataPool => sys::RBD_IMAGE_OPTION_DATA_POOL,
        }) as c_int
    }
}

/// A set of options, freed when it is dropped.
#[derive(Debug)]
pub(crate) struct ImageOptions(Address<c_void>);

impl Drop for ImageOptions {
    fn drop(&mut self) {
        // SAFETY: we own the handle.
        unsafe { sys::rbd_image_options_destroy(self.as_ptr()) }
    }
}

impl ImageOptions {
    pub(crate) fn new() -> ImageOptions {
        let mut handle = ptr::null_mut();
        // SAFETY: the out pointer lives through the call, which cannot fail.
        unsafe { sys::rbd_image_options_create(&raw mut handle) };
        // SAFETY: plain data that belongs to no thread; writing takes `&mut`.
        ImageOptions(unsafe { Address::new(handle) })
    }

    pub(crate) fn as_ptr(&self) -> sys::rbd_image_options_t {
        self.0.get()
    }

    pub(crate) fn set_number(&mut self, option: Opt, value: u64) -> RawResult<()> {
        // SAFETY: the handle is valid.
        check(unsafe { sys::rbd_image_options_set_uint64(self.as_ptr(), option.number(), value) })?;
        Ok(())
    }

    pub(crate) fn set_text(&mut self, option: Opt, value: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the value is copied.
        check(unsafe { sys::rbd_image_options_set_string(self.as_ptr(), option.number(), value.as_ptr()) })?;
        Ok(())
    }
}
