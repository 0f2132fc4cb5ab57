//! The images of a pool or namespace: list, rename, remove.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::names::{existing_name, new_name};
use crate::progress::Progress;
use crate::raw::image::open::By;

/// An image in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ImageEntry {
    /// Its name. Bytes that are not UTF-8 are shown as U+FFFD.
    pub name: String,
    /// Its id, which a rename does not change. Empty for images of format 1.
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
    /// Lists the images here, sorted by name, without those in the trash.
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
        // An image that is removed or renamed meanwhile is listed twice by librbd.
        let mut seen = HashSet::new();
        images.retain(|image| image.id.is_empty() || seen.insert(image.id.clone()));
        Ok(images)
    }

    /// Gives an image another name. It may be open.
    ///
    /// Implements: `rbd_rename`.
    #[doc(alias = "rbd_rename")]
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let object = || self.image_object(from);
        let (c_from, c_to) = (existing_name("rename", object, from)?, new_name("rename", object, to)?);
        self.bounded("rename", object, move |raw| raw.rename(&c_from, &c_to)).map_err(|error| {
            match error.kind() {
                ErrorKind::Exists => {
                    let why = format!("an image '{}' exists already; choose another name", self.spec(to));
                    error.with_detail(why)
                }
                _ => self.explain_missing("rename an image in", By::Name, from, error),
            }
        })
    }

    /// Removes an image with its data. It must have no snapshots, and nobody may have it open.
    /// Works on a full cluster.
    ///
    /// Implements: `rbd_remove_with_progress`.
    #[doc(alias = "rbd_remove")]
    #[doc(alias = "rbd_remove_with_progress")]
    pub fn remove<'a>(&'a self, name: &'a str) -> RemoveImage<'a> {
        RemoveImage { ioctx: self, name, progress: Progress::default() }
    }
}

impl<'a> RemoveImage<'a> {
    /// Calls back with the objects removed so far and their total. A break ends it with
    /// [`ErrorKind::Stopped`]; the image is left, damaged: it is still listed, but all that can be
    /// done is to end the removal, by its id: [`Trash::remove`](super::trash::Trash::remove).
    pub fn progress(mut self, callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Self {
        self.progress = Progress::new(callback);
        self
    }

    /// Removes it. Blocks for as long as there are objects to delete.
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

/// Names those who have it open, or what is left of it.
fn explain(ioctx: &IoCtx, name: &str, error: Error) -> Error {
    match error.errno() {
        Some(Errno::EBUSY) => ioctx.with_watchers(name, error),
        Some(Errno::ENOENT) => ioctx.explain_missing("remove an image in", By::Name, name, error),
        Some(Errno::EMLINK) => match ioctx.open(name).read_only(true).run() {
            Ok(image) => image.with_group(error),
            Err(_) => error,
        },
        Some(Errno::ENOTEMPTY) => match ioctx.open(name).read_only(true).run() {
            Ok(image) => image.with_snapshots(error),
            Err(_) => error,
        },
        _ => error,
    }
}

impl IoCtx {
    /// The error of something that those who have an image open prevent, with who they are.
    pub(crate) fn with_watchers(&self, name: &str, error: Error) -> Error {
        // Read-only: opened for writing we should be among the watchers ourselves.
        match self.open(name).read_only(true).run() {
            Ok(image) => image.with_watchers(error),
            Err(_) => error,
        }
    }
}
