//! Below images: the RADOS objects of a pool, for inspection and repair, and whether this client is fenced off.

mod fence;
mod list;
mod objects;

pub use fence::BlocklistWatch;
pub use list::{ObjectEntry, ObjectList};
pub use objects::{ObjectStat, Objects};
