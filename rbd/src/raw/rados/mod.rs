//! Objects, their omaps and calls of classes on them, as librados has them.

pub(crate) mod class_calls;
pub(crate) mod objects;
pub(crate) mod omap;
