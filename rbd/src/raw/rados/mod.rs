//! Objects of librados, their omaps, and calls of object classes.

pub(crate) mod class_calls;
pub(crate) mod objects;
pub(crate) mod omap;
