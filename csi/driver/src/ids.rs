//! The ids of volumes and snapshots, as Kubernetes stores them.
//!
//! A volume is `1:CLUSTER:POOL:NAMESPACE:IMAGE`, with the ids of pool and image: a renamed pool or
//! image stays the same volume, and a new image with an old name is another one. A snapshot is
//! `VOLUME@SNAPSHOT`, with the id of the snapshot. A group snapshot is
//! `1:CLUSTER:POOL:NAMESPACE:group:NAME`.

use std::fmt;
use std::str::FromStr;

/// Where an image or group lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The name of the cluster in the file of clusters.
    pub cluster: String,
    /// The id of the pool.
    pub pool: i64,
    /// The namespace in the pool; empty for the default one.
    pub namespace: String,
}

/// The id of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VolumeId {
    /// Where the image lies.
    pub place: Place,
    /// The id of the image.
    pub image: String,
}

/// The id of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId {
    /// The volume.
    pub volume: VolumeId,
    /// The id of the snapshot of the image.
    pub snapshot: u64,
}

/// The id of a group snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupSnapshotId {
    /// Where the group lies.
    pub place: Place,
    /// The name of the group; its snapshot has the same one.
    pub name: String,
}

/// An id that this driver has not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this driver has not made this id")]
pub struct UnknownId;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1:{}:{}:{}", self.cluster, self.pool, self.namespace)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place, self.image)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.volume, self.snapshot)
    }
}

impl fmt::Display for GroupSnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:group:{}", self.place, self.name)
    }
}

/// Splits an id into its location and the rest.
fn split(text: &str) -> Option<(Place, &str)> {
    let mut parts = text.splitn(5, ':');
    if parts.next()? != "1" {
        return None;
    }
    let cluster = parts.next().filter(|cluster| !cluster.is_empty())?.to_owned();
    let pool = parts.next()?.parse().ok().filter(|pool| *pool >= 0)?;
    let namespace = parts.next()?.to_owned();
    Some((Place { cluster, pool, namespace }, parts.next()?))
}

impl FromStr for VolumeId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<VolumeId, UnknownId> {
        let (place, image) = split(text).ok_or(UnknownId)?;
        // The id of an image has these characters only.
        if image.is_empty() || !image.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(UnknownId);
        }
        Ok(VolumeId { place, image: image.to_owned() })
    }
}

impl FromStr for SnapshotId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<SnapshotId, UnknownId> {
        let (volume, snapshot) = text.rsplit_once('@').ok_or(UnknownId)?;
        Ok(SnapshotId { volume: volume.parse()?, snapshot: snapshot.parse().map_err(|_| UnknownId)? })
    }
}

impl FromStr for GroupSnapshotId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<GroupSnapshotId, UnknownId> {
        let (place, rest) = split(text).ok_or(UnknownId)?;
        let name = rest.strip_prefix("group:").filter(|name| !name.is_empty()).ok_or(UnknownId)?;
        Ok(GroupSnapshotId { place, name: name.to_owned() })
    }
}

/// Returns the name of the image, snapshot or group for a request of this name: the prefix and the
/// name, or a digest of the name if it is long or has characters that an image's name must not
/// have.
pub fn object_name(prefix: &str, name: &str) -> String {
    use sha2::{Digest, Sha256};
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    // A name that begins with a point is digested, too, so that no name looks like a digest.
    if name.len() <= 64 && name.bytes().all(plain) && !name.starts_with('.') {
        return format!("{prefix}{name}");
    }
    let digest = Sha256::digest(name.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    let hex = u128::from_be_bytes(half);
    format!("{prefix}.{hex:032x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_were_written() {
        for text in ["1:rook-ceph:2::10216b8b4567", "1:a:0:team:10216b8b4567"] {
            assert_eq!(text.parse::<VolumeId>().unwrap().to_string(), text);
            let snapshot = format!("{text}@17");
            assert_eq!(snapshot.parse::<SnapshotId>().unwrap().to_string(), snapshot);
            assert_eq!(snapshot.parse::<VolumeId>(), Err(UnknownId));
        }
        let group = "1:a:0::group:csi-group-x";
        assert_eq!(group.parse::<GroupSnapshotId>().unwrap().to_string(), group);
        assert_eq!(group.parse::<VolumeId>(), Err(UnknownId));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in
            ["", "x", "1:a:b::c", "2:a:1::c", "1::1::c", "1:a:1::", "1:a:-1::c", "1:a:1::c/d", "1:a:1:c"]
        {
            assert_eq!(text.parse::<VolumeId>(), Err(UnknownId), "{text}");
            assert_eq!(text.parse::<SnapshotId>(), Err(UnknownId), "{text}");
        }
    }

    #[test]
    fn names_follow_from_the_request() {
        assert_eq!(object_name("csi-vol-", "pvc-1"), "csi-vol-pvc-1");
        let long = "x".repeat(129);
        for odd in ["a/b", "a@b", "ä", long.as_str()] {
            let name = object_name("v-", odd);
            assert!(name.starts_with("v-.") && name.len() == 35, "{name}");
            assert_eq!(name, object_name("v-", odd));
        }
        assert_ne!(object_name("", "a/b"), object_name("", "a/c"));
    }
}
