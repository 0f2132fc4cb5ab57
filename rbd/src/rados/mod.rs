//! Reads and changes the RADOS objects below images, and detects that this client is fenced.
//!
//! An image consists of objects: its header (`rbd_header.ID`), its object map
//! (`rbd_object_map.ID`), its data (`rbd_data.ID.NUMBER`), and entries in objects of the pool such
//! as `rbd_directory`. [`IoCtx::objects`](crate::IoCtx::objects) lists and reads them. Changing the
//! objects of an image destroys the image. A program may store its own objects under other names.
//!
//! The OSDs refuse all requests of a client on the blocklist.
//! [`IoCtx::is_blocklisted`](crate::IoCtx::is_blocklisted) checks once,
//! [`IoCtx::watch_blocklisting`](crate::IoCtx::watch_blocklisting) checks periodically.
//!
//! ```no_run
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! for object in pool.objects().list()? {
//!     let name = object?.name;
//!     println!("{name} {}", pool.objects().stat(&name)?.size);
//! }
//! let watch = pool.watch_blocklisting(std::time::Duration::from_secs(5), || {
//!     eprintln!("this client is fenced: stop writing, and connect again");
//! })?;
//! # Ok::<(), rbd::Error>(())
//! ```

mod fence;
mod list;
mod objects;

pub use fence::BlocklistWatch;
pub use list::{ObjectEntry, ObjectList};
pub use objects::{ObjectStat, Objects};
