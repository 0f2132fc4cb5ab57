//! Staging: maps an image, makes a file system on a blank device, and mounts it.

use std::path::PathBuf;

use rbd::krbd::{self, Device};
use rbd::{ErrorKind, Image, IoCtx};
use rbd_volume::{FileSystem, Volume};
use tonic::Status;

use super::device::{block_file, devices, number, unmap};
use super::{Node, blank, system, users};
use crate::class::Class;
use crate::clusters::Secrets;
use crate::controller;
use crate::ids::VolumeId;
use crate::notes::Note;
use crate::status::{self, OrStatus};

/// How a volume is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// As a block device, without a file system.
    pub block: bool,
    /// Nothing is written.
    pub read_only: bool,
    /// No other node may use the volume.
    pub alone: bool,
    /// The file system that is asked for.
    pub file_system: Option<FileSystem>,
    /// Options of the mount.
    pub mount_options: Vec<String>,
}

/// A request to stage a volume.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The volume.
    pub id: VolumeId,
    /// The directory to mount it at.
    pub staging: PathBuf,
    /// How it is used.
    pub access: Access,
    /// The parameters of its class.
    pub class: Class,
    /// The user and key of the request.
    pub secrets: Secrets,
}

impl Node {
    /// Stages a volume. A volume that is already staged stays as it is.
    pub fn stage(&self, request: &Stage) -> Result<(), Status> {
        let pool = self.clusters.place(&request.id.place, &request.secrets)?;
        // If the pool is full, the kernel's watch and each note wait until they time out.
        controller::or_full(&pool, self.stage_in(&pool, request))
    }

    fn stage_in(&self, pool: &IoCtx, request: &Stage) -> Result<(), Status> {
        let (id, access) = (&request.id, &request.access);
        // Opened for reading: such a handle has no watch, so other nodes do not count it as a user.
        let image = controller::open(pool, id, true)?;
        let fsid = pool.cluster().fsid().or_status()?;
        let mapped = devices(id, Some(&fsid))?;
        if let Some(device) = mapped.iter().find(|device| device.is_read_only() != access.read_only) {
            if is_staged(request, device)? || !device.holders().is_empty() {
                return Err(Status::failed_precondition(format!(
                    "volume '{id}' is mapped {} on this node as {}, and in use; unstage it first",
                    if device.is_read_only() { "read-only" } else { "writable" },
                    device.path().display()
                )));
            }
            unmap(device)?;
        }
        let device = match mapped.into_iter().find(|device| device.is_read_only() == access.read_only) {
            Some(device) if is_staged(request, &device)? || !device.holders().is_empty() => device,
            left => {
                // Left by an interrupted request. It is mapped anew: a late map may be undone
                // only now, and the number given to another image.
                left.as_ref().map_or(Ok(()), unmap)?;
                self.map(request, pool, &image)?
            }
        };
        if access.alone
            && let Err(refused) = users::settle(id, &image, &device)
        {
            if !is_staged(request, &device)? {
                unmap(&device)?;
            }
            return Err(refused);
        }
        if is_staged(request, &device)? {
            return Ok(());
        }
        let show = || {
            if !access.read_only {
                Note::Node.set_unopened(pool, &id.image, &self.options.id).or_status()?;
            }
            if access.block {
                return rbd_volume::publish(device.path(), block_file(&request.staging), false).or_status();
            }
            mount(request, pool, &image, &device)
        };
        // Nobody unstages a volume that was never staged, so a remaining mapping would keep the
        // image in use.
        show().inspect_err(|_| {
            let undone = clear(&request.staging).and_then(|()| unmap(&device));
            if let Err(status) = undone {
                tracing::warn!(volume = %id, reason = status.message(), "a part of the failed request stays");
            }
        })
    }

    fn map(&self, request: &Stage, pool: &IoCtx, image: &Image) -> Result<Device, Status> {
        let (id, access) = (&request.id, &request.access);
        if access.alone {
            users::wait(id, image, None, self.options.wait_for_users)?;
        }
        let name = image.name().or_status()?;
        let options = request.class.map_options()?.parse::<krbd::MapOptions>().or_status()?;
        let device = krbd::map(pool, &name)
            .options(options)
            .read_only(access.read_only)
            .fix_features(request.class.fix_features()?)
            .load_module(true)
            .timeout(self.options.map_timeout)
            .run()
            .map_err(|error| match error.kind() {
                ErrorKind::FeaturesUnsupportedByKernel { .. } => Status::failed_precondition(format!(
                    "{error}; with fixFeatures: \"true\" in the storage class, the node disables them"
                )),
                ErrorKind::TimedOut => Status::unavailable(format!(
                    "volume '{id}' cannot be mapped, because cluster '{}' of the file of clusters did not \
                     answer in time; check that its monitors and OSDs are up and reachable from this node, \
                     and ask again: {error}",
                    id.place.cluster
                )),
                _ => status::of(&error),
            })?;
        tracing::info!(device = %device.path().display(), image = %device.spec(), "mapped");
        // The kernel maps by name.
        if device.image_id().is_some_and(|mapped| mapped != id.image) {
            unmap(&device)?;
            return Err(Status::aborted(format!(
                "the image of volume '{id}' was renamed, and '{name}' is another image now; ask again"
            )));
        }
        Ok(device)
    }

    /// Unstages a volume: unmounts and unmaps it. Succeeds if either is already done.
    pub fn unstage(&self, id: &VolumeId, staging: &std::path::Path) -> Result<(), Status> {
        let staged = match number(&block_file(staging))? {
            Some(number) => Some(number),
            None => mounts(staging)?.last().map(|mount| mount.device),
        };
        clear(staging)?;
        let mapped = devices(id, None)?;
        let clusters: std::collections::HashSet<_> = mapped.iter().map(Device::cluster_fsid).collect();
        for device in &mapped {
            // Images of two clusters can have the same id. Then only the staged device is known to
            // be the volume.
            if clusters.len() == 1 || staged == Some(device.number()) {
                unmap(device)?;
                tracing::info!(device = %device.path().display(), image = %device.spec(), "unmapped");
            }
        }
        Ok(())
    }
}

/// Unmounts what is staged at this path, as often as something was mounted.
fn clear(staging: &std::path::Path) -> Result<(), Status> {
    let block = block_file(staging);
    for target in [&*block, staging] {
        while !mounts(target)?.is_empty() {
            rbd_volume::unmount(target).or_status()?;
        }
    }
    match std::fs::remove_file(&block) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(system(format!("cannot remove '{}'", block.display()), &error))
        }
        _ => Ok(()),
    }
}

pub(super) fn mounts(target: &std::path::Path) -> Result<Vec<rbd_volume::Mount>, Status> {
    rbd_volume::mounts_at(target).map_err(|error| system("cannot read the list of mounts", &error))
}

/// Returns whether this device is the staged one. Another device there is an error.
fn is_staged(request: &Stage, device: &Device) -> Result<bool, Status> {
    let (staging, staged) = if request.access.block {
        let file = block_file(&request.staging);
        let staged = if mounts(&file)?.is_empty() { None } else { number(&file)? };
        (file, staged)
    } else {
        let mounted = mounts(&request.staging)?.pop();
        if let (Some(mount), Some(wanted)) = (&mounted, request.access.file_system)
            && mount.device == device.number()
            && mount.file_system != wanted.as_str()
        {
            return Err(Status::already_exists(format!(
                "volume '{}' is staged at '{}' with {}, not {wanted}; unstage it first",
                request.id,
                request.staging.display(),
                mount.file_system
            )));
        }
        (request.staging.clone(), mounted.map(|mount| mount.device))
    };
    match staged {
        None => Ok(false),
        Some(number) if number == device.number() => Ok(true),
        Some((major, minor)) => Err(Status::already_exists(format!(
            "the device {major}:{minor} is staged at '{}', and not volume '{}'; unstage it first",
            staging.display(),
            request.id
        ))),
    }
}

fn mount(request: &Stage, pool: &IoCtx, image: &Image, device: &Device) -> Result<(), Status> {
    let (id, access) = (&request.id, &request.access);
    let mut volume = Volume::new(device)
        .read_only(access.read_only)
        .make_options(request.class.mkfs_options())
        .mount_options(access.mount_options.clone());
    if let Some(file_system) = access.file_system {
        volume = volume.file_system(file_system);
    }
    if !access.read_only {
        // If the process is killed while it formats, the device is neither blank nor has it a file
        // system. The note says that nobody has used the volume yet.
        let noted = Note::Formatting.get(image).or_status()?.is_some();
        let begun = noted && Note::Formatted.get(image).or_status()?.is_none();
        let volume = volume.clone().format_again(begun);
        if volume.would_format().or_status()? {
            if !begun {
                blank::check(id, pool, image)?;
            }
            Note::Formatting.set_unopened(pool, &id.image, "yes").or_status()?;
            volume.format().or_status()?;
            Note::Formatted.set_unopened(pool, &id.image, "yes").or_status()?;
            Note::Formatting.remove_unopened(pool, &id.image).or_status()?;
        } else if noted {
            Note::Formatting.remove_unopened(pool, &id.image).or_status()?;
        }
    }
    if access.alone {
        // Formatting can take long. If this node has lost its connection meanwhile, another one may
        // have the volume now.
        users::settle(id, image, device)?;
    }
    let staged = volume.stage(&request.staging).or_status()?;
    tracing::info!(volume = %id, file_system = %staged.file_system, "mounted");
    Ok(())
}
