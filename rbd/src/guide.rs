//! Explains subjects that concern many calls, one per page.

#[doc = include_str!("../docs/durability.md")]
pub mod durability {}

#[doc = include_str!("../docs/features.md")]
pub mod features {}

#[doc = include_str!("../docs/locks.md")]
pub mod locks {}

#[doc = include_str!("../docs/many.md")]
pub mod many {}

#[doc = include_str!("../docs/threads.md")]
pub mod threads {}

#[cfg(feature = "mirror")]
#[doc = include_str!("../docs/mirroring.md")]
pub mod mirroring {}
