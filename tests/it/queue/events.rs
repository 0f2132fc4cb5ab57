//! The events of a queue's operations with the feature `tracing`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rbd::Queue;

use super::{finish, queue};
use crate::aio::Freezer;
use crate::aio::events::during;
use crate::support::Space;

#[test]
fn operations_tell_of_their_submission_and_their_end() {
    let space = Space::new();
    let mut queue = queue(&space, 2);
    let name = format!("image=\"rbd/{}/foo\"", space.namespace());
    let events = during(|| {
        queue.write(0, 4096, Bytes::from(vec![1; 512])).unwrap();
        finish(&mut queue);
        queue.flush(1).unwrap();
        finish(&mut queue);
        // An operation that is not submitted has no event.
        queue.read(2, u64::MAX, 1, BytesMut::new()).unwrap_err();
    });
    let write = format!("operation=\"write\" {name} offset=4096 len=512");
    let flush = format!("operation=\"flush\" {name}");
    let told = |what: &str, of: &str| format!("TRACE message={what} {of}");
    assert_eq!(
        events,
        [told("submitted", &write), told("ended", &write), told("submitted", &flush), told("ended", &flush)]
    );
}

#[test]
fn failures_and_timeouts_are_reported() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let mut read_only = Queue::new(space.open("foo").read_only(true).run().unwrap(), 1).unwrap();
    let events = during(|| {
        read_only.discard(0, 0, 512).unwrap();
        assert!(finish(&mut read_only)[0].result.is_err());
    });
    let failed = format!(
        "DEBUG message=failed operation=\"discard\" image=\"rbd/{}/foo\" offset=0 len=512 error=EROFS 30",
        space.namespace()
    );
    assert_eq!(events[1..], [failed]);

    let freezer = Freezer::get();
    let mut queue = Queue::new(freezer.image(), 1).unwrap();
    let frozen = freezer.freeze();
    let events = during(|| {
        queue.set_timeout(Duration::from_millis(1));
        queue.read(0, 0, 512, BytesMut::new()).unwrap();
        assert!(finish(&mut queue)[0].result.as_ref().unwrap_err().is_timed_out());
        drop(frozen);
        queue.close().unwrap();
    });
    let told: Vec<_> = events.iter().map(|event| event.split(" image=").next().unwrap()).collect();
    let read = |what: &str| format!("TRACE message={what} operation=\"read\"");
    assert_eq!(told, [read("submitted"), read("detached")]);
}
