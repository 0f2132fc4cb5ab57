//! The names of parents and groups. Each is queried once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::rc::Rc;
use std::sync::Arc;

use super::calls::{Trouble, call, text};
use super::decode::{Decoder, ParentSpec};
use crate::errno::Errno;
use crate::image::snapshot::SnapshotKind;
use crate::image::{LinkedImage, Parent};
use crate::raw;

/// A snapshot: its pool, namespace, image and id.
type Snapshot = (i64, String, String, u64);

/// A group: its pool, namespace and id.
type Group = (i64, String, String);

/// The known parents and groups. Names of images, snapshots and groups can change meanwhile; a
/// survey shows those at the time of its query.
#[derive(Default)]
pub(super) struct Parents {
    pools: RefCell<HashMap<(i64, String), Rc<Place>>>,
    named: RefCell<HashMap<Snapshot, Rc<Named>>>,
    groups: RefCell<HashMap<Group, Option<String>>>,
}

struct Place {
    ioctx: Option<Arc<raw::ioctx::IoCtx>>,
    pool: String,
}

#[derive(Default)]
struct Named {
    image: String,
    in_trash: bool,
    snapshot: String,
    kind: u32,
}

impl Parents {
    pub(super) async fn name(
        &self,
        cluster: &Arc<raw::cluster::Cluster>,
        spec: ParentSpec,
        overlap: u64,
    ) -> Result<Parent, Trouble> {
        let place = self.place(cluster, spec.pool_id, &spec.namespace)?;
        let key = (spec.pool_id, spec.namespace.clone(), spec.image_id.clone(), spec.snapshot_id);
        let known = self.named.borrow().get(&key).map(Rc::clone);
        let named = match (known, &place.ioctx) {
            (Some(named), _) => named,
            (None, Some(ioctx)) => {
                let named = Rc::new(ask(ioctx, &spec).await?);
                self.named.borrow_mut().insert(key, Rc::clone(&named));
                named
            }
            (None, None) => Rc::default(),
        };
        Ok(Parent {
            image: LinkedImage {
                pool_id: spec.pool_id,
                pool: place.pool.clone(),
                namespace: spec.namespace,
                name: named.image.clone(),
                id: spec.image_id,
                in_trash: named.in_trash,
            },
            snapshot_id: spec.snapshot_id,
            snapshot: named.snapshot.clone(),
            snapshot_kind: SnapshotKind::from_raw(named.kind),
            overlap,
        })
    }

    /// Returns the name of a group, or `None` if the group was removed.
    pub(super) async fn group(
        &self,
        cluster: &Arc<raw::cluster::Cluster>,
        pool_id: i64,
        namespace: &str,
        id: String,
    ) -> Result<Option<String>, Trouble> {
        let key = (pool_id, namespace.to_owned(), id);
        if let Some(known) = self.groups.borrow().get(&key) {
            return Ok(known.clone());
        }
        let Some(ioctx) = &self.place(cluster, pool_id, namespace)?.ioctx else { return Ok(None) };
        let name = call(c"dir_get_name", text(&key.2)?);
        let name = match ioctx.ask(c"rbd_group_directory", &[name]).await.and_then(first) {
            Ok(answer) => Some(Decoder::new(&answer).text()?),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        self.groups.borrow_mut().insert(key, name.clone());
        Ok(name)
    }

    fn place(
        &self,
        cluster: &Arc<raw::cluster::Cluster>,
        pool_id: i64,
        namespace: &str,
    ) -> Result<Rc<Place>, Trouble> {
        let key = (pool_id, namespace.to_owned());
        if let Some(place) = self.pools.borrow().get(&key) {
            return Ok(Rc::clone(place));
        }
        let namespace = CString::new(namespace).map_err(|_| Trouble::AskLibrbd)?;
        let opened = raw::ioctx::IoCtx::open(Arc::clone(cluster), pool_id, &namespace);
        let place = match opened.and_then(|ioctx| Ok((ioctx.pool_name()?, ioctx))) {
            Ok((pool, ioctx)) => Place { ioctx: Some(Arc::new(ioctx)), pool },
            Err(Errno::ENOENT) => Place { ioctx: None, pool: String::new() },
            Err(errno) => return Err(Trouble::Errno(errno)),
        };
        let place = Rc::new(place);
        self.pools.borrow_mut().insert(key, Rc::clone(&place));
        Ok(place)
    }
}

async fn ask(ioctx: &Arc<raw::ioctx::IoCtx>, spec: &ParentSpec) -> Result<Named, Trouble> {
    let id = text(&spec.image_id)?;
    let mut named = Named::default();
    match ioctx.ask(c"rbd_directory", &[call(c"dir_get_name", id.clone())]).await.and_then(first) {
        Ok(answer) => named.image = Decoder::new(&answer).text()?,
        Err(Errno::ENOENT) => {
            match ioctx.ask(c"rbd_trash", &[call(c"trash_get", id)]).await.and_then(first) {
                Ok(answer) => (named.image, named.in_trash) = (Decoder::new(&answer).trashed()?.1, true),
                Err(Errno::ENOENT) => return Ok(named),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    let header = header(&spec.image_id)?;
    let snapshot = call(c"snapshot_get", spec.snapshot_id.to_le_bytes().to_vec());
    match ioctx.ask(&header, &[snapshot]).await.and_then(first) {
        Ok(answer) => {
            let snapshot = Decoder::new(&answer).snapshot()?;
            (named.snapshot, named.kind) = (snapshot.name, snapshot.kind);
            Ok(named)
        }
        Err(Errno::ENOENT) => Ok(named),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the name of an image's header object.
pub(super) fn header(id: &str) -> Result<CString, Trouble> {
    CString::new(format!("rbd_header.{id}")).map_err(|_| Trouble::AskLibrbd)
}

/// Returns the answer of a single call.
pub(super) fn first(answers: raw::rados::class_calls::Answers) -> raw::RawResult<Vec<u8>> {
    answers.into_iter().next().unwrap_or(Err(Errno::EIO))
}
