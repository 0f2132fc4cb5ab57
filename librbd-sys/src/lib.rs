//! librbd-sys
