//! What a compare-and-write found.

/// What a [compare-and-write](crate::Image::compare_and_write) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it tells whether anything was written"]
pub enum Compare {
    /// The range contained the expected bytes, and now contains the new data.
    Written,
    /// Nothing was written. The first difference is at this offset, in bytes from the start of the
    /// image.
    Differs(u64),
}
