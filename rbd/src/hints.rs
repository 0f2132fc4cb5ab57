//! Hints on how data will be used.

bitflags::bitflags! {
    /// Hints to the OSDs about how data will be accessed. They affect speed only, never results.
    ///
    /// The names and meanings are those of `posix_fadvise`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct AccessHints: u32 {
        /// The next access is at a random offset.
        const RANDOM = 0x4;
        /// The next access follows this one.
        const SEQUENTIAL = 0x8;
        /// The data will be needed again soon.
        const WILL_NEED = 0x10;
        /// No client will need the data again.
        const DONT_NEED = 0x20;
        /// This client will not need the data again.
        const NO_CACHE = 0x40;
    }
}

#[cfg(test)]
mod tests {
    use super::AccessHints;

    #[test]
    fn the_bits_are_those_of_librados() {
        for (hint, bit) in [
            (AccessHints::RANDOM, librbd_sys::LIBRADOS_OP_FLAG_FADVISE_RANDOM),
            (AccessHints::SEQUENTIAL, librbd_sys::LIBRADOS_OP_FLAG_FADVISE_SEQUENTIAL),
            (AccessHints::WILL_NEED, librbd_sys::LIBRADOS_OP_FLAG_FADVISE_WILLNEED),
            (AccessHints::DONT_NEED, librbd_sys::LIBRADOS_OP_FLAG_FADVISE_DONTNEED),
            (AccessHints::NO_CACHE, librbd_sys::LIBRADOS_OP_FLAG_FADVISE_NOCACHE),
        ] {
            assert_eq!(hint.bits(), bit);
        }
    }
}
