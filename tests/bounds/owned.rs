//! The calls that consume a handle, and drops, each on a separate connection.

use super::*;

pub(super) const NAMES: &[&str] = &[
    "cluster::Cluster::connect",
    "image::Image::close",
    "image::Image::start_close",
    "aio::Closing::wait",
    "queue::Queue::new",
    "queue::Queue::close",
    "queue::Queue::wait",
    "drop Cluster",
    "drop IoCtx",
    "drop Image",
    "drop Queue",
    "drop LogWatch",
    "drop UpdateWatch",
];

/// Submits a write of each kind, which never waits.
fn submit(queue: &mut Queue) {
    queue.write(1, 0, block()).unwrap();
    queue.flush(2).unwrap();
    queue.read(3, 0, 4096, BytesMut::zeroed(4096)).unwrap();
}

pub(super) fn prepare(context: &Arc<Context>, calls: &mut Vec<Call>) {
    let mut add = |name, call: Box<dyn FnOnce() + Send>| calls.push((name, call));
    let fresh = || builder(&context.conf).connect_timeout(None).connect().unwrap();
    let conf = context.conf.clone();
    add("cluster::Cluster::connect", Box::new(move || drop(builder(&conf).connect())));
    let image = context.open();
    add("image::Image::close", Box::new(move || drop(image.close())));
    let image = context.open();
    add("image::Image::start_close", Box::new(move || drop(image.start_close().timeout(SHORT).wait())));
    let image = context.open();
    add("aio::Closing::wait", Box::new(move || drop(image.start_close().wait())));
    let image = context.open();
    add("queue::Queue::new", Box::new(move || std::mem::forget(Queue::new(image, 4))));
    let mut queue = context.queue();
    add(
        "queue::Queue::close",
        Box::new(move || {
            submit(&mut queue);
            drop(queue.close());
        }),
    );
    let mut queue = context.queue();
    add(
        "queue::Queue::wait",
        Box::new(move || {
            submit(&mut queue);
            drop(queue.wait(SHORT));
            std::mem::forget(queue);
        }),
    );
    let cluster = fresh();
    add("drop Cluster", Box::new(move || drop(cluster)));
    let pool = fresh().ioctx("rbd").unwrap();
    add("drop IoCtx", Box::new(move || drop(pool)));
    let image = context.open();
    add("drop Image", Box::new(move || drop(image)));
    let mut queue = context.queue();
    add(
        "drop Queue",
        Box::new(move || {
            submit(&mut queue);
            drop(queue);
        }),
    );
    let watch = fresh().watch_log(rbd::cluster::LogLevel::Info, |_| ()).unwrap();
    add("drop LogWatch", Box::new(move || drop(watch)));
    let watch = Arc::new(context.open()).watch_updates(|| ()).unwrap();
    add("drop UpdateWatch", Box::new(move || drop(watch)));
}
