//! The space that an image and its snapshots use, computed from their object maps.

/// The layout of an image on its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    object_size: u64,
    unit: u64,
    count: u64,
}

/// The change of an object between two versions of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Removed,
    Written,
}

/// The states of an object in an object map.
const ABSENT: u8 = 0;
const WRITTEN: u8 = 1;
const CLEAN: u8 = 3;

impl Layout {
    /// Returns `None` for values that no image can have.
    pub(super) fn new(order: u8, unit: u64, count: u64) -> Option<Layout> {
        let object_size = 1_u64.checked_shl(order.into())?;
        let fits = unit > 0 && count > 0 && unit <= object_size && object_size % unit == 0;
        (fits && object_size.checked_mul(count).is_some()).then_some(Layout { object_size, unit, count })
    }

    /// Returns how many bytes of an object an image of this size uses.
    fn bytes_in(self, object: u64, size: u64) -> u64 {
        let set_size = self.object_size * self.count;
        let start = (object / self.count).saturating_mul(set_size);
        let in_set = size.saturating_sub(start).min(set_size);
        let stripe = self.unit * self.count;
        let before = (object % self.count) * self.unit;
        in_set / stripe * self.unit + (in_set % stripe).saturating_sub(before).min(self.unit)
    }

    /// Returns how many objects an image of this size has.
    fn objects(self, size: u64) -> u64 {
        let set_size = self.object_size * self.count;
        let rest = size % set_size;
        size / set_size * self.count + rest.div_ceil(self.unit).min(self.count)
    }
}

/// A walk through the versions of an image, oldest first, that counts the changes of each.
#[derive(Debug)]
pub(super) struct Walk {
    layout: Layout,
    /// The map of the previous version, and the changes since the last counted version.
    before: Vec<u8>,
    changes: Vec<Change>,
}

impl Walk {
    pub(super) fn new(layout: Layout) -> Walk {
        Walk { layout, before: Vec::new(), changes: Vec::new() }
    }

    /// Continues with the next version. Returns `None` if its map is too short for its size, so
    /// that it cannot be trusted.
    pub(super) fn step(&mut self, mut map: Vec<u8>, size: u64) -> Option<()> {
        let objects = usize::try_from(self.layout.objects(size)).ok()?;
        if map.len() < objects {
            return None;
        }
        map.truncate(objects);
        // After a shrink, the objects beyond the end are absent.
        map.resize(objects.max(self.before.len()).max(self.changes.len()), ABSENT);
        self.changes.resize(map.len(), Change::None);
        for (index, (now, change)) in map.iter().zip(&mut self.changes).enumerate() {
            let before = self.before.get(index).copied();
            match (before.unwrap_or(ABSENT), *now) {
                (ABSENT, ABSENT) if before.is_none() => *change = Change::None,
                (ABSENT, ABSENT) | (WRITTEN | CLEAN, CLEAN) => {}
                (_, ABSENT) => *change = Change::Removed,
                (before, now) if before == now && now != WRITTEN => {}
                _ => *change = Change::Written,
            }
        }
        self.before = map;
        Some(())
    }

    /// Returns the bytes that this version, of this size, has written since the last counted
    /// version. Starts a new count.
    pub(super) fn count(&mut self, size: u64) -> u64 {
        let objects = (0_u64..).zip(&self.changes);
        let written = objects.filter(|(_, change)| **change == Change::Written);
        let used = written.map(|(object, _)| self.layout.bytes_in(object, size)).sum();
        self.changes.clear();
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Layout = Layout { object_size: 8, unit: 8, count: 1 };
    const STRIPED: Layout = Layout { object_size: 8, unit: 2, count: 3 };

    #[test]
    fn each_byte_lies_in_one_object() {
        for layout in [PLAIN, STRIPED] {
            for size in 0..100 {
                let objects = layout.objects(size);
                let each = (0..objects).map(|object| layout.bytes_in(object, size));
                assert_eq!(each.clone().sum::<u64>(), size, "{layout:?}");
                assert!(each.clone().all(|bytes| bytes > 0 && bytes <= 8), "{layout:?} {size}");
                assert_eq!(layout.bytes_in(objects, size), 0);
            }
        }
        assert_eq!(STRIPED.bytes_in(1, 9), 3);
        assert_eq!(Layout::new(22, 0, 1), None);
        assert_eq!(Layout::new(64, 1, 1), None);
        assert_eq!(Layout::new(63, 1, u64::MAX), None);
    }

    #[test]
    fn what_a_version_has_written_counts_once() {
        let mut walk = Walk::new(PLAIN);
        walk.step(vec![1, 3, 0, 1], 28).unwrap();
        assert_eq!(walk.count(28), 8 + 8 + 4);
        // Written again, clean since then, removed, grown.
        walk.step(vec![1, 3, 3, 0, 1], 40).unwrap();
        assert_eq!(walk.count(40), 8 + 8 + 8);
        walk.step(vec![3, 3, 3, 0, 3], 40).unwrap();
        assert_eq!(walk.count(40), 0);
        // Shrunk, and grown again after a version that is not counted.
        walk.step(vec![3], 8).unwrap();
        walk.step(vec![3, 1, 0], 24).unwrap();
        assert_eq!(walk.count(24), 8);
        assert_eq!(walk.step(vec![1], 16), None);
    }
}
