//! Errors name the true cause of a failure, and what protects images from a removal works.

mod clusters;
mod configuration;
mod deleted;
mod full;
mod keyrings;
mod locks;
mod missing;
mod protects;
mod removed;
