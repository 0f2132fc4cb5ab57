//! Real clusters, started, disturbed and ended.

mod command;
mod daemons;
mod failures;
mod lifecycle;
mod owner;
mod processes;
mod tools;
mod users;
