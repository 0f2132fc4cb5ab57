//! Explains what the calls of this crate have in common: one page for each question.

#[doc = include_str!("../docs/features.md")]
pub mod features {}

#[cfg(feature = "mirror")]
#[doc = include_str!("../docs/mirroring.md")]
pub mod mirroring {}
