//! Integration tests: one binary, one real cluster.
