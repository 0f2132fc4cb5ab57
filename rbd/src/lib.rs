//! Ceph block device images from Rust: create them, manage their features and snapshots, read and write them, map them
//! through the kernel.
//!
//! Everything hangs on three values: a [`Cluster`] is a connection, an [`IoCtx`] a pool and namespace in it, an [`Image`]
//! an open block device. Each keeps the one before alive, so they can be dropped in any order, and all of them can be
//! shared between threads. Operations with options are builders that end in `run()`.
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
//! # Blocking or not
//!
//! Calls block the calling thread, within the timeouts of the [`ClusterBuilder`]. The same I/O without blocking, as futures
//! for any executor, is behind [`Image::aio`]; images are opened and closed that way by `ioctx.open("foo").await` (or `start()`)
//! and [`Image::start_close`]. A [`Queue`] serves whoever has an event loop of their own. `examples/aio.rs` in the repository
//! has both.
//!
//! Futures are woken on the connection's threads, of which there are two as a rule, for all its images: executors pass the task on
//! to threads of their own. Whoever polls inside the wake must not block there (see [`Op`]).
//!
//! Ceph cannot cancel an operation: dropping its future, or giving up on it after a [`Timeout`], leaves it to itself, and a write
//! may still take effect. The feature `unblock` awaits whatever only blocks. Connecting is such a call, and so is dropping the
//! last clone of a [`Cluster`], which ends the connection.
//!
//! # Cargo features
//!
//! - `tokio`: `AsyncCursor`, an image as tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek`.
//! - `unblock`: `unblock(|| …)`, for awaiting the calls that librbd only has blocking.
//! - `tracing`: events of the operations of [`Image::aio`] and of a [`Queue`], and of opening and closing as futures, target
//!   `rbd::aio`: `submitted`, and then `ended`, `failed` with the errno, or `left to itself` where it was given up on before, or
//!   its future dropped. `failed` is of level debug, the others are of level trace. A request that is refused before it is
//!   submitted has none, nor have calls that block, and what is in flight when its queue is closed.
//!
//! # Errors
//!
//! Errors are one type, [`Error`], that says
//! what failed, on which object, why, and what to do next.
#![deny(unsafe_code)]

/// Lengths within an image are 64 bits; librbd takes them as `size_t`.
const _: () = assert!(
    usize::BITS >= 64,
    "rbd needs a 64-bit target: elsewhere long ranges would be cut off in silence"
);

mod aio;
mod cluster;
mod errno;
mod error;
#[cfg(feature = "tracing")]
mod events;
mod features;
mod group;
mod hints;
mod holder;
mod image;
mod ioctx;
pub mod krbd;
mod migration;
pub mod mirror;
mod names;
mod progress;
mod queue;
pub mod rados;
mod raw;
#[cfg(feature = "tokio")]
mod stream;
#[cfg(feature = "unblock")]
mod unblock;
mod version;
pub mod volume;

/// The buffers of asynchronous operations are this crate's `Bytes` and `BytesMut`.
pub use bytes;

pub use aio::{Aio, Closing, Op, Opening, Timeout};
pub use cluster::{
    AddToBlocklist, Blocklist, BlocklistEntry, Cluster, ClusterBuilder, ClusterConfig, ClusterUsage, Key,
    LogEntry, LogLevel, LogWatch, PoolUsage, Pools,
};
pub use errno::Errno;
pub use error::{Error, ErrorKind, ObjectKind, Result};
pub use features::{
    Change, FeatureConflict, Features, Flags, ImmutableFeatures, OpFeatures, Plan, Rule, UnknownFeature,
};
pub use group::{
    CreateGroupSnapshot, Group, GroupMember, GroupOf, GroupSnapshot, GroupSnapshotImage, GroupSnapshotInfo,
    GroupSnapshots, Groups, RollbackGroup,
};
pub use hints::AccessHints;
pub use holder::{Holder, Watcher};
pub use image::{
    AdvisoryLocks, CloneFormat, CloneImage, Compare, CopyImage, CreateSnapshot, Cursor, DeepCopyImage, Diff,
    DiffExtents, Extent, FastDiff, Image, LinkedImage, LockOwner, Locker, MirrorSnapshot,
    MirrorSnapshotState, ObjectMapFault, OpenImage, Parent, Quiesce, QuiesceWatch, RemoveSnapshot, Resize,
    Snapshot, SnapshotKind, SnapshotNamespace, SnapshotRef, Snapshots, Stat, UpdateWatch,
};
pub use image::{
    Cipher, Encryption, EncryptionFormat, ExclusiveLock, Hinted, ImageConfig, ImageMetadata, Lockers,
    ObjectMap, Passphrase,
};
pub use ioctx::{
    AddToTrash, ApplicationMetadata, Applications, ConfigOption, ConfigSource, CreateImage,
    EnableApplication, ImageCounts, ImageEntry, InitPool, IoCtx, Namespaces, PoolConfig, PoolMetadata,
    PoolStats, PurgeTrash, RemoveImage, RemoveTrashed, RestoreTrashed, Trash, TrashEntry, TrashSource,
};
pub use migration::{
    Migration, MigrationEnd, MigrationState, MigrationStatus, PrepareImport, PrepareMigration,
};
pub use progress::LongOperation;
pub use queue::{Buffer, Completion, Queue, Refused};
/// No part of the interface.
#[cfg(feature = "bench-internals")]
#[doc(hidden)]
pub mod bench_internals {
    pub use crate::raw::bench::{Counter, Submitted};
}
#[cfg(feature = "tokio")]
pub use stream::AsyncCursor;
#[cfg(feature = "unblock")]
pub use unblock::unblock;
pub use version::Version;

/// Async code and thread pools need these; a change that loses one must not compile.
const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Cluster>();
    shared::<ClusterBuilder>();
    shared::<IoCtx>();
    shared::<Image>();
    shared::<Cursor<Image>>();
    shared::<Error>();
    shared::<Key>();
    shared::<Op<bytes::Bytes>>();
    shared::<Op<Vec<bytes::BytesMut>>>();
    shared::<Timeout<Op<()>>>();
    shared::<Timeout<Opening>>();
    shared::<Opening>();
    shared::<Queue>();
    shared::<Closing>();
    #[cfg(feature = "tokio")]
    shared::<AsyncCursor<std::sync::Arc<Image>>>();
};
