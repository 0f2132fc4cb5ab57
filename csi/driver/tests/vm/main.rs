//! The node on a real kernel: two virtual machines are two nodes, and the test plays provisioner
//! and kubelet.

#![allow(unreachable_pub, clippy::pedantic, clippy::type_complexity)]

mod care;
mod classes;
#[path = "../conformance/driver.rs"]
#[allow(dead_code)]
mod driver;
mod faults;
mod killed;
mod many;
mod node;
mod walkthrough;
