//! Replicates images to another cluster; one copy of each image is primary.
//!
//! A pool (or a namespace of it) is set to a [`Mode`]; its [`Peer`] is the same pool on another
//! cluster, made known by a [`BootstrapToken`]. The daemon `rbd-mirror` on the receiving side does
//! the work. Each image has a primary copy, the only one that can be written;
//! [`demote`](ImageMirroring::demote) and [`promote`](ImageMirroring::promote) move that role.
//!
//! ```no_run
//! use rbd::mirror::{Direction, ImageMode, Mode};
//!
//! let here = rbd::Cluster::connect()?;
//! let there = rbd::Cluster::builder().conf_file("/etc/ceph/there.conf").connect()?;
//! here.set_mirror_site_name("here")?;
//! there.set_mirror_site_name("there")?;
//! let (from, to) = (here.ioctx("rbd")?, there.ioctx("rbd")?);
//! from.mirroring().set_mode(Mode::Image)?;
//! to.mirroring().set_mode(Mode::Image)?;
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

pub use image::{CreateSnapshot, Disable, ImageMirroring, Promote};
pub use list::MirroredImage;
pub use peer::{AddPeer, Direction, Peer, PeerAccess, Peers};
pub use pool::{Mode, PoolMirroring};
pub use status::{ImageMode, ImageState, Info, SiteStatus, State, Status};
pub use token::BootstrapToken;
