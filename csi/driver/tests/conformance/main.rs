//! What the interface promises of each call, on a real cluster.

#![allow(unreachable_pub, clippy::pedantic, clippy::type_complexity)]

mod blocks;
#[allow(dead_code)]
mod driver;
mod ending;
mod errors;
mod faults;
mod groups;
mod identity;
mod interrupted;
mod lists;
mod many;
mod nodes;
mod snapshots;
mod volumes;
