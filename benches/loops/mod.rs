//! The loops that are measured: ours, and those of the C twin.

pub mod ours;
#[path = "../raw/mod.rs"]
pub mod raw;
pub mod work;
