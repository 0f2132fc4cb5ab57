//! Lists of buffers, patterns, compare-and-write: results and refusals.

use super::*;
use crate::support::pattern;
use rbd::{Errno, image::Compare};

const MIB: u64 = 1 << 20;

fn at(queue: &Queue, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0x11; len];
    queue.image().read_exact_at(&mut data, offset).unwrap();
    data
}

fn one(queue: &mut Queue) -> Completion {
    let mut ends = finish(queue);
    assert_eq!(ends.len(), 1);
    ends.remove(0)
}

#[test]
fn lists_of_any_length() {
    let space = Space::new();
    let mut queue = queue(&space, 1);
    // In mixed order: an entry that has grown is used for shorter lists again.
    for count in [1_usize, 40, 2, 9, 8, 300] {
        let parts: Vec<Bytes> =
            (0..count).map(|n| pattern(n as u8, if n % 5 == 3 { 0 } else { n * 7 + 1 }).into()).collect();
        let whole = parts.concat();
        // Across two objects.
        let offset = 4 * MIB - whole.len() as u64 / 2;
        queue.write_vectored(1, offset, parts.clone()).unwrap();
        let end = one(&mut queue);
        end.result.unwrap();
        assert_eq!((end.token, end.buffer, end.compare), (1, Buffer::BytesVec(parts.clone()), None));
        assert_eq!(at(&queue, offset, whole.len()), whole);

        let lens = parts.iter().map(Bytes::len);
        let buffers: Vec<BytesMut> = lens.map(BytesMut::zeroed).collect();
        let addresses: Vec<_> = buffers.iter().map(|buffer| buffer.as_ptr() as usize).collect();
        queue.read_vectored(2, offset, buffers).unwrap();
        let end = one(&mut queue);
        end.result.unwrap();
        let Buffer::BytesMutVec(buffers) = end.buffer else { panic!("{:?}", end.buffer) };
        assert_eq!(buffers, parts);
        assert_eq!(buffers.iter().map(|buffer| buffer.as_ptr() as usize).collect::<Vec<_>>(), addresses);
    }
}

/// Each in its own entry, with its own array.
#[test]
fn many_lists_at_once() {
    let space = Space::new();
    let mut queue = queue(&space, 16);
    for round in 0..8_u64 {
        let parts = |token: u64| -> Vec<BytesMut> {
            let count = (token + round) % 11 + 1;
            (0..count).map(|n| BytesMut::from(&pattern((token * 16 + n + round) as u8, 512)[..])).collect()
        };
        for token in 0..16 {
            queue.write_vectored(token, token * 8192, parts(token)).unwrap();
        }
        for end in finish(&mut queue) {
            end.result.unwrap();
            assert_eq!(end.buffer, Buffer::BytesMutVec(parts(end.token)));
        }
        for token in 0..16 {
            let buffers = vec![BytesMut::zeroed(512); parts(token).len()];
            queue.read_vectored(token, token * 8192, buffers).unwrap();
        }
        for end in finish(&mut queue) {
            end.result.unwrap();
            assert_eq!(end.buffer, Buffer::BytesMutVec(parts(end.token)), "token {}", end.token);
        }
    }
}

#[test]
fn lists_are_as_long_as_their_data() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    queue.write_same(0, 0, 8192, Bytes::from_static(&[0xAA])).unwrap();
    one(&mut queue).result.unwrap();
    let mut parts = vec![BytesMut::with_capacity(4096), BytesMut::with_capacity(4096)];
    parts.iter_mut().for_each(|part| part.extend_from_slice(&[0x5A; 10]));
    queue.write_vectored(0, 100, parts).unwrap();
    one(&mut queue).result.unwrap();
    for (offset, byte) in at(&queue, 0, 8192).iter().enumerate() {
        assert_eq!(*byte, if (100..120).contains(&offset) { 0x5A } else { 0xAA }, "offset {offset}");
    }
}

#[test]
fn patterns_fill_their_range() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    let unit = BytesMut::from(&b"abcd"[..]);
    let address = unit.as_ptr();
    queue.write_same(0, 512, 9 * MIB, unit).unwrap();
    let end = one(&mut queue);
    end.result.as_ref().unwrap();
    assert_eq!((data(&end), data(&end).as_ptr()), (&b"abcd"[..], address));
    let all = at(&queue, 0, 10 << 20);
    let (before, rest) = all.split_at(512);
    let (filled, after) = rest.split_at(9 << 20);
    assert!(filled.chunks(4).all(|four| four == b"abcd"));
    assert!(before.iter().chain(after).all(|byte| *byte == 0));
}

#[test]
fn each_compare_and_write_returns_the_different_offset() {
    let space = Space::new();
    let mut queue = queue(&space, 8);
    let offset = |token: u64| 4 * MIB + token * 512;
    queue.write(0, offset(0), Bytes::from(vec![1; 8 * 512])).unwrap();
    one(&mut queue).result.unwrap();
    let new = Bytes::from(vec![2; 512]);
    let expected = |token: u64| {
        let mut expected = vec![1; 512];
        if token % 4 != 0 {
            expected[token as usize * 50] = 9;
        }
        Bytes::from(expected)
    };
    for token in 0..8 {
        queue.compare_and_write(token, offset(token), expected(token), new.clone()).unwrap();
    }
    for end in finish(&mut queue) {
        let token = end.token;
        end.result.unwrap();
        let (found, now) = match token % 4 {
            0 => (Compare::Written, 2),
            _ => (Compare::Differs(offset(token) + token * 50), 1),
        };
        assert_eq!(end.compare, Some(found), "token {token}");
        assert_eq!(end.buffer, Buffer::Compare { expected: expected(token), data: new.clone() });
        assert_eq!(at(&queue, offset(token), 512), [now; 512]);
    }
}

/// librbd 16.2 aborts the process on an empty compare-and-write.
#[test]
fn nothing_is_a_valid_amount() {
    let space = Space::new();
    let mut queue = queue(&space, 8);
    queue.compare_and_write(0, 5, Bytes::new(), Bytes::new()).unwrap();
    queue.compare_and_write_vectored(1, 16 * MIB, vec![Bytes::new()], vec![Bytes::new(); 9]).unwrap();
    queue.write_same(2, 0, 0, Bytes::from_static(b"ab")).unwrap();
    queue.write_vectored(3, 0, vec![Bytes::new(); 20]).unwrap();
    queue.read_vectored(4, 16 * MIB, vec![BytesMut::new()]).unwrap();
    for end in finish(&mut queue) {
        end.result.unwrap();
        assert_eq!(end.compare, (end.token < 2).then_some(Compare::Written));
    }
}

/// The call exists since Ceph 18.2. Older libraries report that.
#[test]
fn vectored_compare_and_write_works_or_names_the_release() {
    let space = Space::new();
    let mut queue = queue(&space, 1);
    let (expected, data) = (vec![Bytes::from(vec![0; 512])], vec![Bytes::from(vec![1; 256]); 2]);
    let both = Buffer::CompareVec { expected: expected.clone(), data: data.clone() };
    let outcome = queue.compare_and_write_vectored(7, 512, expected.clone(), data.clone());
    let version = rbd::Cluster::librbd_version();
    if (version.major, version.minor) >= (1, 18) {
        outcome.unwrap();
        let end = one(&mut queue);
        assert_eq!((end.compare, end.buffer), (Some(Compare::Written), both));
        assert_eq!(at(&queue, 512, 512), [1; 512]);
        queue.compare_and_write_vectored(8, 512, expected, data).unwrap();
        assert_eq!(one(&mut queue).compare, Some(Compare::Differs(512)));
    } else {
        let mut error = outcome.unwrap_err();
        let buffer = error.take_buffer();
        let ErrorKind::LibraryTooOld { symbol, needs, .. } = error.kind() else { panic!("{error}") };
        assert_eq!((*symbol, *needs), ("rbd_aio_compare_and_writev", "Ceph 18.2"));
        assert_eq!((buffer, queue.room()), (both, 1));
    }
}

#[test]
fn what_librbd_refuses_is_explained() {
    let space = Space::new();
    let mut queue = queue(&space, 1);
    // Two stripe units: too long for every release.
    let (expected, data) = (Bytes::from(vec![0; 1024]), Bytes::from(vec![1; 1024]));
    queue.compare_and_write(0, 4 * MIB - 512, expected.clone(), data.clone()).unwrap();
    let end = one(&mut queue);
    let error = end.result.unwrap_err();
    assert!(error.to_string().contains("compare and write 1024 bytes at offset 4193792"), "{error}");
    assert!(error.to_string().contains("must lie within one "), "{error}");
    assert_eq!((end.compare, end.buffer), (None, Buffer::Compare { expected, data }));
    assert_eq!(at(&queue, 4 * MIB - 512, 1024), [0; 1024]);
}

/// Refused before anything is submitted; the error contains all buffers.
#[test]
fn wrong_requests_are_refused() {
    let space = Space::new();
    space.create("big", 5 << 30).run().unwrap();
    let mut queue = Queue::new(space.open("big").run().unwrap(), 1).unwrap();
    let size = 5 << 30;
    let bytes = |len: usize| Bytes::from(vec![3; len]);
    let compare =
        |expected: usize, data: usize| Buffer::Compare { expected: bytes(expected), data: bytes(data) };
    let too_much = vec![bytes(1 << 20); 1025];
    let lists = (vec![bytes(4); 3], vec![bytes(6); 3]);
    let cases: Vec<(rbd::Result<()>, Buffer, &str)> = vec![
        (queue.read_vectored(0, 0, vec![]), Buffer::BytesMutVec(vec![]), "pass at least one buffer"),
        (
            queue.write_vectored(0, 0, Vec::<Bytes>::new()),
            Buffer::BytesVec(vec![]),
            "pass at least one buffer",
        ),
        (
            queue.write_vectored(0, 0, too_much.clone()),
            too_much.into(),
            "exceed the limit of 1 GiB per request",
        ),
        (queue.write_vectored(0, 0, bytes(3)), bytes(3).into(), "it takes a `Vec` of `Bytes`"),
        (queue.write(0, 0, vec![bytes(3)]), vec![bytes(3)].into(), "it takes one `Bytes` or `BytesMut`"),
        (queue.write(0, 0, Buffer::None), Buffer::None, "it takes one `Bytes` or `BytesMut`"),
        (queue.write_same(0, 0, 100, vec![bytes(1)]), vec![bytes(1)].into(), "it takes one `Bytes`"),
        (
            queue.write_same(0, 0, 100, bytes(3)),
            bytes(3).into(),
            "100 is not a multiple of the pattern's 3 bytes",
        ),
        (queue.write_same(0, 0, 100, bytes(0)), bytes(0).into(), "the pattern is empty"),
        (
            queue.write_same(0, 0, (1 << 30) + 1, bytes(1)),
            bytes(1).into(),
            "exceed the limit of 1 GiB per request",
        ),
        (
            queue.compare_and_write(0, 0, bytes(512), bytes(511)),
            compare(512, 511),
            "both must have the same length",
        ),
        (queue.compare_and_write(0, 0, bytes(0), bytes(1)), compare(0, 1), "both must have the same length"),
        (
            queue.compare_and_write_vectored(0, 0, lists.0.clone(), lists.1.clone()),
            Buffer::CompareVec { expected: lists.0, data: lists.1 },
            "12 bytes to compare with and 18 to write",
        ),
        (
            queue.compare_and_write_vectored(0, 0, vec![bytes(0)], vec![]),
            Buffer::CompareVec { expected: vec![bytes(0)], data: vec![] },
            "pass at least one buffer",
        ),
    ];
    for (outcome, buffer, text) in cases {
        let mut refused = outcome.expect_err(text);
        assert_eq!(*refused.kind(), ErrorKind::InvalidInput, "{refused}");
        assert!(refused.to_string().contains(text) && !refused.is_queue_full(), "{refused}");
        assert_eq!(refused.take_buffer(), buffer);
    }
    let outside = [
        (
            queue.read_vectored(0, size - 1, vec![BytesMut::zeroed(1); 2]),
            vec![BytesMut::zeroed(1); 2].into(),
            (size - 1, 2),
        ),
        (
            queue.write_vectored(0, u64::MAX - 1, vec![bytes(1); 2]),
            vec![bytes(1); 2].into(),
            (u64::MAX - 1, 2),
        ),
        (queue.write_same(0, size - 512, 1024, bytes(512)), bytes(512).into(), (size - 512, 1024)),
        (queue.compare_and_write(0, size, bytes(512), bytes(512)), compare(512, 512), (size, 512)),
        (queue.compare_and_write(0, size + 1, bytes(0), bytes(0)), compare(0, 0), (size + 1, 0)),
    ];
    for (outcome, buffer, (offset, len)) in outside {
        let mut refused = outcome.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::OutOfRange { offset, len, size }, "{refused}");
        assert_eq!(refused.take_buffer(), buffer);
    }
    assert_eq!((queue.in_flight(), queue.reap().is_none()), (0, true));
    assert_eq!(at(&queue, 0, 4096), [0; 4096]);
}

#[test]
fn a_full_queue_gives_everything_back() {
    let space = Space::new();
    let mut queue = queue(&space, 1);
    queue.flush(0).unwrap();
    let data = || Bytes::from(vec![1; 512]);
    let full = |outcome: rbd::Result<()>| {
        let mut refused = outcome.unwrap_err();
        assert!(refused.is_queue_full() && refused.errno() == Some(Errno::EAGAIN), "{refused}");
        refused.take_buffer()
    };
    let buffer = full(queue.read_vectored(1, 0, vec![BytesMut::zeroed(7); 2]));
    assert_eq!(buffer, vec![BytesMut::zeroed(7); 2].into());
    let list = full(queue.write_vectored(1, 512, vec![data(); 2]));
    let pattern = full(queue.write_same(1, 2048, 1024, data()));
    let lists = full(queue.compare_and_write_vectored(1, 0, vec![data()], vec![data()]));
    assert_eq!(lists, Buffer::CompareVec { expected: vec![data()], data: vec![data()] });
    let both = full(queue.compare_and_write(1, 0, Bytes::from(vec![0; 512]), data()));
    one(&mut queue).result.unwrap();
    // The buffers can be used again.
    queue.write_vectored(1, 512, list).unwrap();
    one(&mut queue).result.unwrap();
    queue.write_same(1, 2048, 1024, pattern).unwrap();
    one(&mut queue).result.unwrap();
    let Buffer::Compare { expected, data } = both else { panic!("{both:?}") };
    queue.compare_and_write(1, 0, expected, data).unwrap();
    assert_eq!(one(&mut queue).compare, Some(Compare::Written));
    let all = at(&queue, 0, 4096);
    assert!(all[..1536].iter().chain(&all[2048..3072]).all(|byte| *byte == 1));
    assert!(all[1536..2048].iter().chain(&all[3072..]).all(|byte| *byte == 0));
}
