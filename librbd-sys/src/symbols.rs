//! The declarations of the headers as data. The build script also reads this file.

include!("generated/symbols.rs");

/// A function of the bound headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol {
    /// The function's name.
    pub name: &'static str,
    /// The header that declares it.
    pub header: &'static str,
    /// The first Ceph release that has it, such as `Ceph 20.2`, if that is newer than the oldest
    /// supported one. The function is then resolved at run time and is in `librbd_sys::late`.
    pub needs: Option<&'static str>,
}
