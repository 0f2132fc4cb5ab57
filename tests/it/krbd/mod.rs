//! Mapping through a real kernel, in a virtual machine, against the real cluster.

mod differential;
mod guest;
mod kernels;
mod modes;
mod trouble;
mod walkthrough;
mod ways;
