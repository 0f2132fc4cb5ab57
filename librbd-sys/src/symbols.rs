//! What the headers declare, as data. The build script reads this file too.

include!("generated/symbols.rs");

/// A function of the bound headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// The function's name.
    pub name: &'static str,
    /// The header that declares it.
    pub header: &'static str,
    /// The first Ceph release seen to have it, as in `Ceph 20.2`, if that is newer than the oldest
    /// supported one: the function is then resolved at run time and lies in `librbd_sys::late`.
    pub needs: Option<&'static str>,
}
