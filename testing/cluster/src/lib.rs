//! rbd-testcluster
