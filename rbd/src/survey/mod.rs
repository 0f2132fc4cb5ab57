//! Asks for sizes, features, snapshots, parents, locks and used space of all images of a pool,
//! without opening them.
//!
//! ```no_run
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! for image in pool.survey().snapshots(true).usage(true).run()? {
//!     match image {
//!         Ok(image) => println!("{}: {} bytes, {:?} used", image.name, image.size, image.used),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! # Ok::<(), rbd::Error>(())
//! ```
//!
//! To open an image takes many round trips. A survey asks the OSDs by the calls that librbd makes
//! itself while it opens an image, several of them in one round trip, and has many images in
//! flight. It opens no image, sets no watch, takes no lock and writes nothing. The capability
//! `profile rbd-read-only` suffices.
//!
//! Some images need librbd: those of format 1, those in a migration, and those whose OSDs answer in
//! a way that this crate does not know. A survey opens them read-only, one by one.
//! [`SurveyedImage::way`] tells which way each one went, and [`SurveyedImage::usage_way`] tells it
//! of the used space.

pub(crate) mod decode;
mod drive;
mod handover;
mod image;
mod librbd;
mod parent;
mod usage;

use std::time::SystemTime;

use crate::error::Result;
use crate::features::{Features, Flags, OpFeatures};
use crate::image::Parent;
use crate::image::advisory::Lockers;
use crate::image::snapshot::SnapshotKind;
use crate::ioctx::IoCtx;

pub use drive::{SurveyedImages, SurveyedStream};

/// Asks for all images of a pool or namespace: see [`IoCtx::survey`].
///
/// Size, features and flags are always asked for.
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run` or `start`"]
pub struct Survey<'a> {
    ioctx: &'a IoCtx,
    plan: Plan,
}

/// What is asked for, and how.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)]
struct Plan {
    snapshots: bool,
    parent: bool,
    times: bool,
    locks: bool,
    usage: bool,
    trash: bool,
    all_namespaces: bool,
    sorted: bool,
    in_flight: usize,
}

/// By which way an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Way {
    /// The OSDs were asked, and the image was not opened.
    Osds,
    /// librbd opened the image read-only.
    Librbd,
}

/// What a survey found out about an image. What was not asked for is `None`, or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedImage {
    /// The namespace; empty for the default one.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The id, which a rename does not change. Empty for images of format 1.
    pub id: String,
    /// By which way the answers came.
    pub way: Way,
    /// Whether its removal was begun and not ended. It cannot be opened any more. Where its header
    /// is gone, sizes are 0 and all else is empty.
    pub half_removed: bool,
    /// Whether it is of the old format 1.
    pub old_format: bool,
    /// Size in bytes.
    pub size: u64,
    /// Size of one object in bytes.
    pub object_size: u64,
    /// The features.
    pub features: Features,
    /// The operations it takes part in.
    pub op_features: OpFeatures,
    /// Whether its object map and fast-diff data can be trusted.
    pub flags: Flags,
    /// The snapshots of all kinds, oldest first.
    pub snapshots: Vec<SurveyedSnapshot>,
    /// What it was cloned from. Names are empty where what they name is gone.
    pub parent: Option<Parent>,
    /// When it was created.
    pub created: Option<SystemTime>,
    /// When it was last read, roughly.
    pub accessed: Option<SystemTime>,
    /// When it was last written, roughly.
    pub modified: Option<SystemTime>,
    /// Who locks it: librbd's exclusive lock has the tag `internal`.
    pub locks: Option<Lockers>,
    /// The bytes of the objects that were written since the newest snapshot of a user, as `rbd du`
    /// counts them.
    pub used: Option<u64>,
    /// By which way the used space was found.
    pub usage_way: Option<Way>,
}

/// A snapshot of a surveyed image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedSnapshot {
    /// Its id, unique in the pool.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: SnapshotKind,
    /// The size of the image at that time, in bytes.
    pub size: u64,
    /// When it was taken.
    pub created: SystemTime,
    /// Whether it is protected from removal. Only snapshots of users are.
    pub protected: bool,
    /// What it was cloned from; only where the parent was asked for.
    pub parent: Option<Parent>,
    /// The bytes of the objects that were written since the snapshot of a user before it, as `rbd
    /// du` counts them. Only for snapshots of users.
    pub used: Option<u64>,
}

impl IoCtx {
    /// Asks for all images here, without opening them: see [`survey`](crate::survey).
    pub fn survey(&self) -> Survey<'_> {
        let plan = Plan {
            snapshots: false,
            parent: false,
            times: false,
            locks: false,
            usage: false,
            trash: false,
            all_namespaces: false,
            sorted: true,
            in_flight: 64,
        };
        Survey { ioctx: self, plan }
    }
}

impl Survey<'_> {
    /// Sets whether to ask for the snapshots. Default: off.
    pub fn snapshots(mut self, ask: bool) -> Self {
        self.plan.snapshots = ask;
        self
    }

    /// Sets whether to ask for the parents of clones, with their names. Default: off.
    pub fn parent(mut self, ask: bool) -> Self {
        self.plan.parent = ask;
        self
    }

    /// Sets whether to ask when an image was created, read and written. Default: off.
    pub fn times(mut self, ask: bool) -> Self {
        self.plan.times = ask;
        self
    }

    /// Sets whether to ask who locks an image. Default: off.
    pub fn locks(mut self, ask: bool) -> Self {
        self.plan.locks = ask;
        self
    }

    /// Sets whether to ask for the space that images and their snapshots use. Asks for the
    /// snapshots, too. Default: off.
    ///
    /// Reads the object maps of images with the feature fast-diff. For other images, and where the
    /// map is invalid, librbd asks the OSDs for each object, which takes long.
    pub fn usage(mut self, ask: bool) -> Self {
        self.plan.usage = ask;
        self
    }

    /// Sets whether to look at the images in the trash instead. Default: off.
    pub fn trash(mut self, trash: bool) -> Self {
        self.plan.trash = trash;
        self
    }

    /// Sets whether to look at all namespaces of the pool, the default one first. Default: off.
    pub fn all_namespaces(mut self, all: bool) -> Self {
        self.plan.all_namespaces = all;
        self
    }

    /// Sets whether images come sorted by name, within each namespace. If not, they come as they
    /// are found, and one slow image holds up no other. Default: on.
    pub fn sorted(mut self, sorted: bool) -> Self {
        self.plan.sorted = sorted;
        self
    }

    /// Sets how many images are asked for at the same time: from 1 on. Default: 64.
    pub fn in_flight(mut self, images: usize) -> Self {
        self.plan.in_flight = images.max(1);
        self
    }

    /// Lists the images and begins to ask for them. Blocks for the list, and each step of the
    /// iterator blocks until an image is known.
    ///
    /// An image that is removed meanwhile is left out. The error of one image does not end the
    /// others. The iterator ends with an error where nothing comes within the [call
    /// timeout](crate::ClusterBuilder::call_timeout).
    pub fn run(self) -> Result<SurveyedImages> {
        drive::list(self.ioctx, self.plan).and_then(|listed| drive::begin(self.ioctx, self.plan, listed))
    }

    /// Begins to list the images and to ask for them, and returns a stream of them. Blocks nothing.
    ///
    /// The stream ends after an error of the list.
    pub fn start(self) -> Result<SurveyedStream> {
        drive::start(self.ioctx, self.plan)
    }
}
