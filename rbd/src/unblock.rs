//! Awaiting the calls that block.

use std::future::Future;

use crate::raw::thread::exit::Pending;

/// Runs a call that blocks on a thread of a pool, as a future for any executor.
///
/// librbd offers many management calls only blocking: creating, listing and removing images, snapshots, features, resizing.
/// Called in asynchronous code they would hold up the executor.
///
/// The pool (of the crate `blocking`) grows with need and shrinks when idle; nothing here depends on a runtime. With tokio,
/// `tokio::task::spawn_blocking` serves as well. Panics of the call come out of the future.
///
/// A call that is stuck, since monitors or OSDs do not answer, keeps a thread of the pool, which has 500 at most
/// (`BLOCKING_MAX_THREADS`), until a timeout of the connection ends it: see [`ClusterBuilder`](crate::ClusterBuilder). Without
/// one it keeps it until they answer.
///
/// Dropping the future gives up the call if it has not begun; one that has begun goes on. A process that ends meanwhile waits for
/// it, 2 s at most: librbd can crash when its libraries end under a call that takes longer, so await what matters.
///
/// ```no_run
/// # async fn example(ioctx: rbd::IoCtx) -> rbd::Result<()> {
/// let pool = ioctx.clone();
/// rbd::unblock(move || pool.create("foo", 1 << 30).run()).await?;
/// let image = ioctx.open("foo").await?;
/// image.aio().write(0, "hello ceph".into()).await?;
/// image.start_close().await?;
/// rbd::unblock(move || ioctx.remove("foo").run()).await
/// # }
/// ```
#[must_use = "the call is given up when this is dropped"]
pub fn unblock<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> + Send {
    let pending = Pending::new();
    // Side by side with what comes out: that may be an image, closed by whoever drops it.
    let call = blocking::unblock(move || (call(), pending));
    async { call.await.0 }
}
