//! Objects and their omaps, as librados has them.

pub(crate) mod objects;
pub(crate) mod omap;
