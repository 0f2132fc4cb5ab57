//! What the interface promises of each call, on a real cluster.

#![allow(unreachable_pub, clippy::pedantic, clippy::type_complexity)]

mod blocks;
mod cancelled;
mod child;
#[allow(dead_code)]
mod driver;
mod ending;
mod errors;
mod faults;
mod fields;
mod groups;
mod half_made;
mod held_up;
mod identity;
mod interrupted;
mod killed;
mod lists;
mod many;
mod meanwhile;
mod nodes;
mod program;
mod snapshots;
mod volumes;
