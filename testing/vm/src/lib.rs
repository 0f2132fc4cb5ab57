//! rbd-testvm
