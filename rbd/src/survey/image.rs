//! Queries of one image that the OSDs answer.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;

use super::calls::{
    HeadCalls, Next, PAIRS, Rare, Trouble, at, call, features, list_behind, lockers, metadata_behind, text,
};
use super::decode::{Decoder, ParentSpec, object_map};
use super::object_map::ObjectMap;
use super::parent::{Parents, first, header};
use super::permits::Permits;
use super::usage::{Layout, Walk};
use super::{Plan, Source, SurveyedImage, SurveyedSnapshot, empty};
use crate::errno::Errno;
use crate::features::{Features, Flags, OpFeatures};
use crate::image::info::ImageGroup;
use crate::image::snapshot::SnapshotKind;
use crate::ioctx::ImageEntry;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// The sizes of an object as powers of two that librbd can work with. It keeps them in 32 bits, and
/// divides by zero if a header has a larger one. It makes objects of 2^12 to 2^25 bytes only. With
/// smaller ones, an image of a usual size would have objects without number.
const ORDERS: RangeInclusive<u8> = 12..=31;

/// How many bytes of an answer may precede the states of an object map. Today it is 18.
const MAP_HEADER: usize = 64;

/// How many snapshots one operation asks for.
const SNAPSHOTS: usize = 32;

/// How often an image that changes meanwhile is queried.
const TRIES: usize = 5;

/// The answers of the OSDs about an image.
pub(super) enum Found {
    /// The image was removed.
    Gone,
    Image(Box<SurveyedImage>),
}

/// The limits that the images in flight share.
pub(super) struct Common {
    pub(super) parents: Parents,
    /// The calls about each image.
    pub(super) calls: RefCell<Rc<HeadCalls>>,
    /// Bytes of object maps.
    pub(super) maps: Rc<Permits>,
    /// Images that librbd has open.
    pub(super) open: Rc<Permits>,
}

/// A namespace whose images are queried.
pub(super) struct Space {
    pub(super) raw: Arc<RawIoCtx>,
    pub(super) cluster: Arc<crate::raw::cluster::Cluster>,
    pub(super) namespace: String,
}

/// How many images in the trash one answer contains, as in librbd.
const TRASHED: u64 = 1024;

/// The source of an image in the trash that its removal moved there.
const REMOVING: u8 = 3;

impl Space {
    /// Returns the ids of the images whose removal has begun. librbd lists them among the others.
    pub(super) async fn removing(&self) -> Result<HashSet<String>, Trouble> {
        let (mut removing, mut last) = (HashSet::new(), Vec::new());
        loop {
            let call = list_behind(c"trash_list", &last, TRASHED)?;
            let page = match self.raw.ask(c"rbd_trash", &[call]).await.and_then(first) {
                Ok(answer) => Decoder::new(&answer).trash()?,
                Err(Errno::ENOENT) => return Ok(removing),
                Err(errno) => return Err(errno.into()),
            };
            let full = page.entries.len() as u64 >= TRASHED;
            last = page.last;
            removing.extend(page.entries.into_iter().filter(|(_, who)| *who == REMOVING).map(|(id, _)| id));
            if !full {
                return Ok(removing);
            }
        }
    }

    /// Queries an image, again if its snapshots change meanwhile.
    pub(super) async fn look(
        &self,
        plan: Plan,
        entry: &ImageEntry,
        common: &Common,
    ) -> Result<Found, Trouble> {
        for _ in 0..TRIES {
            match self.look_once(plan, entry, common).await {
                Err(Trouble::Changed) => {}
                found => return found,
            }
        }
        Err(Trouble::AskLibrbd)
    }

    async fn look_once(&self, plan: Plan, entry: &ImageEntry, common: &Common) -> Result<Found, Trouble> {
        let parents = &common.parents;
        if entry.id.is_empty() {
            return Err(Trouble::AskLibrbd);
        }
        let object = header(&entry.id)?;
        let asked = Rc::clone(&common.calls.borrow());
        let answers = match self.raw.ask(&object, &asked.calls).await {
            Ok(answers) => answers,
            Err(Errno::ENOENT) => return self.without_header(entry).await,
            Err(errno) => return Err(errno.into()),
        };
        let mut answers = Next::new(answers);
        let mut image = empty(&self.namespace, entry);
        let size = answers.next()?;
        let mut size = Decoder::new(&size);
        let order = size.u8()?;
        image.size = size.u64()?;
        if !ORDERS.contains(&order) {
            return Err(Trouble::Errno(Errno::EBADMSG));
        }
        image.object_size = 1 << order;
        image.features = Features::from_bits_retain(Decoder::new(&answers.next()?).u64()?);
        image.flags = Flags::from_bits_retain(Decoder::new(&answers.next()?).u64()?);
        if image.features.contains(Features::MIGRATING) {
            return Err(self.migrating(&object).await);
        }
        let mut rare = Rare { operations: image.features.contains(Features::OPERATIONS), parent: false };
        if asked.rare.operations {
            image.op_features = OpFeatures::from_bits_retain(Decoder::new(&answers.next()?).u64()?);
        }
        let mut parent = None;
        if plan.parent {
            parent = Decoder::new(&answers.next()?).parent()?;
            rare.parent = parent.is_some();
            let overlap = if asked.rare.parent { answers.next()? } else { vec![0] };
            let overlap = Decoder::new(&overlap).optional_u64()?;
            image.parent = self.parent(parents, parent.as_ref(), overlap).await?;
        }
        if !asked.rare.includes(rare) {
            let all = rare.or(common.calls.borrow().rare);
            *common.calls.borrow_mut() = Rc::new(HeadCalls::new(plan, all));
            return Err(Trouble::Changed);
        }
        if plan.times {
            image.created = Some(Decoder::new(&answers.next()?).time()?);
            image.accessed = Some(Decoder::new(&answers.next()?).time()?);
            image.modified = Some(Decoder::new(&answers.next()?).time()?);
        }
        if plan.locks {
            image.locks = Some(lockers(Decoder::new(&answers.next()?).lock()?));
        }
        if plan.group {
            if let Some((pool_id, id)) = Decoder::new(&answers.next()?).group()? {
                let name = parents.group(&self.cluster, pool_id, &self.namespace, id).await?;
                image.group = name.map(|name| ImageGroup { pool_id, name });
            }
        }
        if plan.metadata {
            image.metadata = self.metadata(&object, &answers.next()?).await?;
        }
        let ids = if plan.snapshots || plan.usage { Some(answers.next()?) } else { None };
        let layout = if plan.layout() { layout(order, image.features, answers.next())? } else { None };
        let Some(ids) = ids else { return Ok(Found::Image(Box::new(image))) };
        let mut ids = Decoder::new(&ids).snapshot_ids()?;
        ids.sort_unstable();
        let flags = self.snapshots(&object, &ids, parent.as_ref(), parents, &mut image).await?;
        if plan.usage && image.features.contains(Features::FAST_DIFF) {
            let valid = !(flags | image.flags).contains(Flags::FAST_DIFF_INVALID);
            if let (Some(layout), true) = (layout, valid) {
                self.usage(layout, common, &mut image).await?;
                // A snapshot that was created before the current map was read has changed that map.
                if !ids.is_empty() && self.snapshot_ids(&object).await? != ids {
                    return Err(Trouble::Changed);
                }
            }
        }
        Ok(Found::Image(Box::new(image)))
    }

    /// Returns the ids of the snapshots, oldest first.
    async fn snapshot_ids(&self, object: &CStr) -> Result<Vec<u64>, Trouble> {
        let call = call(c"get_snapcontext", Vec::new());
        let answer = self.raw.ask(object, &[call]).await.and_then(first).map_err(changed)?;
        let mut ids = Decoder::new(&answer).snapshot_ids()?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Returns whether the image has a header. In doubt it has.
    pub(super) async fn exists(&self, entry: &ImageEntry) -> bool {
        let object = match entry.id.as_str() {
            "" => CString::new(format!("{}.rbd", entry.name)).map_err(|_| Trouble::AskLibrbd),
            id => header(id),
        };
        let Ok(object) = object else { return true };
        self.raw.ask(&object, &[features()]).await.err() != Some(Errno::ENOENT)
    }

    /// Says who answers for an image that is being migrated. If the state of the migration is
    /// missing, librbd must not be asked: it would look for the state without an end.
    async fn migrating(&self, object: &CStr) -> Trouble {
        let mut answers = match self.raw.ask(object, &[features(), call(c"migration_get", Vec::new())]).await
        {
            Ok(answers) => Next::new(answers),
            Err(Errno::ENOENT) => return Trouble::Changed,
            Err(errno) => return errno.into(),
        };
        let features = answers.next().and_then(|answer| Ok(Decoder::new(&answer).u64()?));
        match (features.map(Features::from_bits_retain), answers.next()) {
            (Ok(features), _) if !features.contains(Features::MIGRATING) => Trouble::Changed,
            (Ok(_), Err(Trouble::Errno(Errno::ENOENT))) => Trouble::Errno(Errno::EBADMSG),
            (Err(trouble), _) | (Ok(_), Err(trouble)) => trouble,
            (Ok(_), Ok(_)) => Trouble::AskLibrbd,
        }
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

    /// Reads the pairs of the first answer, and asks for more.
    async fn metadata(&self, object: &CStr, answer: &[u8]) -> Result<BTreeMap<String, String>, Trouble> {
        let mut metadata = BTreeMap::new();
        let mut page = Decoder::new(answer).metadata()?;
        loop {
            let full = page.entries.len() as u64 >= PAIRS;
            metadata.extend(page.entries);
            if !full {
                return Ok(metadata);
            }
            let more = self.raw.ask(object, &[metadata_behind(&page.last)?]).await.and_then(first);
            let more = more.map_err(changed)?;
            page = Decoder::new(&more).metadata()?;
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
            // Without a parent there is no overlap.
            let methods = if parent.is_some() { &methods[..] } else { &methods[..3] };
            let calls: Vec<_> =
                ids.iter().flat_map(|id| methods.iter().map(|method| at(method, *id))).collect();
            let mut answers = Next::new(self.raw.ask(object, &calls).await.map_err(changed)?);
            for id in ids {
                let snapshot = Decoder::new(&answers.next_or(changed)?).snapshot()?;
                let protection = Decoder::new(&answers.next_or(changed)?).u8()?;
                let own = Flags::from_bits_retain(Decoder::new(&answers.next_or(changed)?).u64()?);
                flags |= own;
                let overlap = if parent.is_some() { answers.next_or(changed)? } else { vec![0] };
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
                    flags: own,
                    parent: self.parent(parents, parent, overlap).await?,
                    used: None,
                });
            }
        }
        Ok(flags)
    }

    /// Fills in the used space. Leaves it empty if the maps cannot be trusted.
    async fn usage(&self, layout: Layout, common: &Common, image: &mut SurveyedImage) -> Result<(), Trouble> {
        let sizes = image.snapshots.iter().map(|snapshot| snapshot.size).chain([image.size]);
        let _room = common.maps.take(Walk::memory(layout, sizes.max().unwrap_or(0))).await;
        let mut walk = Walk::new(layout);
        let mut used = HashMap::new();
        for snapshot in &image.snapshots {
            let name = format!("rbd_object_map.{}.{:016x}", image.id, snapshot.id);
            let Some(map) = self.object_map(&name, layout.objects(snapshot.size)).await? else {
                return Err(Trouble::Changed);
            };
            if walk.step(map, snapshot.size).is_none() {
                return Ok(());
            }
            if snapshot.kind == SnapshotKind::User {
                used.insert(snapshot.id, walk.count(snapshot.size));
            }
        }
        let name = format!("rbd_object_map.{}", image.id);
        let Some(map) = self.object_map(&name, layout.objects(image.size)).await? else {
            return Ok(());
        };
        if walk.step(map, image.size).is_none() {
            return Ok(());
        }
        image.used = Some(walk.count(image.size));
        image.usage_source = Some(Source::Osds);
        for snapshot in &mut image.snapshots {
            snapshot.used = used.get(&snapshot.id).copied();
        }
        Ok(())
    }

    /// Reads the states of at most this many objects. A map that has more, because somebody damaged
    /// it, does not take the memory that other images wait for.
    async fn object_map(&self, name: &str, objects: u64) -> Result<Option<ObjectMap>, Trouble> {
        let wanted = usize::try_from(objects).unwrap_or(usize::MAX);
        let bytes = MAP_HEADER.saturating_add(wanted.div_ceil(4));
        let object = CString::new(name).map_err(|_| Trouble::AskLibrbd)?;
        let load = [call(c"object_map_load", Vec::new())];
        match self.raw.ask_for(&object, &load, bytes).await.and_then(first) {
            Ok(map) => Ok(Some(object_map(map, wanted)?)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The trouble if a part of an image is missing that was there before.
fn changed(errno: Errno) -> Trouble {
    if errno == Errno::ENOENT { Trouble::Changed } else { errno.into() }
}

/// Reads the layout of an image. An image that cannot have it is refused: librbd would divide by
/// zero, or end the process in another way.
fn layout(
    order: u8,
    features: Features,
    stripes: Result<Vec<u8>, Trouble>,
) -> Result<Option<Layout>, Trouble> {
    if !features.contains(Features::STRIPING) {
        // The call exists for striped images only.
        return Ok(Layout::new(order, 1 << order, 1));
    }
    let stripes = stripes?;
    let mut stripes = Decoder::new(&stripes);
    let layout = Layout::new(order, stripes.u64()?, stripes.u64()?);
    layout.map(Some).ok_or(Trouble::Errno(Errno::EBADMSG))
}
