//! Who else uses an image.
//!
//! Two nodes must not write one file system. The kernel's exclusive lock does not prevent that: it
//! passes to the next writer, so that snapshots and growing work. So a node first maps the image,
//! which makes it visible as a watcher, and then lists the other watchers. If two nodes do so at
//! the same time, at least one sees the other, and the node with the younger client gives way
//! first.

use std::thread;
use std::time::{Duration, Instant};

use rbd::Image;
use rbd::image::Watcher;
use rbd::krbd::Device;
use tonic::Status;

use crate::ids::VolumeId;
use crate::notes::Note;
use crate::status::OrStatus;

const PAUSE: Duration = Duration::from_millis(500);

/// Watchers that are neither this device nor this driver's own background work. Also returns
/// whether this device is a watcher.
fn others(image: &Image, device: Option<&Device>) -> Result<(Vec<Watcher>, bool), Status> {
    let mut watchers = image.other_watchers().or_status()?;
    let ours = device.and_then(Device::client_address);
    let all = watchers.len();
    watchers.retain(|watcher| Some(&watcher.address) != ours.as_ref());
    let watches = watchers.len() < all;
    if !watchers.is_empty() {
        let flattening = Note::Flattening.get(image).or_status()?;
        watchers.retain(|watcher| Some(watcher.address.to_string()) != flattening);
    }
    Ok((watchers, watches))
}

/// Waits until nobody else uses the image. After the timeout, returns an error that names the
/// users.
pub(super) fn wait(
    id: &VolumeId,
    image: &Image,
    device: Option<&Device>,
    limit: Duration,
) -> Result<(), Status> {
    let end = Instant::now() + limit;
    loop {
        let (users, _) = others(image, device)?;
        if users.is_empty() {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(refuse(id, image, &users, limit));
        }
        thread::sleep(PAUSE);
    }
}

/// Lists the watchers again after the image was mapped. Of two nodes, the one with the older client
/// keeps the image, because it waits longer. A mapping that is no watcher is refused, too: other
/// nodes do not see it, and if it is fenced, nothing can be written.
pub(super) fn settle(id: &VolumeId, image: &Image, device: &Device) -> Result<(), Status> {
    // A controller that resizes the image is a user for a moment, too, and has an older client.
    let (start, [short, long]) = (Instant::now(), [4, 15].map(Duration::from_secs));
    let own = device.client_id().and_then(|id| id.trim_start_matches("client").parse::<u64>().ok());
    // The kernel watches only what it may write; old kernels do not tell their address.
    let must_watch = !device.is_read_only() && device.client_address().is_some();
    loop {
        let (users, watches) = others(image, Some(device))?;
        let older = |user: &Watcher| own.is_none_or(|own| user.client < own);
        if users.is_empty() {
            if watches || !must_watch {
                return Ok(());
            }
            if start.elapsed() >= short {
                return Err(Status::failed_precondition(format!(
                    "volume '{id}' is mapped on this node as {}, but the cluster does not know this mapping: \
                     this node was fenced, or has lost its connection; unstage the volume here, and stage \
                     it again",
                    device.path().display()
                )));
            }
            thread::sleep(PAUSE);
            continue;
        }
        let limit = if users.iter().any(older) { short } else { long };
        if start.elapsed() >= limit {
            return Err(refuse(id, image, &users, start.elapsed()));
        }
        thread::sleep(PAUSE);
    }
}

fn refuse(id: &VolumeId, image: &Image, users: &[Watcher], waited: Duration) -> Status {
    let list: Vec<String> =
        users.iter().map(|user| format!("{} (client.{})", user.address, user.client)).collect();
    let fence: Vec<String> =
        users.iter().map(|user| format!("`ceph osd blocklist add {}`", user.address)).collect();
    let node = match Note::Node.get(image) {
        Ok(Some(node)) => format!(", staged on node '{node}'"),
        _ => String::new(),
    };
    Status::failed_precondition(format!(
        "volume '{id}' is in use by {}{node}; waited {} s; unstage it there; if that node has died, fence it \
         before the volume is used elsewhere: {}; a dead node counts as a user for 30 s, in rare cases until \
         its OSD is marked down (Ceph before 18.2.5 and 19.2.1)",
        list.join(", "),
        waited.as_secs(),
        fence.join(", ")
    ))
}
