//! Times that Ceph stores in 32 bits.

use std::time::{Duration, SystemTime};

/// Returns a duration from now in whole seconds, such that its end can be stored. The last second
/// that Ceph can store is in the year 2106; a later time would wrap around.
pub(crate) fn storable_seconds(duration: Duration) -> u32 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A day less, because the daemons' clocks differ from this one.
    let most = u64::from(u32::MAX).saturating_sub(now.as_secs() + 24 * 3600);
    duration.as_secs().min(most) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_end_is_later_than_ceph_can_store() {
        assert_eq!(storable_seconds(Duration::from_secs(3600)), 3600);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        for long in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX)), Duration::from_secs(1 << 33)] {
            assert!(now + u64::from(storable_seconds(long)) < u64::from(u32::MAX), "{long:?}");
        }
    }
}
