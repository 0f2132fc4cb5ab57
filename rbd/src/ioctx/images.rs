//! Listing, renaming and removing the images of a pool or namespace.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::features::Features;
use crate::names::{existing_name, new_name};
use crate::progress::Progress;
use crate::raw::image::open::By;

/// An image in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ImageEntry {
    /// The name. Bytes that are not UTF-8 appear as U+FFFD.
    pub name: String,
    /// The id, which a rename does not change. Empty for images of format 1.
    pub id: String,
}

/// Removes an image: see [`IoCtx::remove`].
#[derive(Debug)]
#[must_use = "nothing happens until `run`"]
pub struct RemoveImage<'a> {
    ioctx: &'a IoCtx,
    name: &'a str,
    progress: Progress<'a>,
}

impl IoCtx {
    /// Lists the images of the pool and namespace, sorted by name, without those in the trash.
    ///
    /// Implements: `rbd_list2`.
    #[doc(alias = "rbd_list")]
    #[doc(alias = "rbd_list2")]
    pub fn list(&self) -> Result<Vec<ImageEntry>> {
        let images = self.bounded("list the images of", || self.pool_object(), move |raw| raw.images())?;
        if images.is_empty() {
            self.check_namespace("list the images of")?;
        }
        let mut images: Vec<_> = images.into_iter().map(|(id, name)| ImageEntry { name, id }).collect();
        images.sort_unstable();
        // librbd lists an image twice if it is removed or renamed meanwhile.
        let mut seen = HashSet::new();
        images.retain(|image| image.id.is_empty() || seen.insert(image.id.clone()));
        Ok(images)
    }

    /// Renames an image, which may be open.
    ///
    /// Implements: `rbd_rename`.
    #[doc(alias = "rbd_rename")]
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let object = || self.image_object(from);
        let (c_from, c_to) = (existing_name("rename", object, from)?, new_name("rename", object, to)?);
        let pool = Arc::clone(self.raw());
        self.bounded("rename", object, move |_| pool.rename(&c_from, &c_to)).map_err(|error| {
            match error.kind() {
                ErrorKind::AlreadyExists => {
                    let why = format!("an image '{}' already exists; choose another name", self.spec(to));
                    error.with_detail(why)
                }
                _ => self.explain_missing("rename an image in", By::Name, from, error),
            }
        })
    }

    /// Removes an image and its data. Also works if the cluster is full.
    ///
    /// Fails with [`ErrorKind::HasSnapshots`] if the image has snapshots. Fails with
    /// [`ErrorKind::Busy`] if a client has the image mapped or open for writing, or if it is in a
    /// group; the error names them. A crashed client counts for about 30 s.
    ///
    /// With the option `rbd_move_to_trash_on_remove` (default: off), librbd moves the image to the
    /// trash instead, where its data stays.
    ///
    /// Implements: `rbd_remove_with_progress`.
    #[doc(alias = "rbd_remove")]
    #[doc(alias = "rbd_remove_with_progress")]
    pub fn remove<'a>(&'a self, name: &'a str) -> RemoveImage<'a> {
        RemoveImage { ioctx: self, name, progress: Progress::default() }
    }
}

impl<'a> RemoveImage<'a> {
    /// Calls back with the objects removed so far and their total. A break stops the removal with
    /// [`ErrorKind::Stopped`]. The damaged image is then still listed, but cannot be opened. Finish
    /// its removal with [`Trash::remove`](super::trash::Trash::remove) by its id, because its name
    /// may meanwhile belong to a new image.
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Removes the image. Blocks until all objects are deleted.
    pub fn run(self) -> Result<()> {
        let RemoveImage { ioctx, name, progress } = self;
        let object = || ioctx.image_object(name);
        let c_name = existing_name("remove", object, name)?;
        ioctx
            .freeing("remove an image in")?
            .bounded_long("remove", object, progress, move |raw, progress| raw.remove(&c_name, progress))
            .map_err(|error| explain(ioctx, name, error))
    }
}

/// Adds the clients that watch the image, or the rest of an interrupted removal.
fn explain(ioctx: &IoCtx, name: &str, error: Error) -> Error {
    match error.errno() {
        Some(Errno::EBUSY) => ioctx.with_watchers(name, error),
        Some(Errno::ENOENT) => ioctx.explain_missing("remove an image in", By::Name, name, error),
        Some(Errno::EMLINK) => ioctx.with_group(name, error),
        Some(Errno::ENOTEMPTY) => match ioctx.open(name).read_only(true).run() {
            Ok(image) => image.with_snapshots(error, "remove them first"),
            Err(_) => error,
        },
        _ => error,
    }
}

impl IoCtx {
    /// Adds the clients that watch the image to an error that they cause.
    pub(crate) fn with_watchers(&self, name: &str, error: Error) -> Error {
        // A handle opened for writing would itself be among the watchers.
        match self.open(name).read_only(true).run() {
            Ok(image) => image.with_watchers(error),
            Err(_) => error,
        }
    }

    /// Adds the group that the image is in to an error that it causes.
    pub(crate) fn with_group(&self, name: &str, error: Error) -> Error {
        match self.open(name).read_only(true).run() {
            Ok(image) => image.with_group(error),
            Err(_) => error,
        }
    }

    /// Returns whether the image is being migrated: prepared or executed, but not committed. False
    /// if it cannot be opened.
    pub(crate) fn is_migrating(&self, name: &str) -> bool {
        let features = self.open(name).read_only(true).run().and_then(|image| image.features());
        features.is_ok_and(|features| features.contains(Features::MIGRATING))
    }

    /// Adds the owner of the exclusive lock, which keeps an image out of the trash.
    pub(crate) fn with_lock_owner(&self, name: &str, error: Error) -> Error {
        let Ok(image) = self.open(name).read_only(true).run() else { return error };
        match image.lock_holder() {
            Ok(Some(holder)) => error.with_kind(ErrorKind::Busy { holders: vec![holder] }),
            _ => error,
        }
    }
}
