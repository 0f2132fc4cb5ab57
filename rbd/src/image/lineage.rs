//! The parents and clones of an image.

use std::fmt;

use super::Image;
use super::snapshot::SnapshotKind;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::LongOperation;
use crate::raw::image::lineage::RawLinkedImage;

/// An image in any pool of the cluster: a clone or a parent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct LinkedImage {
    /// The id of the image's pool.
    pub pool_id: i64,
    /// The name of the image's pool.
    pub pool: String,
    /// The image's namespace; empty for the default one.
    pub namespace: String,
    /// The image's name.
    pub name: String,
    /// The image's id; empty for format 1.
    pub id: String,
    /// Whether the image is in the trash. Then it can only be opened by its id.
    pub in_trash: bool,
}

/// The snapshot that a clone was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parent {
    /// The image.
    pub image: LinkedImage,
    /// The id of the snapshot.
    pub snapshot_id: u64,
    /// The name of the snapshot.
    pub snapshot: String,
    /// The kind of the snapshot: [`SnapshotKind::Trash`] if it was removed while this clone needed
    /// it.
    pub snapshot_kind: SnapshotKind,
    /// How many bytes from the start the clone may still read from the parent.
    pub overlap: u64,
}

impl From<RawLinkedImage> for LinkedImage {
    fn from(raw: RawLinkedImage) -> LinkedImage {
        LinkedImage {
            pool_id: raw.pool_id,
            pool: raw.pool,
            namespace: raw.namespace,
            name: raw.name,
            id: raw.id,
            in_trash: raw.in_trash,
        }
    }
}

/// Prints `rbd/foo`, or `rbd/ns/foo` in a namespace.
impl fmt::Display for LinkedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LinkedImage { pool, namespace, name, .. } = self;
        match namespace.as_str() {
            "" => write!(f, "{pool}/{name}"),
            namespace => write!(f, "{pool}/{namespace}/{name}"),
        }
    }
}

/// Prints `rbd/foo@snap`.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.image, self.snapshot)
    }
}

impl Image {
    /// Returns the parent of a clone; `None` if the image is no clone or was flattened.
    ///
    /// Implements: `rbd_get_parent`, `rbd_get_overlap`.
    #[doc(alias = "rbd_get_parent")]
    #[doc(alias = "rbd_get_parent_info")]
    #[doc(alias = "rbd_get_parent_info2")]
    pub fn parent(&self) -> Result<Option<Parent>> {
        let Some(raw) = self.bounded("read the parent of", move |raw| raw.parent())? else { return Ok(None) };
        Ok(Some(Parent {
            image: raw.image.into(),
            snapshot_id: raw.snapshot_id,
            snapshot: raw.snapshot,
            snapshot_kind: SnapshotKind::from_raw(raw.snapshot_type.0),
            overlap: self.overlap()?,
        }))
    }

    /// Lists the clones that are not flattened, of all snapshots or of the one that the image is
    /// opened at. Includes clones in the trash. Asks all pools of the cluster for clones of format
    /// 1.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// for clone in image.at_snapshot("golden")?.children()? {
    ///     println!("{clone}");
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_list_children3`.
    #[doc(alias = "rbd_list_children")]
    #[doc(alias = "rbd_list_children2")]
    #[doc(alias = "rbd_list_children3")]
    pub fn children(&self) -> Result<Vec<LinkedImage>> {
        Ok(sorted(self.bounded("list the clones of", move |raw| raw.children())?))
    }

    /// Lists the clones, their clones, and so on.
    ///
    /// Implements: `rbd_list_descendants`.
    #[doc(alias = "rbd_list_descendants")]
    pub fn descendants(&self) -> Result<Vec<LinkedImage>> {
        Ok(sorted(self.bounded("list the descendants of", move |raw| raw.descendants())?))
    }

    /// Lists the parent, its parent, and so on. Opens each of them for reading. A read of data that
    /// the clone has not overwritten goes down this chain, so long chains are slow.
    pub fn ancestors(&self) -> Result<Vec<Parent>> {
        let mut ancestors = Vec::new();
        let mut next = self.parent()?;
        while let Some(parent) = next {
            next = self.open_parent(&parent)?.parent()?;
            ancestors.push(parent);
        }
        Ok(ancestors)
    }

    /// Opens the parent at the snapshot, for reading.
    pub(crate) fn open_parent(&self, parent: &Parent) -> Result<Image> {
        let LinkedImage { pool_id, namespace, id, name, .. } = &parent.image;
        let ioctx = self.ioctx.cluster().ioctx_by_id(*pool_id)?.with_namespace(namespace)?;
        let open = if id.is_empty() { ioctx.open(name) } else { ioctx.open_by_id(id) };
        let mut image = open.read_only(true).snapshot(parent.snapshot_id).run()?;
        image.set_spec(&parent.image.to_string());
        Ok(image)
    }

    /// Copies all remaining parent data into the clone, and detaches the clone from its parent.
    /// Flattens the clone's snapshots too if it has the feature deep-flatten. Refused if the image
    /// is no clone, and with encryption loaded.
    ///
    /// Implements: `rbd_flatten_with_progress`.
    #[doc(alias = "rbd_flatten")]
    #[doc(alias = "rbd_flatten_with_progress")]
    pub fn flatten(&self) -> LongOperation<'_> {
        LongOperation::new(|progress| {
            // librbd 16.2 would leave the parent's encryption header in the clone, and no
            // passphrase could open the clone again.
            self.refuse_encrypted(
                "flatten",
                "open the image again without encryption and flatten that handle",
            )?;
            if self.parent()?.is_none() {
                return Err(self.refuse("flatten", "it is not a clone, or it is already flattened"));
            }
            self.bounded_long("flatten", || self.object(), progress, |raw, progress| raw.flatten(progress))
        })
    }

    /// Adds the names of the clones to an error that they cause. Leaves the error unchanged if
    /// there are none.
    pub(crate) fn with_clones(&self, error: Error, snapshot: Option<&str>) -> Error {
        let clones = match snapshot {
            Some(snapshot) => self.at_snapshot(snapshot).and_then(|image| image.children()),
            None => self.children(),
        };
        let Ok(clones) = clones else { return error };
        if clones.is_empty() {
            return error;
        }
        let mut names: Vec<String> = clones.iter().take(5).map(ToString::to_string).collect();
        if clones.len() > names.len() {
            names.push(format!("and {} more", clones.len() - names.len()));
        }
        let why = format!("it has clones: {}; flatten or remove them first", names.join(", "));
        error.with_kind(ErrorKind::HasClones).with_detail(why)
    }
}

fn sorted(raw: Vec<RawLinkedImage>) -> Vec<LinkedImage> {
    let mut images: Vec<LinkedImage> = raw.into_iter().map(LinkedImage::from).collect();
    images.sort_unstable();
    images
}
