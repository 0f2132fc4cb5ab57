//! Creates, reads, writes, snapshots, clones and mirrors Ceph block device (RBD) images, changes
//! their features, and maps them through the kernel.
//!
//! The API has three main types: a [`Cluster`] is a connection, an [`IoCtx`] is a pool and
//! namespace, an [`Image`] is an open block device. Each one keeps alive what it was opened from,
//! so you can drop them in any order. You can share all of them between threads. Operations with
//! options are builders that end in `run()`.
//!
//! ```no_run
//! use rbd::Cluster;
//!
//! let cluster = Cluster::builder().user("admin").connect()?;
//! let pool = cluster.ioctx("rbd")?;
//! pool.create("foo", 1 << 30).run()?;
//!
//! let image = pool.open("foo").run()?;
//! image.write_all_at(b"hello ceph", 0)?;
//! let mut back = [0; 10];
//! image.read_exact_at(&mut back, 0)?;
//! assert_eq!(&back, b"hello ceph");
//! image.close()?;
//! # Ok::<(), rbd::Error>(())
//! ```
//!
//! # Blocking and asynchronous calls
//!
//! Calls block the calling thread. Each call ends within the [call
//! timeout](ClusterBuilder::call_timeout), 120 s by default. For an operation that reports progress
//! and for a long transfer, the timeout applies to each step. Connecting, commands to the monitors
//! and mapping have timeouts of their own. [`guide::durability`] describes what a call can still do
//! after its timeout, and [`guide::threads`] names the thread that each callback runs on.
//!
//! [`Image::aio`] offers the same I/O as futures for any executor. `ioctx.open("foo").await` (or
//! `start()`) and [`Image::start_close`] open and close images without blocking. A [`Queue`] serves
//! programs with an event loop of their own. `examples/aio.rs` in the repository shows both.
//!
//! A thread of librbd wakes the future of an operation. A connection usually has two such threads
//! for all its images. After a timeout, and for [`unblock`], a thread of this crate wakes the
//! future. Executors pass the task on to their own threads. A waker that polls the future itself
//! must not block there (see [`Op`](aio::Op)).
//!
//! Ceph cannot cancel an operation. When a future is dropped, or its [`Timeout`](aio::Timeout)
//! passes, the operation completes in the background, and a write may still take effect.
//! [`unblock`] runs blocking calls on a thread pool and returns a future. Use it to connect, and to
//! drop the last clone of a [`Cluster`], which ends the connection.
//!
//! # Cargo features
//!
//! - `krbd`, `mirror`, `rados` (on by default): the modules of these names, and the methods that
//!   return their types, such as `IoCtx::objects` and `IoCtx::watch_blocklisting` (`rados`).
//! - `tokio`: `aio::AsyncCursor`, which presents an image as tokio's `AsyncRead`, `AsyncWrite` and
//!   `AsyncSeek`.
//! - `tracing`: events for the operations of [`Image::aio`] and [`Queue`], and for opening and
//!   closing as futures. Their target is `rbd::aio`. Each operation emits `submitted`, and then
//!   `ended`, `failed` with the errno, or `detached` if it completed after its timeout or
//!   after its future was dropped. `failed` has level debug, the others have level trace. There are
//!   no such events for blocking calls, for requests that are refused before they are submitted,
//!   and for operations in flight when their queue is closed. If the close of a dropped image
//!   fails, an event with the target `rbd::close` and the level warn says so.
//!
//! # Errors
//!
//! All calls return one error type, [`Error`]. It says what failed, on which object, why, and what
//! to do next.
#![deny(unsafe_code)]

/// Image lengths are `u64`, and librbd takes them as `size_t`.
const _: () = assert!(
    usize::BITS >= 64,
    "rbd needs a 64-bit target: on others, long ranges would be truncated silently"
);

mod address;
pub mod aio;
pub mod batch;
mod buffer;
pub mod cluster;
mod compare;
mod errno;
pub mod error;
#[cfg(feature = "tracing")]
mod events;
pub mod features;
#[cfg(all(any(test, fuzzing), feature = "krbd", feature = "mirror"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod group;
pub mod guide;
mod hints;
mod holder;
pub mod image;
pub mod ioctx;
#[cfg(feature = "krbd")]
pub mod krbd;
pub mod migration;
#[cfg(feature = "mirror")]
pub mod mirror;
mod names;
pub mod progress;
pub mod queue;
#[cfg(feature = "rados")]
pub mod rados;
mod raw;
mod spec;
pub mod survey;
mod time;
mod unblock;
mod version;

/// Provides `Bytes` and `BytesMut`, the buffers of asynchronous operations.
pub use bytes;

pub use address::ClientAddress;
#[doc(inline)]
pub use cluster::{Cluster, ClusterBuilder};
pub use errno::Errno;
#[doc(inline)]
pub use error::{Error, ErrorKind, ObjectKind, Result};
#[doc(inline)]
pub use features::Features;
pub use hints::AccessHints;
#[doc(inline)]
pub use image::Image;
pub use image::snapshot::SnapshotRef;
#[doc(inline)]
pub use ioctx::IoCtx;
#[doc(inline)]
pub use queue::Queue;
pub use spec::ImageSpec;
pub use unblock::{Unblocked, unblock};
pub use version::Version;

/// Overrides options of pools and images: see [`Image::config`] and [`IoCtx::config`].
///
/// ```no_run
/// # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
/// pool.config().set("rbd_qos_iops_limit", "500")?;
/// for option in pool.config().list()? {
///     println!("{} = {} ({:?})", option.name, option.value, option.source);
/// }
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod config {
    pub use crate::image::metadata::ImageConfig;
    pub use crate::ioctx::config::{ConfigOption, ConfigSource};
    pub use crate::ioctx::metadata::PoolConfig;
}

/// Lists the extents that changed between two snapshots, or that hold data: see [`Image::diff`].
///
/// ```no_run
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// let diff = image.diff().from_snapshot("monday").whole_objects(true);
/// if diff.fast_diff()? != rbd::diff::FastDiff::Usable {
///     eprintln!("this asks for every object");
/// }
/// for extent in diff.extents()? {
///     println!("{:?}", extent?);
/// }
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod diff {
    pub use crate::image::diff::{Diff, DiffExtents, Extent, FastDiff};
}

/// Encrypts images in the client: see [`Image::encryption`].
///
/// ```no_run
/// use rbd::encryption::{EncryptionFormat, Passphrase};
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// image.encryption().load(EncryptionFormat::Luks2, &Passphrase::new("secret"))?;
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod encryption {
    pub use crate::image::encryption::{Cipher, Encryption, EncryptionFormat, Passphrase};
}

/// Locks images: librbd manages the exclusive lock, and programs agree on advisory locks.
///
/// ```no_run
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// image.exclusive_lock().acquire()?;
/// let lockers: rbd::lock::Lockers = image.advisory_locks().list()?;
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod lock {
    pub use crate::image::advisory::{AdvisoryLocks, Locker, Lockers};
    pub use crate::image::locks::{ExclusiveLock, LockOwner};
}

/// Reads and sets metadata of pools and images: see [`Image::metadata`] and [`IoCtx::metadata`].
///
/// ```no_run
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// image.metadata().set("owner", "team storage")?;
/// assert_eq!(image.metadata().get("owner")?, "team storage");
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod metadata {
    pub use crate::image::metadata::ImageMetadata;
    pub use crate::ioctx::metadata::PoolMetadata;
}

/// Creates, lists, protects, rolls back to and removes snapshots of images: see
/// [`Image::snapshots`].
///
/// ```no_run
/// use rbd::snapshot::SnapshotOrigin;
/// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
/// image.snapshots().create("monday").run()?;
/// for snapshot in image.snapshots().list()? {
///     if snapshot.origin == SnapshotOrigin::User {
///         println!("{}: {} bytes", snapshot.name, snapshot.size);
///     }
/// }
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod snapshot {
    pub use crate::image::snapshot::changes::{CreateSnapshot, RemoveSnapshot};
    pub use crate::image::snapshot::{
        MirrorSnapshot, MirrorSnapshotState, Snapshot, SnapshotKind, SnapshotOrigin, Snapshots,
    };
}

/// Keeps removed images in a trash, from which they can be restored: see [`IoCtx::trash`].
///
/// ```no_run
/// use std::time::Duration;
/// # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
/// pool.trash().add("foo").delay(Duration::from_secs(3600)).run()?;
/// for entry in pool.trash().list()? {
///     pool.trash().restore(&entry.id).run()?;
/// }
/// # Ok::<(), rbd::Error>(())
/// ```
pub mod trash {
    pub use crate::ioctx::purge::PurgeTrash;
    pub use crate::ioctx::trash::{
        AddToTrash, RemoveTrashed, RestoreTrashed, Trash, TrashEntry, TrashSource,
    };
}

/// Not part of the public API.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::raw::op::bench::{Counter, Submitted};
    pub use crate::raw::thread::worker::on_a_thread;
}
/// Async code and thread pools need these traits. A change that loses one must not compile.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Cluster>();
    shared::<ClusterBuilder>();
    shared::<IoCtx>();
    shared::<Image>();
    shared::<image::Cursor<Image>>();
    shared::<Error>();
    shared::<cluster::Key>();
    shared::<aio::Op<bytes::Bytes>>();
    shared::<aio::Op<Vec<bytes::BytesMut>>>();
    shared::<aio::Timeout<aio::Op<()>>>();
    shared::<aio::Timeout<aio::Opening>>();
    shared::<aio::Opening>();
    shared::<Queue>();
    shared::<aio::Closing>();
    shared::<survey::SurveyedImages>();
    shared::<survey::SurveyedStream>();
    #[cfg(feature = "tokio")]
    shared::<aio::AsyncCursor<std::sync::Arc<Image>>>();
};
