//! Replicates images to another cluster.
//!
//! A pool or namespace has a [`PoolMode`]. Its [`Peer`] is the pool of the same name in another
//! cluster; a [`BootstrapToken`] connects the two. The daemon `rbd-mirror` on the receiving side
//! replicates. Each image has one primary copy, and only this copy can be written.
//! [`demote`](ImageMirroring::demote) and [`promote`](ImageMirroring::promote) change which copy is
//! primary.
//!
//! ```no_run
//! use rbd::mirror::{Direction, ImageMode, PoolMode};
//!
//! let here = rbd::Cluster::connect()?;
//! let there = rbd::Cluster::builder().conf_file("/etc/ceph/there.conf").connect()?;
//! here.set_mirror_site_name("here")?;
//! there.set_mirror_site_name("there")?;
//! let (from, to) = (here.ioctx("rbd")?, there.ioctx("rbd")?);
//! from.mirroring().set_mode(PoolMode::Image)?;
//! to.mirroring().set_mode(PoolMode::Image)?;
//! let token = from.mirroring().create_bootstrap_token()?;
//! to.mirroring().import_bootstrap_token(&token, Direction::RxOnly)?;
//!
//! let image = from.open("foo").run()?;
//! image.mirroring().enable(ImageMode::Snapshot)?;
//! println!("{}", image.mirroring().status()?.local().description);
//! # Ok::<(), rbd::Error>(())
//! ```

mod aio;
mod image;
mod list;
mod peer;
mod pool;
mod status;
mod token;

pub use image::{CreateMirrorSnapshot, DisableImage, ImageMirroring, PromoteImage};
pub use list::MirroredImage;
pub use peer::{AddPeer, Direction, Peer, PeerAccess, Peers};
pub use pool::{PoolMirroring, PoolMode};
pub use status::{ImageInfo, ImageMode, ImageState, ImageStatus, ReplicationState, SiteStatus};
pub use token::BootstrapToken;
