//! Clones of images.

use std::sync::Arc;

use super::snapshot::SnapshotRef;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::ioctx::new_image::{NewImage, new_image_setters};
use crate::names::{c_string, new_name};

/// The format of a clone, which decides how its parent snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloneFormat {
    /// The snapshot must be protected, and cannot be removed while it has clones.
    V1,
    /// The snapshot needs no protection. A removed snapshot stays in the trash while clones need
    /// it. All clients must have Ceph Mimic (13) or later.
    V2,
}

impl CloneFormat {
    pub(crate) fn number(self) -> u64 {
        match self {
            CloneFormat::V1 => 1,
            CloneFormat::V2 => 2,
        }
    }
}

/// Clones an image: see [`IoCtx::clone_image`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct CloneImage<'a> {
    parent_ioctx: &'a IoCtx,
    parent: &'a str,
    snapshot: SnapshotRef<'a>,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
}

impl IoCtx {
    /// Clones a snapshot of an image into a new image, which shares the snapshot's data until it is
    /// overwritten.
    ///
    /// `snapshot` is the snapshot's name, or its id (Ceph 20.2 or later). Options that are not set
    /// follow the parent, which must have the feature layering.
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// use rbd::image::CloneFormat;
    /// ioctx.clone_image("golden", "v1", "vm-7").format(CloneFormat::V2).run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_clone3`, `rbd_clone4`.
    #[doc(alias = "rbd_clone")]
    #[doc(alias = "rbd_clone2")]
    #[doc(alias = "rbd_clone3")]
    #[doc(alias = "rbd_clone4")]
    pub fn clone_image<'a>(
        &'a self,
        parent: &'a str,
        snapshot: impl Into<SnapshotRef<'a>>,
        name: &'a str,
    ) -> CloneImage<'a> {
        CloneImage {
            parent_ioctx: self,
            parent,
            snapshot: snapshot.into(),
            ioctx: self,
            name,
            new: NewImage::default(),
        }
    }
}

impl<'a> CloneImage<'a> {
    new_image_setters!();

    /// Sets the pool and namespace of the clone, in the same cluster. Default: those of the parent.
    pub fn into_ioctx(mut self, ioctx: &'a IoCtx) -> Self {
        self.ioctx = ioctx;
        self
    }

    /// Sets the clone format. Default: the option `rbd_default_clone_format`, which by default
    /// depends on the oldest client that the cluster admits.
    pub fn format(mut self, format: CloneFormat) -> Self {
        self.new.clone_format = Some(format.number());
        self
    }

    /// Creates the clone. Blocks, but copies no data.
    pub fn run(self) -> Result<()> {
        let object = || self.ioctx.image_object(self.name);
        self.parent_ioctx.check_same_cluster("clone into", object, self.ioctx)?;
        let name = new_name("clone into", object, self.name)?;
        let parent = c_string("clone into", || self.parent_ioctx.image_object(self.parent), self.parent)?;
        let options = self.new.options("clone into", object)?;
        let into = Arc::clone(self.ioctx.raw());
        // The call is made on the parent's pool, but the failing object is the clone.
        let made = match self.snapshot {
            SnapshotRef::Name(snapshot) => {
                let snapshot = c_string("clone into", || self.snapshot_object(), snapshot)?;
                self.parent_ioctx.bounded("clone into", object, move |raw| {
                    raw.clone_named(&parent, &snapshot, &into, &name, &options)
                })
            }
            SnapshotRef::Id(id) => self.parent_ioctx.bounded("clone into", object, move |raw| {
                raw.clone_by_id(&parent, id, &into, &name, &options)
            }),
        };
        made.map_err(|error| self.explain(error))
    }

    fn snapshot_object(&self) -> crate::error::Object {
        self.snapshot.object(&self.parent_ioctx.spec(self.parent))
    }

    /// Finds out what ENOENT and EINVAL refer to: the new image, its pool, the parent, or the
    /// parent's snapshot.
    fn explain(&self, error: Error) -> Error {
        let open = || self.parent_ioctx.open(self.parent).read_only(true);
        match error.errno() {
            Some(Errno::ENOENT) => match open().snapshot(self.snapshot).run() {
                Ok(_) => self.new.explain(self.ioctx, error),
                Err(parent) if parent.is_not_found() => {
                    let what = match parent.kind() {
                        ErrorKind::NotFound { what } => *what,
                        _ => ObjectKind::Image,
                    };
                    let missing = match what {
                        ObjectKind::Snapshot => self.snapshot_object(),
                        _ => self.parent_ioctx.image_object(self.parent),
                    };
                    error
                        .with_kind(ErrorKind::NotFound { what })
                        .with_detail(format!("the {missing} does not exist; check its name"))
                }
                Err(_) => error,
            },
            Some(Errno::EINVAL) => {
                let SnapshotRef::Name(name) = self.snapshot else { return error };
                match open().run().and_then(|parent| parent.snapshots().is_protected(name)) {
                    Ok(false) if self.new.clone_format != Some(2) => error.with_detail(format!(
                        "the {} is not protected; protect it, or use clone format 2",
                        self.snapshot_object()
                    )),
                    _ => error,
                }
            }
            _ => error,
        }
    }
}
