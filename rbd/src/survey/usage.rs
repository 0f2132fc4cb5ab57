//! The space that an image and its snapshots use, computed from their object maps.

use super::object_map::{ABSENT, CLEAN, ObjectMap, WRITTEN, one, replace};

/// The layout of an image on its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    object_size: u64,
    unit: u64,
    count: u64,
}

/// The changes of an object between two versions of an image, two bits each as in an object map.
const UNCHANGED: u8 = 0;
const REMOVED: u8 = 1;
const CHANGED: u8 = 2;

/// The bits of four objects that mark a [`CHANGED`] one.
const ANY_CHANGED: u8 = 0b10_10_10_10;

impl Layout {
    /// Returns `None` for values that no image can have.
    pub(super) fn new(order: u8, unit: u64, count: u64) -> Option<Layout> {
        let object_size = 1_u64.checked_shl(order.into())?;
        let fits = unit > 0 && unit <= object_size && object_size % unit == 0;
        // librbd keeps the number in 32 bits.
        let fits = fits && (1..=u64::from(u32::MAX)).contains(&count);
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
    pub(super) fn objects(self, size: u64) -> u64 {
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
    before: ObjectMap,
    changes: ObjectMap,
}

impl Walk {
    pub(super) fn new(layout: Layout) -> Walk {
        Walk { layout, before: ObjectMap::default(), changes: ObjectMap::default() }
    }

    /// Returns how much memory a walk takes at most for an image of this size: the map before, the
    /// changes, and the next map, which is copied once.
    pub(super) fn memory(layout: Layout, size: u64) -> u64 {
        layout.objects(size)
    }

    /// Continues with the next version. Returns `None` if its map is too short for its size, so
    /// that it cannot be trusted.
    pub(super) fn step(&mut self, mut map: ObjectMap, size: u64) -> Option<()> {
        let objects = usize::try_from(self.layout.objects(size)).ok()?;
        if map.len() < objects {
            return None;
        }
        map.resize(objects);
        // After a shrink, the objects beyond the end are absent.
        map.resize(objects.max(self.before.len()).max(self.changes.len()));
        self.changes.resize(map.len());
        for index in 0..map.fours() {
            let (before, now) = (self.before.four(index), map.four(index));
            let known = self.before.len().saturating_sub(4 * index);
            if known >= 4 && before == now && !any_written(now) {
                continue;
            }
            let mut changes = self.changes.four(index);
            for position in 0..(map.len() - 4 * index).min(4) {
                let change = match (one(before, position), one(now, position)) {
                    (ABSENT, ABSENT) if position >= known => UNCHANGED,
                    (ABSENT, ABSENT) | (WRITTEN | CLEAN, CLEAN) => continue,
                    (_, ABSENT) => REMOVED,
                    (before, now) if before == now && now != WRITTEN => continue,
                    _ => CHANGED,
                };
                changes = replace(changes, position, change);
            }
            self.changes.set_four(index, changes);
        }
        self.before = map;
        Some(())
    }

    /// Returns the bytes that this version, of this size, has written since the last counted
    /// version. Starts a new count.
    pub(super) fn count(&mut self, size: u64) -> u64 {
        let mut used = 0;
        for index in 0..self.changes.fours() {
            let four = self.changes.four(index);
            if four & ANY_CHANGED == 0 {
                continue;
            }
            let changed = (0..4).filter(|position| one(four, *position) == CHANGED);
            used += changed
                .map(|position| self.layout.bytes_in((4 * index + position) as u64, size))
                .sum::<u64>();
        }
        self.changes = ObjectMap::default();
        used
    }
}

/// Returns whether one of four objects is in the state [`WRITTEN`].
fn any_written(four: u8) -> bool {
    four & !(four >> 1) & 0b01_01_01_01 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an object map with these states.
    fn map(states: &[u8]) -> ObjectMap {
        let four = |four: &[u8]| {
            four.iter().enumerate().fold(0, |byte, (position, state)| replace(byte, position, *state))
        };
        ObjectMap::new(states.chunks(4).map(four).collect(), 0, states.len()).unwrap()
    }

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
        assert_eq!(Layout::new(22, 1, 1 << 32), None);
        assert_eq!(Layout::new(22, 3, 3), None);
        assert!(Layout::new(22, 1, (1 << 32) - 1).is_some());
    }

    #[test]
    fn the_writes_of_a_version_count_once() {
        let mut walk = Walk::new(PLAIN);
        walk.step(map(&[1, 3, 0, 1]), 28).unwrap();
        assert_eq!(walk.count(28), 8 + 8 + 4);
        // Written again, clean since then, removed, grown.
        walk.step(map(&[1, 3, 3, 0, 1]), 40).unwrap();
        assert_eq!(walk.count(40), 8 + 8 + 8);
        walk.step(map(&[3, 3, 3, 0, 3]), 40).unwrap();
        assert_eq!(walk.count(40), 0);
        // Shrunk, and grown again after a version that is not counted.
        walk.step(map(&[3]), 8).unwrap();
        walk.step(map(&[3, 1, 0]), 24).unwrap();
        assert_eq!(walk.count(24), 8);
        assert_eq!(walk.step(map(&[1]), 16), None);
    }
}
