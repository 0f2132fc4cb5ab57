//! Awaiting the calls that block.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::cluster::Cluster;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::image::Image;
use crate::ioctx::IoCtx;
use crate::raw::thread::mark::ThreadOfUser;
use crate::raw::thread::worker::{Started, start};

/// Awaits a call that blocks: see [`unblock`](crate::unblock).
///
/// Dropping it does not stop the call, which goes on, and may take effect. Its result is dropped.
#[derive(Debug)]
#[must_use = "the result of the call is lost when this is dropped"]
pub struct Unblocked<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Started(Started<Result<T>>),
    Refused(Option<Error>),
}

impl<T> Future for Unblocked<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match &mut self.0 {
            State::Started(started) => Pin::new(started).poll(context),
            State::Refused(error) => Poll::Ready(Err(error.take().expect("polled after it was ready"))),
        }
    }
}

/// Starts a call that blocks on a thread of this crate, and returns a future of its result, for any
/// executor.
///
/// librbd offers most management calls only blocking. In asynchronous code they would hold up the
/// executor. For calls on one handle, [`IoCtx::unblock`], [`Image::unblock`] and
/// [`Cluster::unblock`] clone the handle for you. This function takes all else: connecting, and
/// dropping the last clone of a [`Cluster`], which ends the connection.
///
/// The call starts at once. A panic of the call comes out of the future. A call that is stuck keeps
/// its thread until a timeout of the connection ends it: see
/// [`ClusterBuilder`](crate::ClusterBuilder). There are 1024 threads at most; beyond them the
/// future fails with EAGAIN, and the call is not made. A call that waits for the cluster needs one
/// thread more while the connection has a [timeout for calls](crate::ClusterBuilder::call_timeout).
///
/// Dropping the future does not stop the call. A process that ends meanwhile waits for it, 2 s at
/// most.
///
/// ```no_run
/// # async fn example() -> rbd::Result<()> {
/// let cluster = rbd::unblock(rbd::Cluster::connect).await?;
/// let pool = cluster.unblock(|cluster| cluster.ioctx("rbd")).await?;
/// pool.unblock(|pool| pool.create("foo", 1 << 30).run()).await?;
/// # Ok(())
/// # }
/// ```
pub fn unblock<T: Send + 'static>(call: impl FnOnce() -> Result<T> + Send + 'static) -> Unblocked<T> {
    let started = start(|| {
        // Nobody but the caller waits for this thread, so a handle that is dropped here closes
        // here.
        let _thread = ThreadOfUser::set();
        call()
    });
    Unblocked(match started {
        Ok(started) => State::Started(started),
        Err(errno) => {
            let object = Object::new(ObjectKind::Cluster, "");
            let why = "no thread can be had for the call; await fewer calls at a time";
            State::Refused(Some(Error::new("start a call on", object, errno).with_detail(why)))
        }
    })
}

impl Cluster {
    /// Awaits calls on this connection that block: see [`unblock`](crate::unblock).
    ///
    /// ```no_run
    /// # async fn example(cluster: rbd::Cluster) -> rbd::Result<()> {
    /// let pools = cluster.unblock(|cluster| cluster.pools().list()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unblock<T, F>(&self, call: F) -> Unblocked<T>
    where
        T: Send + 'static,
        F: FnOnce(&Cluster) -> Result<T> + Send + 'static,
    {
        let cluster = self.clone();
        unblock(move || call(&cluster))
    }
}

impl IoCtx {
    /// Awaits calls on this pool or namespace that block: see [`unblock`](crate::unblock).
    ///
    /// ```no_run
    /// # async fn example(pool: rbd::IoCtx) -> rbd::Result<()> {
    /// pool.unblock(|pool| pool.create("a", 1 << 30).run()).await?;
    /// pool.unblock(|pool| pool.rename("a", "b")).await?;
    /// let name = String::from("b");
    /// pool.unblock(move |pool| pool.remove(&name).run()).await
    /// # }
    /// ```
    pub fn unblock<T, F>(&self, call: F) -> Unblocked<T>
    where
        T: Send + 'static,
        F: FnOnce(&IoCtx) -> Result<T> + Send + 'static,
    {
        let ioctx = self.clone();
        unblock(move || call(&ioctx))
    }
}

impl Image {
    /// Awaits calls on this image that block: see [`unblock`](crate::unblock). The call holds a
    /// clone of the `Arc`, so the image stays open until the call has returned.
    ///
    /// ```no_run
    /// # async fn example(pool: rbd::IoCtx) -> rbd::Result<()> {
    /// let image = std::sync::Arc::new(pool.open("foo").await?);
    /// image.unblock(|image| image.snapshots().create("monday").run()).await?;
    /// image.unblock(|image| image.resize(2 << 30).run()).await
    /// # }
    /// ```
    pub fn unblock<T, F>(self: &Arc<Self>, call: F) -> Unblocked<T>
    where
        T: Send + 'static,
        F: FnOnce(&Image) -> Result<T> + Send + 'static,
    {
        let image = Arc::clone(self);
        unblock(move || {
            let result = call(&image);
            // The last clone closes the image, which blocks: on this thread, before the result is
            // seen.
            drop(image);
            result
        })
    }
}
