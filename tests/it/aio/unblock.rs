//! Blocking calls that are awaited, on tokio and on a single-threaded executor.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rbd::{Error, IoCtx, Result};

use crate::support::{Space, builder};

const LIMIT: Duration = Duration::from_secs(60);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A minimal executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// The life of an image, without a blocking call.
async fn manage(pool: IoCtx) -> Result<()> {
    let cluster = pool.cluster().clone();
    let name = pool.pool().to_owned();
    assert!(cluster.unblock(move |cluster| cluster.pools().id(&name)).await.is_ok());
    pool.unblock(|pool| pool.create("a", 1 << 20).run()).await?;
    pool.unblock(|pool| pool.rename("a", "b")).await?;
    let image = Arc::new(pool.open("b").await?);
    image.unblock(|image| image.snapshots().create("s").run()).await?;
    let renamed = image.unblock(|image| image.snapshots().rename("gone", "t")).await;
    assert!(renamed.as_ref().is_err_and(Error::is_not_found), "{renamed:?}");
    image.unblock(|image| image.resize(2 << 20).run()).await?;
    assert_eq!(image.size()?, 2 << 20);
    image.unblock(|image| image.snapshots().remove("s").run()).await?;
    let last = Arc::into_inner(image).expect("no call holds the image after its result");
    last.start_close().await?;
    pool.unblock(|pool| pool.remove("b").run()).await
}

#[test]
fn calls_are_awaited_through_their_handle_on_tokio() {
    let space = Space::new();
    let pool = space.with_namespace(space.namespace()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    // It is spawned, so it must be `Send`.
    runtime.block_on(runtime.spawn(manage(pool))).unwrap().unwrap();
    assert!(space.list().unwrap().is_empty());
}

#[test]
fn calls_are_awaited_through_their_handle_on_a_simple_executor() {
    let space = Space::new();
    block_on(manage(space.with_namespace(space.namespace()).unwrap())).unwrap();
    assert!(space.list().unwrap().is_empty());
}

#[test]
fn a_call_continues_when_its_future_is_dropped() {
    let space = Space::new();
    let (go, wait) = channel::<()>();
    let (ended, end) = channel();
    let mut call = space.unblock(move |pool| {
        let _ = wait.recv();
        let created = pool.create("late", 1 << 20).run();
        ended.send(created.is_ok()).unwrap();
        created
    });
    assert!(Pin::new(&mut call).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(call);
    assert!(space.open("late").run().is_err_and(|error| error.is_not_found()));
    drop(go);
    assert_eq!(end.recv_timeout(LIMIT), Ok(true));
    assert!(space.open("late").run().is_ok());
}

/// An image that a call opened leaves no watcher behind if its result is not taken.
#[test]
fn an_image_of_a_dropped_future_is_closed() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let (ended, end) = channel();
    drop(space.unblock(move |pool| {
        let image = pool.open("foo").run();
        ended.send(()).unwrap();
        image
    }));
    end.recv_timeout(LIMIT).unwrap();
    let watchers = || space.open("foo").read_only(true).run().unwrap().watchers().unwrap().len();
    let start = std::time::Instant::now();
    while watchers() > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "the image stays open");
        thread::sleep(Duration::from_millis(20));
    }
}

/// On threads of this crate for which others may wait, a drop goes to the background, but not here.
#[test]
fn a_handle_dropped_in_a_call_is_closed_when_the_call_ends() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    for _ in 0..5 {
        let opened = space.open("foo").run().unwrap();
        block_on(rbd::unblock(move || {
            drop(opened);
            Ok(())
        }))
        .unwrap();
        let looking = space.open("foo").read_only(true).run().unwrap();
        assert_eq!(looking.watchers().unwrap(), []);
    }
}

#[test]
fn a_panic_of_a_call_comes_out_of_its_future() {
    let call = rbd::unblock(|| -> Result<()> { std::panic::resume_unwind(Box::new("in the call")) });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(call)));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "in the call");
}

#[test]
fn connecting_is_awaited() {
    let fsid = block_on(async {
        let cluster = rbd::unblock(|| builder().connect()).await?;
        let fsid = cluster.unblock(|cluster| cluster.fsid()).await?;
        // The last clone ends the connection, which blocks.
        rbd::unblock(move || {
            drop(cluster);
            Ok(())
        })
        .await?;
        Ok::<_, Error>(fsid)
    });
    assert!(!fsid.unwrap().is_empty());
}
