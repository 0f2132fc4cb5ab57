//! Integration tests: one binary, one real cluster.

// What a test needs it unwraps, and it may compare floats and cast as it likes.
#![allow(missing_docs, clippy::pedantic)]

mod cli;
mod aio;
mod cluster;
mod encryption;
mod groups;
mod images;
mod io;
mod locks;
mod ownership;
mod support;
mod timeouts;
mod trash;
mod watch;
