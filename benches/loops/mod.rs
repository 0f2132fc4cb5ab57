//! The measured loops: those of this library, and those of the C twin.

pub mod ours;
#[path = "../raw/mod.rs"]
pub mod raw;
pub mod work;
