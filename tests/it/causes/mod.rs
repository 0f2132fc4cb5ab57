//! The cause of a failure is looked up, not guessed, and protection works.

mod clusters;
mod configuration;
mod deleted;
mod full;
mod keyrings;
mod locks;
mod missing;
mod protects;
