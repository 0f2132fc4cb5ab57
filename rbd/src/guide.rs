//! Explains what the calls of this crate have in common: one page for each question.

#[doc = include_str!("../docs/features.md")]
pub mod features {}
