//! Futures of blocking calls.

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

/// The future of a blocking call: see [`unblock`](crate::unblock).
///
/// Dropping it does not stop the call, which continues and may take effect. Its result is dropped.
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

/// Starts a blocking call on a thread of this crate, and returns a future of its result for any
/// executor.
///
/// Most management calls of librbd only exist as blocking calls, which would hold up an executor.
/// For calls on one handle, [`IoCtx::unblock`], [`Image::unblock`] and [`Cluster::unblock`] clone
/// the handle for you. Use this function for all other calls: connecting, and dropping the last
/// clone of a [`Cluster`], which ends the connection.
///
/// The call starts at once. The future resumes a panic of the call. A stuck call keeps its thread
/// until a timeout of the connection ends the call: see [`ClusterBuilder`](crate::ClusterBuilder).
/// There are at most 1024 threads; beyond them, the future fails with EAGAIN and the call is not
/// made. A call that waits for the cluster needs a second thread if the connection has a [call
/// timeout](crate::ClusterBuilder::call_timeout).
///
/// Dropping the future does not stop the call. A process that exits waits for it for at most 2 s.
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
        // Only the caller waits for this thread, so a handle that is dropped here is closed here.
        let _thread = ThreadOfUser::set();
        call()
    });
    Unblocked(match started {
        Ok(started) => State::Started(started),
        Err(errno) => {
            let object = Object::new(ObjectKind::Cluster, "");
            let why = "no thread can be started for the call; await fewer calls at a time";
            State::Refused(Some(Error::new("start a call on", object, errno).with_detail(why)))
        }
    })
}

impl Cluster {
    /// Runs blocking calls on this connection as a future: see [`unblock`](crate::unblock).
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
    /// Runs blocking calls on this pool or namespace as a future: see [`unblock`](crate::unblock).
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
    /// Runs blocking calls on this image as a future: see [`unblock`](crate::unblock). The call
    /// holds a clone of the `Arc`, so the image stays open until the call has returned.
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
            // Dropping the last clone closes the image, which blocks. It happens on this thread,
            // before the result is returned.
            drop(image);
            result
        })
    }
}
