//! Queries of one image that the OSDs answer.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::Arc;
use std::vec;

use super::decode::{Decoder, LockInfo, Malformed, ParentSpec};
use super::parent::{Parents, first, header};
use super::usage::{Layout, Walk};
use super::{Plan, SurveyedImage, SurveyedSnapshot, Way};
use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::features::{Features, Flags, OpFeatures};
use crate::image::advisory::{Locker, Lockers};
use crate::image::snapshot::SnapshotKind;
use crate::ioctx::ImageEntry;
use crate::raw::RawResult;
use crate::raw::ioctx::IoCtx as RawIoCtx;
use crate::raw::rados::class_calls::ClassCall;

/// The id of the current version of the image.
const HEAD: u64 = u64::MAX - 1;

/// How many snapshots one operation asks for.
const SNAPSHOTS: usize = 32;

/// How often an image that changes meanwhile is queried.
const TRIES: usize = 5;

/// Why the answers of the OSDs are incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Errno(Errno),
    /// Only librbd can answer.
    AskLibrbd,
    /// A snapshot was removed during the query.
    Changed,
}

/// The answers of the OSDs about an image.
pub(super) enum Found {
    /// The image was removed.
    Gone,
    Image(Box<SurveyedImage>),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        match errno {
            Errno::EOPNOTSUPP | Errno::EBADMSG => Trouble::AskLibrbd,
            errno => Trouble::Errno(errno),
        }
    }
}

impl From<Malformed> for Trouble {
    fn from(_: Malformed) -> Trouble {
        Trouble::AskLibrbd
    }
}

/// Makes a call of the object class `rbd`.
pub(super) fn call(method: &'static CStr, input: Vec<u8>) -> ClassCall {
    ClassCall { class: c"rbd", method, input }
}

/// Encodes a text for a call.
pub(super) fn text(text: &str) -> Result<Vec<u8>, Trouble> {
    let len = u32::try_from(text.len()).map_err(|_| Trouble::AskLibrbd)?;
    Ok([&len.to_le_bytes()[..], text.as_bytes()].concat())
}

/// Makes a call about a snapshot or the current version.
fn at(method: &'static CStr, snapshot: u64) -> ClassCall {
    call(method, snapshot.to_le_bytes().to_vec())
}

/// A namespace whose images are queried.
pub(super) struct Space {
    pub(super) raw: Arc<RawIoCtx>,
    pub(super) cluster: Arc<crate::raw::cluster::Cluster>,
    pub(super) namespace: String,
}

impl Space {
    /// Queries an image, again if its snapshots change meanwhile.
    pub(super) async fn look(
        &self,
        plan: Plan,
        entry: &ImageEntry,
        parents: &Parents,
    ) -> Result<Found, Trouble> {
        for _ in 0..TRIES {
            match self.look_once(plan, entry, parents).await {
                Err(Trouble::Changed) => {}
                found => return found,
            }
        }
        Err(Trouble::AskLibrbd)
    }

    async fn look_once(&self, plan: Plan, entry: &ImageEntry, parents: &Parents) -> Result<Found, Trouble> {
        if entry.id.is_empty() {
            return Err(Trouble::AskLibrbd);
        }
        let object = header(&entry.id)?;
        let answers = match self.raw.ask(&object, &head_calls(plan)).await {
            Ok(answers) => answers,
            Err(Errno::ENOENT) => return self.without_header(entry).await,
            Err(errno) => return Err(errno.into()),
        };
        let mut answers = Next(answers.into_iter());
        let mut image = empty(&self.namespace, entry);
        let size = answers.next()?;
        let mut size = Decoder::new(&size);
        let order = size.u8()?;
        image.size = size.u64()?;
        image.object_size = 1_u64.checked_shl(order.into()).ok_or(Trouble::AskLibrbd)?;
        image.features = Features::from_bits_retain(Decoder::new(&answers.next()?).u64()?);
        image.flags = Flags::from_bits_retain(Decoder::new(&answers.next()?).u64()?);
        image.op_features = OpFeatures::from_bits_retain(Decoder::new(&answers.next()?).u64()?);
        if image.features.contains(Features::MIGRATING) {
            return Err(Trouble::AskLibrbd);
        }
        let mut parent = None;
        if plan.parent {
            parent = Decoder::new(&answers.next()?).parent()?;
            let overlap = Decoder::new(&answers.next()?).optional_u64()?;
            image.parent = self.parent(parents, parent.as_ref(), overlap).await?;
        }
        if plan.times {
            image.created = Some(Decoder::new(&answers.next()?).time()?);
            image.accessed = Some(Decoder::new(&answers.next()?).time()?);
            image.modified = Some(Decoder::new(&answers.next()?).time()?);
        }
        if plan.locks {
            image.locks = Some(lockers(Decoder::new(&answers.next()?).lock()?));
        }
        if !plan.snapshots && !plan.usage {
            return Ok(Found::Image(Box::new(image)));
        }
        let mut ids = Decoder::new(&answers.next()?).snapshot_ids()?;
        ids.sort_unstable();
        let flags = self.snapshots(&object, &ids, parent.as_ref(), parents, &mut image).await?;
        if plan.usage && image.features.contains(Features::FAST_DIFF) {
            let layout = match answers.next() {
                Ok(stripes) if image.features.contains(Features::STRIPING) => {
                    let mut stripes = Decoder::new(&stripes);
                    Layout::new(order, stripes.u64()?, stripes.u64()?)
                }
                // The call exists for striped images only.
                Err(_) if image.features.contains(Features::STRIPING) => None,
                _ => Layout::new(order, image.object_size, 1),
            };
            let valid = !(flags | image.flags).contains(Flags::FAST_DIFF_INVALID);
            if let (Some(layout), true) = (layout, valid) {
                self.usage(layout, &mut image).await?;
            }
        }
        Ok(Found::Image(Box::new(image)))
    }

    /// Handles a listed image without a header: it was removed just now, or its removal was
    /// interrupted.
    async fn without_header(&self, entry: &ImageEntry) -> Result<Found, Trouble> {
        let name = call(c"dir_get_name", text(&entry.id)?);
        match self.raw.ask(c"rbd_directory", &[name]).await.and_then(first) {
            Ok(_) => {}
            Err(Errno::ENOENT) => {
                let trashed = call(c"trash_get", text(&entry.id)?);
                match self.raw.ask(c"rbd_trash", &[trashed]).await.and_then(first) {
                    Ok(_) => {}
                    Err(Errno::ENOENT) => return Ok(Found::Gone),
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        Ok(Found::Image(Box::new(SurveyedImage { half_removed: true, ..empty(&self.namespace, entry) })))
    }

    async fn parent(
        &self,
        parents: &Parents,
        spec: Option<&ParentSpec>,
        overlap: Option<u64>,
    ) -> Result<Option<crate::image::Parent>, Trouble> {
        match (spec, overlap) {
            (Some(spec), Some(overlap)) if overlap > 0 => {
                parents.name(&self.cluster, spec.clone(), overlap).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Fills in the snapshots. Returns the union of their flags.
    async fn snapshots(
        &self,
        object: &CStr,
        ids: &[u64],
        parent: Option<&ParentSpec>,
        parents: &Parents,
        image: &mut SurveyedImage,
    ) -> Result<Flags, Trouble> {
        let mut flags = Flags::empty();
        for ids in ids.chunks(SNAPSHOTS) {
            let methods = [c"snapshot_get", c"get_protection_status", c"get_flags", c"parent_overlap_get"];
            let calls: Vec<_> =
                ids.iter().flat_map(|id| methods.into_iter().map(|method| at(method, *id))).collect();
            let gone = |errno: Errno| if errno == Errno::ENOENT { Trouble::Changed } else { errno.into() };
            let mut answers = Next(self.raw.ask(object, &calls).await.map_err(gone)?.into_iter());
            for id in ids {
                let snapshot = Decoder::new(&answers.next_or(gone)?).snapshot()?;
                let protection = Decoder::new(&answers.next_or(gone)?).u8()?;
                flags |= Flags::from_bits_retain(Decoder::new(&answers.next_or(gone)?).u64()?);
                let overlap = answers.next_or(gone)?;
                let overlap = Decoder::new(&overlap).optional_u64()?;
                let kind = SnapshotKind::from_raw(snapshot.kind);
                image.snapshots.push(SurveyedSnapshot {
                    id: *id,
                    name: snapshot.name,
                    size: snapshot.size,
                    created: snapshot.created,
                    // 0 means unprotected, 1 that the protection is being removed.
                    protected: kind == SnapshotKind::User && protection != 0,
                    kind,
                    parent: self.parent(parents, parent, overlap).await?,
                    used: None,
                });
            }
        }
        Ok(flags)
    }

    /// Fills in the used space. Leaves it empty if the maps cannot be trusted.
    async fn usage(&self, layout: Layout, image: &mut SurveyedImage) -> Result<(), Trouble> {
        let mut walk = Walk::new(layout);
        let mut used = HashMap::new();
        for snapshot in &image.snapshots {
            let name = format!("rbd_object_map.{}.{:016x}", image.id, snapshot.id);
            let Some(map) = self.object_map(&name).await? else { return Err(Trouble::Changed) };
            if walk.step(map, snapshot.size).is_none() {
                return Ok(());
            }
            if snapshot.kind == SnapshotKind::User {
                used.insert(snapshot.id, walk.count(snapshot.size));
            }
        }
        let Some(map) = self.object_map(&format!("rbd_object_map.{}", image.id)).await? else {
            return Ok(());
        };
        if walk.step(map, image.size).is_none() {
            return Ok(());
        }
        image.used = Some(walk.count(image.size));
        image.usage_way = Some(Way::Osds);
        for snapshot in &mut image.snapshots {
            snapshot.used = used.get(&snapshot.id).copied();
        }
        Ok(())
    }

    async fn object_map(&self, name: &str) -> Result<Option<Vec<u8>>, Trouble> {
        let object = CString::new(name).map_err(|_| Trouble::AskLibrbd)?;
        match self.raw.ask(&object, &[call(c"object_map_load", Vec::new())]).await.and_then(first) {
            Ok(map) => Ok(Some(Decoder::new(&map).object_map()?)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Returns the calls about the current version, in the order in which their answers are read.
fn head_calls(plan: Plan) -> Vec<ClassCall> {
    let mut features = HEAD.to_le_bytes().to_vec();
    // The query is for reading only, so locks of other clients do not matter.
    features.push(1);
    let mut calls = vec![
        at(c"get_size", HEAD),
        call(c"get_features", features),
        at(c"get_flags", HEAD),
        call(c"op_features_get", Vec::new()),
    ];
    if plan.parent {
        calls.extend([call(c"parent_get", Vec::new()), at(c"parent_overlap_get", HEAD)]);
    }
    if plan.times {
        let times = [c"get_create_timestamp", c"get_access_timestamp", c"get_modify_timestamp"];
        calls.extend(times.map(|method| call(method, Vec::new())));
    }
    if plan.locks {
        // A struct of version 1 that contains the name of the lock.
        let name = b"\x01\x01\x0c\0\0\0\x08\0\0\0rbd_lock".to_vec();
        calls.push(ClassCall { class: c"lock", method: c"get_info", input: name });
    }
    if plan.snapshots || plan.usage {
        calls.push(call(c"get_snapcontext", Vec::new()));
    }
    if plan.usage {
        calls.push(call(c"get_stripe_unit_count", Vec::new()));
    }
    calls
}

fn lockers(lock: LockInfo) -> Lockers {
    let lockers = lock.lockers.into_iter().map(|locker| Locker {
        client: locker.client,
        cookie: locker.cookie,
        address: ClientAddress::from_ceph(locker.address),
    });
    Lockers { exclusive: matches!(lock.kind, 1 | 3), tag: lock.tag, lockers: lockers.collect() }
}

/// Returns an image without any answers.
pub(super) fn empty(namespace: &str, entry: &ImageEntry) -> SurveyedImage {
    SurveyedImage {
        namespace: namespace.to_owned(),
        name: entry.name.clone(),
        id: entry.id.clone(),
        way: Way::Osds,
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
        used: None,
        usage_way: None,
    }
}

/// The answers, in order.
struct Next(vec::IntoIter<RawResult<Vec<u8>>>);

impl Next {
    fn next(&mut self) -> Result<Vec<u8>, Trouble> {
        self.next_or(Trouble::from)
    }

    fn next_or(&mut self, trouble: impl Fn(Errno) -> Trouble) -> Result<Vec<u8>, Trouble> {
        self.0.next().unwrap_or(Err(Errno::EIO)).map_err(trouble)
    }
}
