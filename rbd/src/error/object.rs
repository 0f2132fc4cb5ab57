//! The object of an operation.

use std::borrow::Cow;
use std::fmt;

use super::keys::{option_name, without_keys};

/// The kind of object that an operation works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A cluster.
    Cluster,
    /// A monitor.
    Monitor,
    /// A manager daemon.
    Manager,
    /// An OSD.
    Osd,
    /// A placement group.
    PlacementGroup,
    /// A service that is registered with the cluster.
    Service,
    /// A pool.
    Pool,
    /// The pool that stores the data objects of an image.
    DataPool,
    /// A namespace of a pool.
    Namespace,
    /// An image.
    Image,
    /// A set of features.
    Features,
    /// A snapshot of an image.
    Snapshot,
    /// A group of images.
    Group,
    /// A snapshot of a group.
    GroupSnapshot,
    /// An image in the trash.
    TrashedImage,
    /// A lock of an image.
    Lock,
    /// A peer of a mirrored pool.
    MirrorPeer,
    /// A key of metadata.
    MetadataKey,
    /// A configuration option.
    ConfigOption,
    /// A user of the cluster.
    User,
    /// A client of the cluster, by its address.
    Client,
    /// A RADOS object.
    Object,
    /// The version of a kernel.
    KernelVersion,
    /// A block device of the kernel.
    Device,
    /// A file.
    File,
}

/// A kind of object and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: ObjectKind,
    pub(crate) name: String,
}

impl Object {
    /// A key that was passed as the name is hidden.
    pub(crate) fn new(kind: ObjectKind, name: impl Into<String>) -> Object {
        let name = name.into();
        let hidden = match kind {
            ObjectKind::ConfigOption => option_name(&name),
            _ => without_keys(&name),
        };
        let name = match hidden {
            Cow::Borrowed(same) if same.len() == name.len() => name,
            hidden => hidden.into_owned(),
        };
        Object { kind, name }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            write!(f, "the {}", self.kind)
        } else {
            write!(f, "{} '{}'", self.kind, self.name)
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Cluster => "cluster",
            ObjectKind::Monitor => "monitor",
            ObjectKind::Manager => "manager",
            ObjectKind::Osd => "OSD",
            ObjectKind::PlacementGroup => "placement group",
            ObjectKind::Service => "service",
            ObjectKind::Pool => "pool",
            ObjectKind::DataPool => "data pool",
            ObjectKind::Namespace => "namespace",
            ObjectKind::Image => "image",
            ObjectKind::Features => "features",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Group => "group",
            ObjectKind::GroupSnapshot => "group snapshot",
            ObjectKind::TrashedImage => "trashed image",
            ObjectKind::Lock => "lock",
            ObjectKind::MirrorPeer => "mirror peer",
            ObjectKind::MetadataKey => "metadata key",
            ObjectKind::ConfigOption => "configuration option",
            ObjectKind::User => "user",
            ObjectKind::Client => "client",
            ObjectKind::Object => "object",
            ObjectKind::KernelVersion => "kernel version",
            ObjectKind::Device => "device",
            ObjectKind::File => "file",
        })
    }
}
