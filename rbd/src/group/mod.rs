//! Groups images, so that their snapshots are taken together.
//!
//! ```no_run
//! # let pool = rbd::Cluster::connect()?.ioctx("rbd")?;
//! let group = pool.groups().create("database")?;
//! group.add(&pool, "data")?;
//! group.add(&pool, "log")?;
//! group.snapshots().create("before-upgrade").run()?;
//! # Ok::<(), rbd::Error>(())
//! ```

mod snapshots;

use std::fmt;
use std::sync::Arc;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::image::Image;
use crate::ioctx::IoCtx;
use crate::names::{c_string, new_name};
use crate::raw::ioctx::IoCtx as RawIoCtx;

pub use crate::image::info::ImageGroup;
pub use snapshots::{
    CreateGroupSnapshot, GroupSnapshot, GroupSnapshotImage, GroupSnapshotInfo, GroupSnapshots, RollbackGroup,
};

/// A group of images, by its name: see [`IoCtx::group`]. It keeps no image open. Its methods wait
/// for the cluster, for at most the call timeout.
#[derive(Clone)]
pub struct Group {
    ioctx: IoCtx,
    name: String,
}

/// An image in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The id of the image's pool.
    pub pool_id: i64,
    /// The image's name.
    pub name: String,
    /// Whether it is fully added: `false` if adding or removing it was interrupted.
    pub attached: bool,
}

/// The groups of a pool or namespace: see [`IoCtx::groups`].
#[derive(Debug, Clone, Copy)]
pub struct Groups<'a>(&'a IoCtx);

impl IoCtx {
    /// Returns a group of the pool and namespace, by its name. Does not check that the group
    /// exists.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { ioctx: self.clone(), name: name.into() }
    }

    /// Returns the group of calls that create, list, rename and remove image groups.
    pub fn groups(&self) -> Groups<'_> {
        Groups(self)
    }
}

impl Groups<'_> {
    /// Creates a group.
    ///
    /// Implements: `rbd_group_create`.
    #[doc(alias = "rbd_group_create")]
    pub fn create(&self, name: &str) -> Result<Group> {
        let group = self.0.group(name);
        let c_name = new_name("create", || group.object(), name)?;
        self.0.check_namespace("create a group in")?;
        self.0.bounded("create", || group.object(), move |raw| raw.group_create(&c_name))?;
        Ok(group)
    }

    /// Removes a group and its snapshots. Its images stay.
    ///
    /// Implements: `rbd_group_remove`.
    #[doc(alias = "rbd_group_remove")]
    pub fn remove(&self, name: &str) -> Result<()> {
        let object = || self.0.group(name).object();
        let c_name = c_string("remove", object, name)?;
        self.0.bounded("remove", object, move |raw| raw.group_remove(&c_name))
    }

    /// Renames a group.
    ///
    /// Implements: `rbd_group_rename`.
    #[doc(alias = "rbd_group_rename")]
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let object = || self.0.group(from).object();
        let (c_from, c_to) = (c_string("rename", object, from)?, new_name("rename", object, to)?);
        self.0.bounded("rename", object, move |raw| raw.group_rename(&c_from, &c_to)).map_err(|error| {
            if !error.is_already_exists() {
                return error;
            }
            error.with_detail(format!("a group '{}' already exists; choose another name", self.0.spec(to)))
        })
    }

    /// Lists the names of the groups in the pool and namespace, sorted.
    ///
    /// Implements: `rbd_group_list`.
    #[doc(alias = "rbd_group_list")]
    pub fn list(&self) -> Result<Vec<String>> {
        let mut groups =
            self.0.bounded("list the groups of", || self.0.pool_object(), move |raw| raw.groups())?;
        if groups.is_empty() {
            self.0.check_namespace("list the groups of")?;
        }
        groups.sort_unstable();
        Ok(groups)
    }
}

impl Group {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the pool and namespace that contain the group.
    pub fn ioctx(&self) -> &IoCtx {
        &self.ioctx
    }

    /// Returns the id, which a rename does not change.
    ///
    /// Implements: `rbd_group_get_id`. Needs Ceph 20.2.
    #[doc(alias = "rbd_group_get_id")]
    pub fn id(&self) -> Result<String> {
        let name = c_string("read the id of", || self.object(), &self.name)?;
        self.ioctx.bounded("read the id of", || self.object(), move |raw| raw.group_id(&name))
    }

    /// Adds an image of this or another pool, which must be in the group's namespace. An image can
    /// belong to only one group: fails with [`ErrorKind::AlreadyExists`] if it is in another.
    ///
    /// Implements: `rbd_group_image_add`.
    #[doc(alias = "rbd_group_image_add")]
    pub fn add(&self, pool: &IoCtx, image: &str) -> Result<()> {
        let operation = "add an image to";
        self.ioctx.check_same_cluster(operation, || self.object(), pool)?;
        let group = c_string(operation, || self.object(), &self.name)?;
        let c_image = c_string(operation, || pool.image_object(image), image)?;
        let of = Arc::clone(pool.raw());
        let add = move |raw: &RawIoCtx| raw.group_add(&group, &of, &c_image);
        let result =
            self.ioctx.bounded(format!("add image '{}' to", pool.spec(image)), || self.object(), add);
        result.map_err(|error| self.explain(pool, image, error))
    }

    /// Removes an image from the group. Also succeeds if the image is in no group. Fails with
    /// [`ErrorKind::InvalidInput`] if it is in another one.
    ///
    /// Implements: `rbd_group_image_remove`.
    #[doc(alias = "rbd_group_image_remove")]
    pub fn remove(&self, pool: &IoCtx, image: &str) -> Result<()> {
        self.take_out(pool, image, false)
    }

    /// Removes an image from the group by its id. Use this for an image in the trash, which has no
    /// name.
    ///
    /// Implements: `rbd_group_image_remove_by_id`.
    #[doc(alias = "rbd_group_image_remove_by_id")]
    pub fn remove_by_id(&self, pool: &IoCtx, image_id: &str) -> Result<()> {
        self.take_out(pool, image_id, true)
    }

    /// Lists the images in the group.
    ///
    /// Implements: `rbd_group_image_list`.
    #[doc(alias = "rbd_group_image_list")]
    pub fn list(&self) -> Result<Vec<GroupMember>> {
        let group = c_string("list the images of", || self.object(), &self.name)?;
        let list = move |raw: &RawIoCtx| raw.group_members(&group);
        let members = self.ioctx.bounded("list the images of", || self.object(), list)?;
        if members.is_empty() {
            self.check_exists("list the images of")?;
        }
        let member = |raw: crate::raw::group::RawMember| GroupMember {
            pool_id: raw.pool_id,
            name: raw.name,
            attached: raw.attached,
        };
        Ok(members.into_iter().map(member).collect())
    }

    fn take_out(&self, pool: &IoCtx, image: &str, by_id: bool) -> Result<()> {
        let operation = "remove an image from";
        self.ioctx.check_same_cluster(operation, || self.object(), pool)?;
        let group = c_string(operation, || self.object(), &self.name)?;
        let c_image = c_string(operation, || pool.image_object(image), image)?;
        self.refuse_other(operation, pool, image, by_id)?;
        let of = Arc::clone(pool.raw());
        let take_out = move |raw: &RawIoCtx| raw.group_drop(&group, &of, &c_image, by_id);
        let result = self.ioctx.bounded(
            format!("remove image '{}' from", pool.spec(image)),
            || self.object(),
            take_out,
        );
        result.map_err(|error| self.explain(pool, image, error))
    }

    /// Refuses an image of another group. librbd would first note the image in this group, and then
    /// fail with EBADF. With the note, this group could not be removed.
    fn refuse_other(&self, operation: &'static str, pool: &IoCtx, image: &str, by_id: bool) -> Result<()> {
        let open = if by_id { pool.open_by_id(image) } else { pool.open(image) };
        let (pool_id, name) = match open.read_only(true).run() {
            Ok(image) => image.call("look up the group of", |raw| raw.group())?,
            Err(error) if error.is_timed_out() => return Err(error),
            // librbd says below what is wrong.
            Err(_) => return Ok(()),
        };
        if name.is_empty() || (pool_id == self.ioctx.pool_id() && name == self.name) {
            return Ok(());
        }
        let other = self.ioctx.cluster().pools().name(pool_id).unwrap_or_else(|_| format!("id {pool_id}"));
        let why = format!(
            "image '{}' is in group '{other}/{name}' and not in this one; remove it from that group",
            pool.spec(image)
        );
        Err(Error::invalid(operation, self.object(), why))
    }

    /// Finds out whether ENOENT means the group or the image. Explains other refusals.
    fn explain(&self, pool: &IoCtx, image: &str, error: Error) -> Error {
        match error.errno() {
            Some(Errno::EEXIST) => {
                let why = "the image is in another group, and can be in only one; remove it from that group \
                           first (`Image::group` names it)";
                return error.with_detail(why);
            }
            Some(Errno::EINVAL) if pool.namespace() != self.ioctx.namespace() => {
                let why = "the image and the group are in different namespaces; use a group in the image's \
                           namespace";
                return error.with_detail(why);
            }
            _ => {}
        }
        let missing = *error.kind() == ErrorKind::NotFound { what: ObjectKind::Group };
        if !missing || self.check_exists("look up").is_err() {
            return error;
        }
        error.with_kind(ErrorKind::NotFound { what: ObjectKind::Image }).with_detail(format!(
            "the image '{}' does not exist; check its name, pool and namespace",
            pool.spec(image)
        ))
    }

    /// Checks that the group exists, because librbd returns an empty list for a missing group.
    fn check_exists(&self, operation: &'static str) -> Result<()> {
        let exists = self.ioctx.groups().list()?.contains(&self.name);
        if exists { Ok(()) } else { Err(Error::new(operation, self.object(), Errno::ENOENT)) }
    }

    fn object(&self) -> Object {
        Object::new(ObjectKind::Group, self.ioctx.spec(&self.name))
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.ioctx.spec(&self.name)).finish()
    }
}

impl Image {
    /// Returns the group that the image belongs to. Opens the image again for this, read-only.
    ///
    /// Implements: `rbd_get_group`.
    #[doc(alias = "rbd_get_group")]
    pub fn group(&self) -> Result<Option<ImageGroup>> {
        // librbd reads a handle's group without a lock, while a change of the header may replace
        // it. The header of this new handle is not refreshed.
        let (pool_id, name) = self.open_again()?.bounded("look up the group of", move |raw| raw.group())?;
        Ok((!name.is_empty()).then_some(ImageGroup { pool_id, name }))
    }
}
