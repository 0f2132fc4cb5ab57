//! Inspects and repairs what lies below images: the RADOS objects of a pool. Tells whether this
//! client is fenced off.
//!
//! An image consists of objects: its header (`rbd_header.ID`), its object map
//! (`rbd_object_map.ID`), its data (`rbd_data.ID.NUMBER`), and entries in objects of the pool such
//! as `rbd_directory`. [`IoCtx::objects`](crate::IoCtx::objects) lists and reads them. To change
//! those of images destroys images; a program may keep objects of its own under other names.
//!
//! A client on the blocklist can no longer write.
//! [`IoCtx::is_blocklisted`](crate::IoCtx::is_blocklisted) asks once,
//! [`IoCtx::watch_blocklisting`](crate::IoCtx::watch_blocklisting) asks again and again.
//!
//! ```no_run
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! for object in pool.objects().list()? {
//!     let name = object?.name;
//!     println!("{name} {}", pool.objects().stat(&name)?.size);
//! }
//! let watch = pool.watch_blocklisting(std::time::Duration::from_secs(5), || {
//!     eprintln!("this client is fenced off: stop writing, and connect anew");
//! })?;
//! # Ok::<(), rbd::Error>(())
//! ```

mod fence;
mod list;
mod objects;

pub use fence::BlocklistWatch;
pub use list::{ObjectEntry, ObjectList};
pub use objects::{ObjectStat, Objects};
