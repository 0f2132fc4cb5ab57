//! Decodes the answers of the OSDs' object classes. No input makes this code panic, or allocate
//! more memory than the input has.

use std::time::{Duration, SystemTime};

use super::object_map::ObjectMap;

/// An answer that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

type Decoded<T> = Result<T, Malformed>;

/// The rest of an answer. Numbers are little endian.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder<'a>(&'a [u8]);

/// A snapshot in the header of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    pub(crate) kind: u32,
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) created: SystemTime,
}

/// The place of a parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParentSpec {
    pub(crate) pool_id: i64,
    pub(crate) namespace: String,
    pub(crate) image_id: String,
    pub(crate) snapshot_id: u64,
}

/// A lock and its holders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockInfo {
    /// 0: none; 1 and 3: exclusive; 2: shared.
    pub(crate) kind: u8,
    pub(crate) tag: String,
    pub(crate) lockers: Vec<LockerInfo>,
}

/// One holder of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockerInfo {
    /// `client.4123`.
    pub(crate) client: String,
    pub(crate) cookie: String,
    /// Empty if this crate does not know its kind.
    pub(crate) address: String,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    /// The key after which the next page begins. As a text it could sort before the keys of this
    /// page, if it is not UTF-8, and the list would never end.
    pub(crate) last: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(answer: &'a [u8]) -> Decoder<'a> {
        Decoder(answer)
    }

    fn take(&mut self, len: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Decoded<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Decoded<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Decoded<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// Reads bytes that follow their length.
    fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    pub(crate) fn text(&mut self) -> Decoded<String> {
        Ok(String::from_utf8_lossy(self.bytes()?).into_owned())
    }

    /// Reads a time: seconds and nanoseconds since 1970.
    pub(crate) fn time(&mut self) -> Decoded<SystemTime> {
        let (seconds, nanoseconds) = (self.u32()?, self.u32()?);
        let since = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanoseconds.into());
        SystemTime::UNIX_EPOCH.checked_add(since).ok_or(Malformed)
    }

    /// Reads a struct that begins with its version. Skips the fields that newer versions append.
    fn section(&mut self) -> Decoded<Decoder<'a>> {
        let (_version, oldest_reader) = (self.u8()?, self.u8()?);
        if oldest_reader > 1 {
            return Err(Malformed);
        }
        self.bytes().map(Decoder)
    }

    /// Reads the ids of an image's snapshots, newest first.
    pub(crate) fn snapshot_ids(&mut self) -> Decoded<Vec<u64>> {
        let _newest = self.u64()?;
        let count = self.u32()?;
        let ids = self.take((count as usize).checked_mul(8).ok_or(Malformed)?)?;
        Ok(ids.chunks_exact(8).filter_map(|id| id.try_into().ok().map(u64::from_le_bytes)).collect())
    }

    pub(crate) fn snapshot(&mut self) -> Decoded<SnapshotInfo> {
        let mut inner = self.section()?;
        let _id = inner.u64()?;
        let mut namespace = inner.section()?;
        let (kind, name) = (namespace.u32()?, inner.text()?);
        Ok(SnapshotInfo { kind, name, size: inner.u64()?, created: inner.time()? })
    }

    /// Reads the parent. Returns `None` if the image is no clone.
    pub(crate) fn parent(&mut self) -> Decoded<Option<ParentSpec>> {
        let mut inner = self.section()?;
        let parent = ParentSpec {
            pool_id: inner.i64()?,
            namespace: inner.text()?,
            image_id: inner.text()?,
            snapshot_id: inner.u64()?,
        };
        Ok((parent.pool_id >= 0 && !parent.image_id.is_empty()).then_some(parent))
    }

    pub(crate) fn optional_u64(&mut self) -> Decoded<Option<u64>> {
        if self.u8()? == 0 { Ok(None) } else { self.u64().map(Some) }
    }

    /// Reads the source that moved an image to the trash, and the name of the image.
    pub(crate) fn trashed(&mut self) -> Decoded<(u8, String)> {
        let mut inner = self.section()?;
        Ok((inner.u8()?, inner.text()?))
    }

    /// Reads the ids of the images in the trash, each with the source that moved it there.
    pub(crate) fn trash(&mut self) -> Decoded<Page<(String, u8)>> {
        self.page(|decoder| Ok(decoder.trashed()?.0))
    }

    /// Reads keys with their values.
    fn page<T>(&mut self, mut value: impl FnMut(&mut Self) -> Decoded<T>) -> Decoded<Page<(String, T)>> {
        let mut page = Page { entries: Vec::new(), last: Vec::new() };
        for _ in 0..self.u32()? {
            let key = self.bytes()?;
            page.entries.push((String::from_utf8_lossy(key).into_owned(), value(self)?));
            page.last = key.to_vec();
        }
        Ok(page)
    }

    pub(crate) fn lock(&mut self) -> Decoded<LockInfo> {
        let mut inner = self.section()?;
        let mut lockers = Vec::new();
        for _ in 0..inner.u32()? {
            let mut id = inner.section()?;
            let kind = match id.u8()? {
                1 => "mon",
                2 => "mds",
                4 => "osd",
                8 => "client",
                16 => "mgr",
                _ => "unknown",
            };
            let client = format!("{kind}.{}", id.i64()?);
            let cookie = id.text()?;
            let mut about = inner.section()?;
            let _expires = about.time()?;
            lockers.push(LockerInfo { client, cookie, address: about.address().unwrap_or_default() });
        }
        Ok(LockInfo { kind: inner.u8()?, tag: inner.text()?, lockers })
    }

    /// Reads the address of a client, in Ceph's notation.
    fn address(&mut self) -> Decoded<String> {
        if self.u8()? != 1 {
            return Err(Malformed);
        }
        let mut inner = self.section()?;
        let (_kind, nonce) = (inner.u32()?, inner.u32()?);
        let mut socket = Decoder(inner.bytes()?);
        let family = u16::from_le_bytes(socket.array()?);
        let port = u16::from_be_bytes(socket.array()?);
        match i32::from(family) {
            libc::AF_INET => {
                let ip = std::net::Ipv4Addr::from(socket.array::<4>()?);
                Ok(format!("{ip}:{port}/{nonce}"))
            }
            libc::AF_INET6 => {
                let _flow = socket.u32()?;
                let ip = std::net::Ipv6Addr::from(socket.array::<16>()?);
                Ok(format!("[{ip}]:{port}/{nonce}"))
            }
            _ => Err(Malformed),
        }
    }

    /// Reads the pool and the id of a group. Returns `None` if the image is in no group.
    pub(crate) fn group(&mut self) -> Decoded<Option<(i64, String)>> {
        let mut inner = self.section()?;
        let (pool_id, id) = (inner.i64()?, inner.text()?);
        Ok((pool_id >= 0 && !id.is_empty()).then_some((pool_id, id)))
    }

    /// Reads pairs of key and value, sorted by key.
    pub(crate) fn metadata(&mut self) -> Decoded<Page<(String, String)>> {
        self.page(Decoder::text)
    }
}

/// Reads an object map. It has the states of more objects than are wanted if the image shrank, or
/// if somebody damaged it. The states stay in the answer.
pub(crate) fn object_map(answer: Vec<u8>, wanted: usize) -> Decoded<ObjectMap> {
    let mut rest = Decoder::new(&answer);
    let mut header = Decoder(rest.bytes()?);
    let count = usize::try_from(header.section()?.u64()?).map_err(|_| Malformed)?;
    // Checksums follow the states.
    let start = answer.len() - rest.0.len();
    ObjectMap::new(answer, start, count.min(wanted)).ok_or(Malformed)
}

/// Decodes an answer with each decoder. None may panic.
#[cfg(any(test, fuzzing))]
pub(crate) fn anything(answer: &[u8]) {
    let decoder = || Decoder::new(answer);
    let _ = decoder().snapshot_ids();
    let _ = decoder().snapshot();
    let _ = decoder().parent();
    let _ = decoder().optional_u64();
    let _ = decoder().trash();
    let _ = decoder().trashed();
    let _ = decoder().lock();
    let _ = decoder().address();
    let _ = decoder().text();
    let _ = decoder().time();
    let _ = decoder().group();
    let _ = decoder().metadata();
    if let Ok(map) = object_map(answer.to_vec(), usize::MAX) {
        assert!(map.len() <= answer.len() * 4);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns a struct of version 1.
    fn section(inner: &[u8]) -> Vec<u8> {
        [&[1, 1][..], &u32::try_from(inner.len()).unwrap().to_le_bytes(), inner].concat()
    }

    fn text(text: &str) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
    }

    #[test]
    fn an_object_map_has_four_states_a_byte() {
        let header = section(&5_u64.to_le_bytes());
        let mut map = u32::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        map.extend(header);
        map.extend([0b00_01_10_11, 0b01_11_00_00]);
        let read = object_map(map.clone(), usize::MAX).unwrap();
        assert_eq!((read.len(), read.four(0), read.four(1)), (5, 0b00_01_10_11, 0b01_00_00_00));
        map.pop();
        assert_eq!(object_map(map.clone(), usize::MAX), Err(Malformed));
        // The rest of the answer was cut off.
        let first = object_map(map, 3).unwrap();
        assert_eq!((first.len(), first.four(0), first.four(1)), (3, 0b00_01_10_00, 0));
    }

    #[test]
    fn metadata_and_a_group() {
        let pairs = [&2_u32.to_le_bytes()[..], &text("a"), &text("1"), &text("b"), &text("")].concat();
        let expected = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())];
        assert_eq!(Decoder::new(&pairs).metadata(), Ok(Page { entries: expected, last: b"b".to_vec() }));
        let pairs = [&1_u32.to_le_bytes()[..], &1_u32.to_le_bytes(), b"\xff", &text("1")].concat();
        assert_eq!(Decoder::new(&pairs).metadata().unwrap().last, b"\xff");
        let group = |pool: i64, id| section(&[&pool.to_le_bytes()[..], &text(id)].concat());
        assert_eq!(Decoder::new(&group(3, "5f")).group(), Ok(Some((3, "5f".to_owned()))));
        assert_eq!(Decoder::new(&group(-1, "")).group(), Ok(None));
    }

    #[test]
    fn a_newer_struct_is_read_as_far_as_it_is_known() {
        let parent = [&7_i64.to_le_bytes()[..], &text("ns"), &text("1a"), &9_u64.to_le_bytes(), b"more"];
        let mut answer = section(&parent.concat());
        answer[0] = 2;
        let parent = Decoder::new(&answer).parent().unwrap().unwrap();
        assert_eq!((parent.pool_id, &*parent.image_id, parent.snapshot_id), (7, "1a", 9));
        answer[1] = 2;
        assert_eq!(Decoder::new(&answer).parent(), Err(Malformed));
    }

    #[test]
    fn a_count_without_its_items_allocates_nothing() {
        let ids = [&[0; 8][..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(Decoder::new(&ids).snapshot_ids(), Err(Malformed));
        let map = [&14_u32.to_le_bytes()[..], &section(&u64::MAX.to_le_bytes())].concat();
        assert_eq!(object_map(map, usize::MAX), Err(Malformed));
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_panics(bytes: Vec<u8>) {
            anything(&bytes);
            anything(&section(&bytes));
            anything(&section(&section(&bytes)));
        }
    }
}
