//! What a compare-and-write found.

/// What a [compare-and-write](crate::Image::compare_and_write) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it tells whether anything was written"]
pub enum Compare {
    /// The image held what was expected, and now holds the new data.
    Written,
    /// Nothing was written: the image differs from this offset on, in bytes from its start.
    Differs(u64),
}
