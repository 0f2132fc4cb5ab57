//! A queue whose image is shared.

use std::sync::Arc;
use std::sync::mpsc::channel;

use bytes::{Bytes, BytesMut};
use rbd::{ErrorKind, Image, Queue};

use super::{LIMIT, data, finish};
use crate::aio::{Tracked, eventually, within};
use crate::support::Space;

const SIZE: u64 = 8 << 20;

fn image(space: &Space) -> Arc<Image> {
    space.create("foo", SIZE).run().unwrap();
    Arc::new(space.open("foo").run().unwrap())
}

#[test]
fn a_new_size_is_heard_of_and_used() {
    let space = Space::new();
    let image = image(&space);
    let (sender, changes) = channel();
    let watch = image.watch_updates(move || sender.send(()).unwrap_or(())).unwrap();
    let mut queue = Queue::new(Arc::clone(&image), 4).unwrap();
    let refused = queue.write(0, SIZE, Bytes::from_static(&[4; 512])).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::OutOfRange { .. }), "{refused}");
    space.open("foo").run().unwrap().resize(2 * SIZE).run().unwrap();
    changes.recv_timeout(LIMIT).expect("the change is heard of");
    assert_eq!(queue.image().size().unwrap(), 2 * SIZE);
    queue.write(0, SIZE, Bytes::from_static(&[4; 512])).unwrap();
    assert!(finish(&mut queue)[0].result.is_ok());
    queue.read(1, SIZE, 512, BytesMut::new()).unwrap();
    assert_eq!(data(&finish(&mut queue)[0]), [4; 512]);
    drop(watch);
}

#[test]
fn others_manage_the_image_while_the_queue_is_at_work() {
    let space = Space::new();
    let image = image(&space);
    let mut queue = Queue::new(Arc::clone(&image), 8).unwrap();
    let manager = std::thread::spawn(move || {
        for n in 0..4 {
            image.snapshots().create(&format!("s{n}")).run().unwrap();
            image.read_exact_at(&mut [0; 512], 0).unwrap();
        }
        image.snapshots().list().unwrap().len()
    });
    let mut round = 0;
    while !manager.is_finished() || round < 4 {
        for token in 0..8 {
            queue.write(token, token * 4096, Bytes::from(vec![round; 4096])).unwrap();
        }
        assert!(finish(&mut queue).into_iter().all(|end| end.result.is_ok()));
        round = round.wrapping_add(1);
    }
    assert_eq!(within(LIMIT, || manager.join().unwrap()), 4);
    queue.close().unwrap();
    assert_eq!(space.open("foo").read_only(true).run().unwrap().watchers().unwrap().len(), 0);
}

/// The image has lost its asynchronous I/O to the queue. All other calls work, and it can be closed
/// in any order.
#[test]
fn the_image_outlives_the_queue() {
    let space = Space::new();
    let mut images = vec![image(&space)];
    images.extend((0..2).map(|_| Arc::new(space.open("foo").run().unwrap())));
    for (way, image) in images.into_iter().enumerate() {
        let mut queue = Queue::new(Arc::clone(&image), 4).unwrap();
        let tracked = Tracked::default();
        queue.write(0, 0, tracked.bytes(512)).unwrap();
        queue.compare_and_write(1, 512, Bytes::from(vec![0; 512]), Bytes::from(vec![0; 512])).unwrap();
        if way == 0 {
            drop(queue)
        } else {
            queue.close().unwrap()
        }
        assert!(tracked.is_freed());
        let mut written = [0; 512];
        image.read_exact_at(&mut written, 0).unwrap();
        assert_eq!(written, [0x77; 512]);
        let error = image.aio().read(0, 512).wait().unwrap_err();
        assert!(error.to_string().contains("completions go to a Queue"), "{error}");
        let error = Queue::new(Arc::clone(&image), 4).unwrap_err();
        assert!(error.to_string().contains("it has, or had, a queue"), "{error}");
        let mut image = Arc::into_inner(image).expect("nobody else has it");
        match way {
            0 => image.close().unwrap(),
            1 => within(LIMIT, move || image.start_close().wait()).unwrap(),
            _ => {
                image.set_close_in_background(true);
                drop(image);
            }
        }
    }
    eventually("all are closed", || {
        space.open("foo").read_only(true).run().unwrap().watchers().unwrap().is_empty()
    });
}

/// The first user wins: the completion of an operation with a future never goes to a queue.
#[test]
fn futures_and_a_queue_at_the_same_time() {
    let space = Space::new();
    let image = image(&space);
    for _ in 0..20 {
        let image = Arc::new(space.open(&image.name().unwrap()).read_only(true).run().unwrap());
        let (reader, (sender, first)) = (Arc::clone(&image), channel());
        let reader = std::thread::spawn(move || {
            let mut reads = 0;
            loop {
                match reader.aio().read(0, 512).timeout(LIMIT).wait() {
                    Ok(_) => reads += 1,
                    Err(error) => break (reads, error),
                }
                let _ = sender.send(());
            }
        });
        first.recv_timeout(LIMIT).unwrap();
        let mut queue = loop {
            match Queue::new(Arc::clone(&image), 2) {
                Ok(queue) => break queue,
                Err(error) => assert!(error.to_string().contains("operations in flight"), "{error}"),
            }
        };
        let (reads, error) = within(LIMIT, || reader.join().unwrap());
        assert!(reads > 0 && error.to_string().contains("completions go to a Queue"), "{error}");
        queue.read(0, 0, 512, BytesMut::new()).unwrap();
        assert!(finish(&mut queue)[0].result.is_ok());
    }
}
