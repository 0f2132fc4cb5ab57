//! Addresses that cross threads.

use std::ptr;

/// An address that threads may share and pass on. Whether a struct that contains it is `Send` and
/// `Sync` depends on its other fields only.
#[repr(transparent)]
pub(in crate::raw) struct Address<T>(*mut T);

// SAFETY: the caller of `new` promised it.
unsafe impl<T> Send for Address<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Address<T> {}

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Address<T> {}

impl<T> PartialEq for Address<T> {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}

impl<T> std::fmt::Debug for Address<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Address<T> {
    pub(in crate::raw) const NULL: Self = Address(ptr::null_mut());

    /// # Safety
    /// Any thread may use the target in the ways in which the owners of the address use it.
    pub(in crate::raw) const unsafe fn new(address: *mut T) -> Self {
        Address(address)
    }

    pub(in crate::raw) const fn get(self) -> *mut T {
        self.0
    }
}
