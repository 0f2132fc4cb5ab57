//! Reads sizes, features, snapshots, parents, locks and used space of all images of a pool, almost
//! always without opening the images.
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
//! Opening an image takes many round trips. A survey makes the same calls to the OSDs that librbd
//! makes when it opens an image, but several of them in one round trip, and for many images at the
//! same time. It opens no image, except those below. It sets no watch, acquires no lock and writes
//! nothing. The capability `profile rbd-read-only` is sufficient.
//!
//! A survey opens these images through librbd, read-only, at most ten at a time:
//!
//! - images of format 1, images in a migration, images whose OSDs give answers that this crate does
//!   not know, and images whose snapshots change at each of several tries;
//! - for [`usage`](Survey::usage), images without fast-diff or with an invalid object map;
//! - for [`watchers`](Survey::watchers), all images.
//!
//! [`SurveyedImage::source`] says how each image was queried, and [`SurveyedImage::usage_source`]
//! how its used space was.

mod calls;
pub(crate) mod decode;
mod drive;
mod handover;
mod image;
mod librbd;
mod object_map;
mod parent;
mod permits;
mod usage;
mod wakes;

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::error::Result;
use crate::features::{Features, Flags, OpFeatures};
use crate::image::advisory::Lockers;
use crate::image::info::ImageGroup;
use crate::image::snapshot::SnapshotKind;
use crate::image::{Parent, Watcher};
use crate::ioctx::{ImageEntry, IoCtx};

pub use drive::{SurveyedImages, SurveyedStream};

/// Queries all images of a pool or namespace: see [`IoCtx::survey`].
///
/// Size, features and flags are always queried.
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run` or `start`"]
pub struct Survey<'a> {
    ioctx: &'a IoCtx,
    plan: Plan,
    only: Option<&'a str>,
}

/// The values to query, and how.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)]
struct Plan {
    snapshots: bool,
    parent: bool,
    times: bool,
    locks: bool,
    watchers: bool,
    group: bool,
    metadata: bool,
    usage: bool,
    trash: bool,
    all_namespaces: bool,
    sorted: bool,
    max_in_flight: usize,
}

impl Plan {
    /// Whether the layout of the images matters: librbd opens those whose watchers are asked for.
    fn layout(self) -> bool {
        self.usage || self.watchers
    }
}

/// How an answer was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// From the OSDs. The image was not opened.
    Osds,
    /// From librbd, which opened the image read-only.
    Librbd,
}

/// An image of a survey. Values that were not requested are `None` or empty.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SurveyedImage {
    /// The namespace; empty for the default one.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The id, which a rename does not change. Empty for images of format 1.
    pub id: String,
    /// How the answers were obtained.
    pub source: Source,
    /// Whether its removal or its creation was interrupted. Such an image cannot be opened. If it
    /// has no header, only `namespace`, `name` and `id` are known: sizes are 0, and the other
    /// values are `None` or empty.
    pub half_removed: bool,
    /// Whether it has the old format 1.
    pub old_format: bool,
    /// Size in bytes.
    pub size: u64,
    /// Size of one object in bytes.
    pub object_size: u64,
    /// The features.
    pub features: Features,
    /// The operation features.
    pub op_features: OpFeatures,
    /// The flags, which say whether its object map and fast-diff data are invalid.
    pub flags: Flags,
    /// The snapshots of all kinds, oldest first.
    pub snapshots: Vec<SurveyedSnapshot>,
    /// The snapshot from which it was cloned. Names are empty if the named object was removed.
    pub parent: Option<Parent>,
    /// When it was created.
    pub created: Option<SystemTime>,
    /// When it was last read, approximately.
    pub accessed: Option<SystemTime>,
    /// When it was last written, approximately.
    pub modified: Option<SystemTime>,
    /// The holders of its locks; `None` if they were not requested. librbd's exclusive lock has the
    /// tag `internal`. If nobody holds a lock, the list of lockers is empty, and the tag can still
    /// be `internal`.
    pub locks: Option<Lockers>,
    /// The clients that have it open for writing, or mapped.
    pub watchers: Vec<Watcher>,
    /// The group of the image.
    pub group: Option<ImageGroup>,
    /// The metadata, including overridden options, whose names begin with `conf_`.
    pub metadata: BTreeMap<String, String>,
    /// The bytes of the objects written since the newest user snapshot, as `rbd du` counts them.
    pub used: Option<u64>,
    /// How the used space was obtained.
    pub usage_source: Option<Source>,
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
    /// Whether it is protected from removal. Only user snapshots can be.
    pub protected: bool,
    /// The flags, which say whether its object map and fast-diff data are invalid.
    pub flags: Flags,
    /// The snapshot from which it was cloned. Only if the parent was requested.
    pub parent: Option<Parent>,
    /// The bytes of the objects written since the previous user snapshot, as `rbd du` counts them.
    /// Only for user snapshots.
    pub used: Option<u64>,
}

impl IoCtx {
    /// Queries all images of this pool and namespace, almost always without opening them: see
    /// [`survey`](crate::survey).
    pub fn survey(&self) -> Survey<'_> {
        let plan = Plan {
            snapshots: false,
            parent: false,
            times: false,
            locks: false,
            watchers: false,
            group: false,
            metadata: false,
            usage: false,
            trash: false,
            all_namespaces: false,
            sorted: true,
            max_in_flight: 64,
        };
        Survey { ioctx: self, plan, only: None }
    }
}

impl<'a> Survey<'a> {
    /// Sets whether to query the snapshots. Default: off.
    pub fn snapshots(mut self, snapshots: bool) -> Self {
        self.plan.snapshots = snapshots;
        self
    }

    /// Sets whether to query the parents of clones, with their names. Default: off.
    pub fn parent(mut self, parent: bool) -> Self {
        self.plan.parent = parent;
        self
    }

    /// Sets whether to query when an image was created, read and written. Default: off.
    pub fn times(mut self, times: bool) -> Self {
        self.plan.times = times;
        self
    }

    /// Sets whether to query the locks of an image. Default: off.
    pub fn locks(mut self, locks: bool) -> Self {
        self.plan.locks = locks;
        self
    }

    /// Sets whether to query the clients that have an image open for writing, or mapped. Default:
    /// off.
    ///
    /// This takes long, because no C function of librados lists the watchers of an object. librbd
    /// opens each image read-only, which sets no watch, at most ten images at a time.
    pub fn watchers(mut self, watchers: bool) -> Self {
        self.plan.watchers = watchers;
        self
    }

    /// Sets whether to query the group that an image belongs to. Default: off.
    pub fn group(mut self, group: bool) -> Self {
        self.plan.group = group;
        self
    }

    /// Sets whether to query the metadata. Default: off.
    pub fn metadata(mut self, metadata: bool) -> Self {
        self.plan.metadata = metadata;
        self
    }

    /// Sets whether to query the space that images and their snapshots use. This also queries the
    /// snapshots. Default: off.
    ///
    /// A survey reads the object maps of images with the feature fast-diff. For other images, and
    /// if the map is invalid, librbd asks the OSDs for each object, which takes long. The object
    /// maps in memory take up to 16 MiB together, or a byte for each object of one larger image.
    /// If a client writes to an image or removes its snapshots during the survey, the space can mix
    /// values of several moments, as in `rbd du`.
    pub fn usage(mut self, usage: bool) -> Self {
        self.plan.usage = usage;
        self
    }

    /// Sets whether to query the images in the trash instead. Default: off.
    pub fn trash(mut self, trash: bool) -> Self {
        self.plan.trash = trash;
        self
    }

    /// Sets whether to query all namespaces of the pool, the default one first. Default: off.
    pub fn all_namespaces(mut self, all_namespaces: bool) -> Self {
        self.plan.all_namespaces = all_namespaces;
        self
    }

    /// Restricts the survey to images of this name. In the trash there may be several. If there is
    /// none, the survey is empty and does not fail. Default: all images.
    pub fn image(mut self, name: &'a str) -> Self {
        self.only = Some(name);
        self
    }

    /// Sets whether to sort images by name within each namespace. If not, they are returned as
    /// their answers arrive, and a slow image delays no other. Default: on.
    pub fn sorted(mut self, sorted: bool) -> Self {
        self.plan.sorted = sorted;
        self
    }

    /// Sets how many images are queried at the same time, at least 1. Default: 64.
    pub fn max_in_flight(mut self, images: usize) -> Self {
        self.plan.max_in_flight = images.max(1);
        self
    }

    /// Lists the images and starts to query them. Blocks for the list. Each step of the iterator
    /// blocks until an image is known. Answers are fetched ahead: an item can be older than the
    /// step that returns it.
    ///
    /// An image that is removed meanwhile is omitted. The error of one image does not end the
    /// iterator. The iterator ends with an error if no answer comes within the [call
    /// timeout](crate::ClusterBuilder::call_timeout).
    pub fn run(self) -> Result<SurveyedImages> {
        let listed = drive::list(self.ioctx, self.plan, self.only)?;
        drive::begin(self.ioctx, self.plan, listed)
    }

    /// Starts to list and to query the images, and returns a stream of them. Does not block.
    ///
    /// If the list fails, the stream ends after its error.
    pub fn start(self) -> Result<SurveyedStream> {
        drive::start(self.ioctx, self.plan, self.only)
    }
}

/// Returns an image without any answers.
fn empty(namespace: &str, entry: &ImageEntry) -> SurveyedImage {
    SurveyedImage {
        namespace: namespace.to_owned(),
        name: entry.name.clone(),
        id: entry.id.clone(),
        source: Source::Osds,
        half_removed: false,
        old_format: false,
        size: 0,
        object_size: 0,
        features: Features::empty(),
        op_features: OpFeatures::empty(),
        flags: Flags::empty(),
        snapshots: Vec::new(),
        parent: None,
        created: None,
        accessed: None,
        modified: None,
        locks: None,
        watchers: Vec::new(),
        group: None,
        metadata: BTreeMap::new(),
        used: None,
        usage_source: None,
    }
}
