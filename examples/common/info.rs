//! The output of `rbd info`.

use std::fmt;

use rbd::mirror::{ImageMode, ImageState};
use rbd::{Features, Image, IoCtx, Result, group::ImageGroup};
use serde::Serialize;

use super::{ctime, iec};

/// The fields of `rbd info`, in the same order and with the same names.
#[derive(Debug, Serialize)]
pub struct Info {
    name: String,
    id: String,
    size: u64,
    objects: u64,
    order: u8,
    object_size: u64,
    snapshot_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_pool: Option<String>,
    block_name_prefix: String,
    format: u8,
    features: Vec<&'static str>,
    op_features: Vec<String>,
    flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    create_timestamp: String,
    access_timestamp: String,
    modify_timestamp: String,
    /// A string, as everywhere in the `rbd` command.
    #[serde(skip_serializing_if = "Option::is_none")]
    protected: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    striping: Option<Striping>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirroring: Option<Mirroring>,
}

#[derive(Debug, Serialize)]
struct Parent {
    pool: String,
    pool_namespace: String,
    image: String,
    id: String,
    snapshot: String,
    trash: bool,
    overlap: u64,
}

#[derive(Debug, Serialize)]
struct Striping {
    stripe_unit: u64,
    stripe_count: u64,
}

#[derive(Debug, Serialize)]
struct Mirroring {
    mode: &'static str,
    state: &'static str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    mirrored: Option<Mirrored>,
}

#[derive(Debug, Serialize)]
struct Mirrored {
    global_id: String,
    primary: bool,
}

impl Info {
    /// Returns the values of an open image, or of the snapshot at which it is open.
    pub fn of(image: &Image) -> Result<Info> {
        let stat = image.stat()?;
        let features = image.features()?;
        let id = image.id()?;
        let protected = match image.snapshot() {
            Some(snapshot) => Some(image.snapshots().is_protected(snapshot)?),
            None => None,
        };
        let mut striping = None;
        if features.contains(Features::STRIPING) {
            striping =
                Some(Striping { stripe_unit: image.stripe_unit()?, stripe_count: image.stripe_count()? });
        }
        let mut data_pool = None;
        if features.contains(Features::DATA_POOL) {
            data_pool = Some(image.ioctx().cluster().pools().name(image.data_pool_id()?)?);
        }
        let journaling = features.contains(Features::JOURNALING);
        Ok(Info {
            name: image.name()?,
            size: stat.size,
            objects: stat.objects,
            order: stat.order,
            object_size: stat.object_size,
            snapshot_count: image.snapshots().list()?.len(),
            data_pool,
            block_name_prefix: stat.block_name_prefix,
            format: if image.is_old_format()? { 1 } else { 2 },
            features: features.names().collect(),
            op_features: words(image.op_features()?),
            flags: words(image.flags()?),
            group: image.group()?.map(|group| group_spec(image.ioctx(), &group)).transpose()?,
            create_timestamp: ctime(image.created()?),
            access_timestamp: ctime(image.accessed()?),
            modify_timestamp: ctime(image.modified()?),
            protected: protected.map(|protected| if protected { "true" } else { "false" }),
            parent: image.parent()?.map(Parent::from),
            striping,
            journal: journaling.then(|| id.clone()),
            mirroring: Mirroring::of(image, journaling)?,
            id,
        })
    }
}

impl From<rbd::image::Parent> for Parent {
    fn from(parent: rbd::image::Parent) -> Parent {
        Parent {
            pool: parent.image.pool,
            pool_namespace: parent.image.namespace,
            image: parent.image.name,
            id: parent.image.id,
            snapshot: parent.snapshot,
            trash: parent.image.in_trash,
            overlap: parent.overlap,
        }
    }
}

impl Mirroring {
    /// Returns the values of an image that is mirrored, or has a journal for it.
    fn of(image: &Image, journaling: bool) -> Result<Option<Mirroring>> {
        let info = image.mirroring().info()?;
        let mirrored = info.state != ImageState::Disabled;
        if !mirrored && !journaling {
            return Ok(None);
        }
        let mode = match image.mirroring().mode()? {
            // Not mirrored, but the image has a journal, which mirroring could use.
            None | Some(ImageMode::Journal) => "journal",
            Some(ImageMode::Snapshot) => "snapshot",
            Some(_) => "unknown",
        };
        let state = match info.state {
            ImageState::Disabling => "disabling",
            ImageState::Enabled => "enabled",
            ImageState::Disabled => "disabled",
            _ => "unknown",
        };
        let mirrored = mirrored.then_some(Mirrored { global_id: info.global_id, primary: info.primary });
        Ok(Some(Mirroring { mode, state, mirrored }))
    }
}

/// Returns `pool/group`.
pub fn group_spec(ioctx: &IoCtx, group: &ImageGroup) -> Result<String> {
    Ok(format!("{}/{}", ioctx.cluster().pools().name(group.pool_id)?, group.name))
}

/// Returns the names in `a, b`.
fn words(flags: impl fmt::Display) -> Vec<String> {
    let flags = flags.to_string();
    flags.split(", ").filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rbd image '{}':", self.name)?;
        writeln!(f, "\tsize {} in {} objects", iec(self.size), self.objects)?;
        writeln!(f, "\torder {} ({} objects)", self.order, iec(self.object_size))?;
        writeln!(f, "\tsnapshot_count: {}", self.snapshot_count)?;
        writeln!(f, "\tid: {}", self.id)?;
        if let Some(pool) = &self.data_pool {
            writeln!(f, "\tdata_pool: {pool}")?;
        }
        writeln!(f, "\tblock_name_prefix: {}", self.block_name_prefix)?;
        writeln!(f, "\tformat: {}", self.format)?;
        writeln!(f, "\tfeatures: {}", self.features.join(", "))?;
        writeln!(f, "\top_features: {}", self.op_features.join(", "))?;
        writeln!(f, "\tflags: {}", self.flags.join(", "))?;
        if let Some(group) = &self.group {
            writeln!(f, "\tgroup: {group}")?;
        }
        writeln!(f, "\tcreate_timestamp: {}", self.create_timestamp)?;
        writeln!(f, "\taccess_timestamp: {}", self.access_timestamp)?;
        writeln!(f, "\tmodify_timestamp: {}", self.modify_timestamp)?;
        if let Some(protected) = self.protected {
            writeln!(f, "\tprotected: {}", if protected == "true" { "True" } else { "False" })?;
        }
        if let Some(parent) = &self.parent {
            let Parent { pool, pool_namespace, image, id, snapshot, trash, overlap } = parent;
            let namespace = if pool_namespace.is_empty() { "" } else { &format!("{pool_namespace}/") };
            let trash = if *trash { &format!(" (trash {id})") } else { "" };
            writeln!(f, "\tparent: {pool}/{namespace}{image}@{snapshot}{trash}")?;
            writeln!(f, "\toverlap: {}", iec(*overlap))?;
        }
        if let Some(Striping { stripe_unit, stripe_count }) = &self.striping {
            writeln!(f, "\tstripe unit: {}\n\tstripe count: {stripe_count}", iec(*stripe_unit))?;
        }
        if let Some(journal) = &self.journal {
            writeln!(f, "\tjournal: {journal}")?;
        }
        if let Some(Mirroring { mode, state, mirrored }) = &self.mirroring {
            writeln!(f, "\tmirroring state: {state}")?;
            if let Some(Mirrored { global_id, primary }) = mirrored {
                writeln!(f, "\tmirroring mode: {mode}\n\tmirroring global id: {global_id}")?;
                writeln!(f, "\tmirroring primary: {primary}")?;
            }
        }
        Ok(())
    }
}
