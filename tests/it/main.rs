//! Integration tests: one binary, one real cluster.

// Tests may unwrap, compare floats and cast.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

mod advisory;
mod aio;
mod batch;
mod causes;
mod cli;
mod clones;
mod cluster;
mod copy;
mod cuts;
mod diff;
mod doubted_lock;
mod encryption;
mod groups;
mod images;
mod io;
mod journaling;
mod kept_lock;
mod krbd;
mod left_lock;
mod let_in_again;
mod locks;
mod long_ranges;
mod lost_answers;
mod lost_feature;
mod masks;
mod metadata;
mod migration;
mod mirroring;
mod mixed;
mod model;
mod outages;
mod ownership;
mod played_owner;
mod progress;
mod queue;
mod quiesce;
mod rados;
mod read_each;
mod releases;
mod shrinking;
mod snapshots;
mod sound;
#[path = "../../benches/compare/statistics.rs"]
mod statistics;
mod support;
mod survey;
mod timeouts;
mod trash;
mod trimming;
mod watch;
