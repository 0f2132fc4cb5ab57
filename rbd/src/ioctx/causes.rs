//! Reasons of failures on a pool that librbd does not report.

use std::ffi::CString;
use std::sync::Arc;

use super::IoCtx;
use super::trash::TrashSource;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, spec_hint};
use crate::raw;
use crate::raw::image::open::By;

/// The position of the pool's id in the encoded parent of a clone, after two versions and a length.
const PARENT_POOL: std::ops::Range<usize> = 6..14;

/// Returns the name of an image from its encoded trash entry, which holds two versions, a length, a
/// source, the length of the name in four bytes, and the name.
fn trashed_name(entry: &[u8]) -> Option<&[u8]> {
    let (len, rest) = entry.get(7..)?.split_first_chunk::<4>()?;
    rest.get(..u32::from_le_bytes(*len) as usize)
}

impl IoCtx {
    /// Refuses a call on handles of two clusters: librbd would use the ids of one cluster in the
    /// other.
    pub(crate) fn check_same_cluster(
        &self,
        operation: &'static str,
        object: impl FnOnce() -> Object,
        other: &IoCtx,
    ) -> Result<()> {
        if Arc::ptr_eq(self.cluster.raw(), other.cluster.raw()) {
            return Ok(());
        }
        let (here, there) = (self.cluster.fsid()?, other.cluster.fsid()?);
        if here == there {
            return Ok(());
        }
        let why = format!(
            "pool '{}' is in cluster {here}, and pool '{}' is in another cluster, {there}; only \
             copies can go from one cluster to another",
            self.pool, other.pool
        );
        Err(Error::invalid(operation, object(), why))
    }

    /// Returns a handle for calls that free space, which works on a full pool or cluster.
    pub(crate) fn freeing(&self, operation: &'static str) -> Result<IoCtx> {
        let namespace = c_string(operation, || self.pool_object(), &self.namespace)?;
        let open =
            || raw::ioctx::IoCtx::open_when_full(Arc::clone(self.cluster.raw()), self.pool_id, &namespace);
        let raw = self.call(operation, || self.pool_object(), open)?;
        Ok(IoCtx { raw: Arc::new(raw), ..self.clone() })
    }

    /// Adds that the pool was removed, if it was: then everything in it is missing.
    pub(crate) fn explain_pool(&self, error: Error) -> Error {
        match self.deleted_pool(&error, -1) {
            Some(id) => error.pool_deleted(&self.pool, id),
            None => error,
        }
    }

    /// Returns the pool whose deletion explains the error: this one or `other`.
    pub(crate) fn deleted_pool(&self, error: &Error, other: i64) -> Option<i64> {
        match error.errno() {
            // What timed out is not asked about again.
            None | Some(Errno::ETIMEDOUT) => None,
            // OSDs return these before this client knows of the deletion, and librbd returns them
            // if it cannot acquire the lock.
            Some(errno) => self.raw.deleted_pool(other, matches!(errno, Errno::EPERM | Errno::EROFS)),
        }
    }

    /// Checks that the pool and namespace exist, after an empty list or a missing image, and before
    /// something is stored: librbd does not say so, and stores it in a namespace that nobody sees.
    pub(crate) fn check_namespace(&self, operation: &'static str) -> Result<()> {
        match &*self.namespace {
            "" if self.raw.deleted_pool(-1, false).is_some() => {
                Err(self.explain_pool(Error::new(operation, self.pool_object(), Errno::ENOENT)))
            }
            "" => Ok(()),
            name if self.namespaces().exists(name)? => Ok(()),
            _ => Err(self.missing_namespace(operation)),
        }
    }

    pub(crate) fn missing_namespace(&self, operation: &'static str) -> Error {
        let object = Object::new(ObjectKind::Namespace, format!("{}/{}", self.pool, self.namespace));
        Error::new(operation, object, Errno::ENOENT)
    }

    /// Adds the reason why an image was not found: its pool, namespace or parent is missing, the
    /// name contains more than a name, or its removal was interrupted. Other errors stay unchanged.
    /// Blocks, but does not list the pool, which would take long for many images.
    pub(crate) fn explain_missing(
        &self,
        operation: &'static str,
        by: By,
        image: &str,
        error: Error,
    ) -> Error {
        if *error.kind() != (ErrorKind::NotFound { what: ObjectKind::Image }) {
            return error;
        }
        match self.check_namespace(operation) {
            Err(missing) if missing.is_not_found() => return missing,
            _ => {}
        }
        let id = match by {
            By::Id => Some(image.to_owned()),
            By::Name => {
                if let Some(hint) = spec_hint(ObjectKind::Image, image) {
                    return error.with_detail(hint);
                }
                self.image_id(image)
            }
        };
        if let Some(id) = self.interrupted_removal(id.as_deref(), image) {
            return error.with_detail(format!(
                "its removal was interrupted, and the rest cannot be used; finish the removal by its id, \
                 `trash().remove(\"{id}\")`, because the name may belong to a new image"
            ));
        }
        match id {
            Some(id) => self.explain_parent(&id, error),
            None => error,
        }
    }

    /// Returns the id of the image with this name, from the object that librbd keeps for each name.
    fn image_id(&self, name: &str) -> Option<String> {
        let object = CString::new(format!("rbd_id.{name}")).ok()?;
        self.bounded("look up", || self.image_object(name), move |raw| raw.image_id(&object)).ok()
    }

    /// Returns the id of an image whose removal was interrupted. librbd begins a removal by moving
    /// the image to the trash, where the name is kept.
    fn interrupted_removal(&self, id: Option<&str>, name: &str) -> Option<String> {
        let is_removed =
            |id: &str| self.trash().get(id).is_ok_and(|entry| entry.source == TrashSource::Removing);
        if let Some(id) = id {
            return is_removed(id).then(|| id.to_owned());
        }
        // librbd's list of the trash leaves out what is being removed.
        let read = |raw: &raw::ioctx::IoCtx| raw.omap(c"rbd_trash");
        let pairs = self.bounded("search the trash of", || self.pool_object(), read).ok()?;
        let named = pairs.iter().filter(|(_, entry)| trashed_name(entry) == Some(name.as_bytes()));
        let mut ids = named.filter_map(|(key, _)| std::str::from_utf8(key.strip_prefix(b"id_")?).ok());
        ids.find(|id| is_removed(id)).map(str::to_owned)
    }

    /// Says that an image which is there cannot be opened, because it is a clone without its
    /// parent.
    fn explain_parent(&self, id: &str, error: Error) -> Error {
        match self.parent_pool(id) {
            Some(pool) if self.cluster.pools().name(pool).is_err_and(|error| error.is_not_found()) => {
                error.with_kind(ErrorKind::NotFound { what: ObjectKind::Pool }).with_detail(format!(
                    "it is a clone, and the pool with its parent (id {pool}) was removed; data \
                     that the clone has not overwritten is lost; restore the image from a backup"
                ))
            }
            Some(pool) => error.with_detail(format!(
                "it is a clone, and its parent in the pool with the id {pool} cannot be opened; \
                 data that the clone has overwritten still exists; check that the parent exists \
                 there or in that pool's trash, and that this user may read it"
            )),
            None => error,
        }
    }

    /// Returns the pool of a clone's parent. librbd can only tell it for an open image.
    fn parent_pool(&self, id: &str) -> Option<i64> {
        let header = CString::new(format!("rbd_header.{id}")).ok()?;
        let read = move |raw: &raw::ioctx::IoCtx| raw.omap(&header);
        let pairs = self.bounded("look up the parent of", || self.image_object(id), read).ok()?;
        let (_, parent) = pairs.into_iter().find(|(key, _)| key == b"parent")?;
        let pool = i64::from_le_bytes(parent.get(PARENT_POOL)?.try_into().ok()?);
        (pool >= 0).then_some(pool)
    }
}
