//! The cause of a failure is looked up, not guessed; and what protects, protects.

mod clusters;
mod configuration;
mod deleted;
mod full;
mod keyrings;
mod locks;
mod missing;
mod protects;
