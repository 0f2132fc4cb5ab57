//! Object maps: the states of an image's objects.

/// The states of an object. The fourth one, of an object that is being removed, has no name here.
pub(super) const ABSENT: u8 = 0;
pub(super) const WRITTEN: u8 = 1;
pub(super) const CLEAN: u8 = 3;

/// Two bits for each object, as in the OSDs: the first object has the highest bits of the first
/// byte. Bits after the end are 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ObjectMap {
    bytes: Vec<u8>,
    /// The position of the first state. The bytes before it stay in place.
    start: usize,
    len: usize,
}

impl ObjectMap {
    /// Returns `None` if there are fewer bytes.
    pub(super) fn new(mut bytes: Vec<u8>, start: usize, len: usize) -> Option<ObjectMap> {
        let end = start.checked_add(len.div_ceil(4))?;
        if bytes.len() < end {
            return None;
        }
        bytes.truncate(end);
        let mut map = ObjectMap { bytes, start, len };
        map.clear_behind();
        Some(map)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Truncates the map, or appends zeros.
    pub(super) fn resize(&mut self, len: usize) {
        self.bytes.resize(self.start + len.div_ceil(4), 0);
        self.len = len;
        self.clear_behind();
    }

    fn clear_behind(&mut self) {
        let used = self.len % 4;
        if let (Some(last), 1..) = (self.bytes.last_mut(), used) {
            *last &= !(0xff >> (2 * used));
        }
    }

    /// Returns the four states of the objects from `4 * index`.
    pub(super) fn four(&self, index: usize) -> u8 {
        self.bytes.get(self.start + index).copied().unwrap_or(0)
    }

    pub(super) fn set_four(&mut self, index: usize, states: u8) {
        if let Some(byte) = self.bytes.get_mut(self.start + index) {
            *byte = states;
        }
    }

    /// Returns how many bytes have states.
    pub(super) fn fours(&self) -> usize {
        self.len.div_ceil(4)
    }
}

/// Returns one of four states.
pub(super) fn one(four: u8, position: usize) -> u8 {
    four >> (6 - 2 * position) & 3
}

/// Replaces one of four states.
pub(super) fn replace(four: u8, position: usize, state: u8) -> u8 {
    let shift = 6 - 2 * position;
    four & !(3 << shift) | state << shift
}
