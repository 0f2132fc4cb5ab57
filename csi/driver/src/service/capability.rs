//! How volumes may be used.

use rbd_volume::FileSystem;
use tonic::Status;

use crate::node::Access;
use crate::proto::csi::VolumeCapability;
use crate::proto::csi::volume_capability::AccessType;
use crate::proto::csi::volume_capability::access_mode::Mode;

/// Says whether this driver serves all of these uses; `Err` is the reason why not.
pub(super) fn check_all(capabilities: &[VolumeCapability]) -> Result<(), Status> {
    if capabilities.is_empty() {
        return Err(Status::invalid_argument("volume_capabilities is missing"));
    }
    capabilities.iter().try_for_each(|capability| access(capability).map(drop))
}

/// Returns whether one pod only may have the volume.
pub(super) fn is_for_one_pod(capability: Option<&VolumeCapability>) -> bool {
    let mode = capability.and_then(|capability| capability.access_mode.as_ref());
    mode.is_some_and(|mode| mode.mode() == Mode::SingleNodeSingleWriter)
}

/// Reads a use of a volume.
pub(super) fn access(capability: &VolumeCapability) -> Result<Access, Status> {
    let invalid = |text: &str| Err(Status::invalid_argument(text));
    let Some(access_mode) = &capability.access_mode else {
        return invalid("the access_mode of a volume_capability is missing");
    };
    let (block, file_system, mount_options) = match &capability.access_type {
        None => return invalid("the access_type of a volume_capability is missing; set block or mount"),
        Some(AccessType::Block(_)) => (true, None, Vec::new()),
        Some(AccessType::Mount(mount)) => {
            let file_system = match &*mount.fs_type {
                "" => None,
                name => Some(
                    name.parse::<FileSystem>()
                        .map_err(|error| Status::invalid_argument(error.to_string()))?,
                ),
            };
            (false, file_system, mount.mount_flags.clone())
        }
    };
    let (read_only, alone) = match access_mode.mode() {
        Mode::SingleNodeWriter | Mode::SingleNodeSingleWriter | Mode::SingleNodeMultiWriter => (false, true),
        Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly => (true, false),
        Mode::MultiNodeMultiWriter | Mode::MultiNodeSingleWriter if block => (false, false),
        Mode::MultiNodeMultiWriter | Mode::MultiNodeSingleWriter => {
            return invalid(
                "a file system cannot be written by several nodes: use ReadWriteOnce, ReadOnlyMany, or a \
                 block volume",
            );
        }
        Mode::Unknown => {
            return Err(Status::invalid_argument(format!(
                "this driver does not know the access_mode {} of a volume_capability",
                access_mode.mode
            )));
        }
    };
    Ok(Access { block, read_only, alone, file_system, mount_options })
}
