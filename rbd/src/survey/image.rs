//! Queries of one image that the OSDs answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::rc::Rc;
use std::sync::Arc;

use super::calls::{Next, PAIRS, Trouble, at, call, head_calls, list_behind, lockers, metadata_behind, text};
use super::decode::{Decoder, ParentSpec, object_map};
use super::object_map::ObjectMap;
use super::parent::{Parents, first, header};
use super::permits::Permits;
use super::usage::{Layout, Walk};
use super::{Plan, Source, SurveyedImage, SurveyedSnapshot};
use crate::errno::Errno;
use crate::features::{Features, Flags, OpFeatures};
use crate::image::info::ImageGroup;
use crate::image::snapshot::SnapshotKind;
use crate::ioctx::ImageEntry;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// The size of an object as a power of two, beyond which librbd ends the process: it keeps the size
/// in 32 bits. No librbd makes objects larger than 2^25 bytes.
const LARGEST_ORDER: u8 = 31;

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
        let answers = match self.raw.ask(&object, &head_calls(plan)?).await {
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
        if order > LARGEST_ORDER {
            // librbd would divide by zero.
            return Err(Trouble::Errno(Errno::EBADMSG));
        }
        image.object_size = 1 << order;
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
        if plan.group {
            if let Some((pool_id, id)) = Decoder::new(&answers.next()?).group()? {
                let name = parents.group(&self.cluster, pool_id, &self.namespace, id).await?;
                image.group = name.map(|name| ImageGroup { pool_id, name });
            }
        }
        if plan.metadata {
            image.metadata = self.metadata(&object, &answers.next()?).await?;
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
                self.usage(layout, common, &mut image).await?;
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
            let more = more.map_err(|errno| match errno {
                Errno::ENOENT => Trouble::Changed,
                errno => errno.into(),
            })?;
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
            let calls: Vec<_> =
                ids.iter().flat_map(|id| methods.into_iter().map(|method| at(method, *id))).collect();
            let gone = |errno: Errno| if errno == Errno::ENOENT { Trouble::Changed } else { errno.into() };
            let mut answers = Next::new(self.raw.ask(object, &calls).await.map_err(gone)?);
            for id in ids {
                let snapshot = Decoder::new(&answers.next_or(gone)?).snapshot()?;
                let protection = Decoder::new(&answers.next_or(gone)?).u8()?;
                let own = Flags::from_bits_retain(Decoder::new(&answers.next_or(gone)?).u64()?);
                flags |= own;
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
        image.usage_source = Some(Source::Osds);
        for snapshot in &mut image.snapshots {
            snapshot.used = used.get(&snapshot.id).copied();
        }
        Ok(())
    }

    async fn object_map(&self, name: &str) -> Result<Option<ObjectMap>, Trouble> {
        let object = CString::new(name).map_err(|_| Trouble::AskLibrbd)?;
        match self.raw.ask(&object, &[call(c"object_map_load", Vec::new())]).await.and_then(first) {
            Ok(map) => Ok(Some(object_map(map)?)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Returns an image without any answers.
pub(super) fn empty(namespace: &str, entry: &ImageEntry) -> SurveyedImage {
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
