//! Sizes of volumes.

use tonic::Status;

use crate::proto::csi::CapacityRange;

/// The size of a volume whose request names none.
const DEFAULT: u64 = 1 << 30;
/// Sizes are multiples of 1 MiB, because file systems and the kernel need whole blocks.
const STEP: u64 = 1 << 20;
/// The largest size: Kubernetes and librbd store sizes as signed numbers of 64 bits.
const LARGEST: u64 = i64::MAX as u64 / STEP * STEP;

/// The largest number of objects for which librbd keeps an object map.
const MAPPED_OBJECTS: u64 = 256_000_000;

/// Refuses a size that an image with an object map cannot have.
pub fn check_map(size: u64, object_size: u64) -> Result<(), Status> {
    let limit = MAPPED_OBJECTS.saturating_mul(object_size);
    if size <= limit {
        return Ok(());
    }
    Err(Status::out_of_range(format!(
        "a volume of {size} bytes is larger than the {limit} bytes that the object map of an image can \
         describe; set larger objects ('objectSize') or 'imageFeatures' without object-map in the storage \
         class"
    )))
}

/// A range of sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    required: u64,
    limit: u64,
}

impl Sizes {
    /// Checks a range of a request.
    pub fn new(range: Option<&CapacityRange>) -> Result<Sizes, Status> {
        let (least, most) = range.map_or((0, 0), |range| (range.required_bytes, range.limit_bytes));
        let [Ok(required), Ok(limit)] = [least, most].map(u64::try_from) else {
            return Err(Status::invalid_argument(format!(
                "a size in capacity_range is negative (required_bytes {least}, limit_bytes {most})"
            )));
        };
        if limit != 0 && required > limit {
            return Err(Status::invalid_argument(format!(
                "capacity_range requires {required} bytes, but its limit is {limit} bytes"
            )));
        }
        Ok(Sizes { required, limit })
    }

    /// Returns the size of a new volume in bytes. It is at least `least`, the size of the volume's
    /// source.
    pub fn choose(self, least: u64) -> Result<u64, Status> {
        let wanted = match self.required.max(least) {
            0 if self.limit == 0 => DEFAULT,
            0 => DEFAULT.min(self.limit / STEP * STEP),
            wanted => wanted,
        };
        let rounded = wanted.max(1).checked_next_multiple_of(STEP).unwrap_or(u64::MAX);
        if self.limit != 0 && rounded > self.limit {
            return Err(Status::out_of_range(format!(
                "a volume of at least {wanted} bytes has {rounded} bytes, in whole MiB, which is above the \
                 limit of {} bytes",
                self.limit
            )));
        }
        if rounded > LARGEST {
            return Err(Status::out_of_range(format!(
                "a volume cannot have {wanted} bytes; the largest has {LARGEST} bytes"
            )));
        }
        Ok(rounded)
    }

    /// Returns the smallest accepted size in bytes.
    pub fn required(self) -> u64 {
        self.required
    }

    /// Returns whether the request accepts a volume of this size.
    pub fn fit(self, size: u64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(required_bytes: i64, limit_bytes: i64) -> Result<Sizes, tonic::Code> {
        Sizes::new(Some(&CapacityRange { required_bytes, limit_bytes })).map_err(|status| status.code())
    }

    #[test]
    fn sizes_are_whole_mebibytes_within_the_range() {
        let choose = |required, limit, least| {
            sizes(required, limit).unwrap().choose(least).map_err(|status| status.code())
        };
        assert_eq!(Sizes::new(None).unwrap().choose(0).unwrap(), 1 << 30);
        assert_eq!(choose(0, 0, 0), Ok(1 << 30));
        assert_eq!(choose(1, 0, 0), Ok(1 << 20));
        assert_eq!(choose(1 << 20, 1 << 20, 0), Ok(1 << 20));
        assert_eq!(choose((1 << 20) + 1, 3 << 20, 0), Ok(2 << 20));
        assert_eq!(choose((1 << 20) + 1, (1 << 20) + 2, 0), Err(tonic::Code::OutOfRange));
        assert_eq!(choose(0, 5 << 20, 0), Ok(5 << 20));
        assert_eq!(choose(0, 5, 0), Err(tonic::Code::OutOfRange));
        assert_eq!(choose(1, 0, 7 << 20), Ok(7 << 20));
        assert_eq!(choose(1, 6 << 20, 7 << 20), Err(tonic::Code::OutOfRange));
        assert_eq!(choose(i64::MAX, 0, 0), Err(tonic::Code::OutOfRange));
        assert_eq!(sizes(-1, 0), Err(tonic::Code::InvalidArgument));
        assert_eq!(sizes(2, 1), Err(tonic::Code::InvalidArgument));
    }

    #[test]
    fn an_object_map_bounds_the_size() {
        let limit = 256_000_000 << 22;
        assert!(check_map(limit, 1 << 22).is_ok() && check_map(limit + 1, 1 << 23).is_ok());
        assert_eq!(check_map(limit + 1, 1 << 22).unwrap_err().code(), tonic::Code::OutOfRange);
    }

    #[test]
    fn a_volume_fits_or_not() {
        let sizes = sizes(10, 20).unwrap();
        assert!(sizes.fit(10) && sizes.fit(20) && !sizes.fit(9) && !sizes.fit(21));
    }
}
