//! Checks of what requests have made, and of what a deletion leaves.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use rbd::IoCtx;
use rbd::snapshot::SnapshotKind;
use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::*;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::call::{Call, Made};
use super::{CONTENT, Kind, Site, TENTHS};

/// The objects of a namespace that stay, but are empty.
const DIRECTORIES: [&str; 5] =
    ["rbd_directory", "rbd_trash", "rbd_group_directory", "rbd_children", "rbd_info"];

/// All that belongs to a request, with its name left out: the images of its names, their snapshots
/// and groups.
fn state(pool: &IoCtx, name: &str) -> String {
    let mut text = String::new();
    let mut images: Vec<String> = pool.list().unwrap().into_iter().map(|entry| entry.name).collect();
    images.sort();
    let prefix = format!("csi-vol-{name}");
    for image in images.iter().filter(|image| is_of(image, &prefix)) {
        let opened =
            pool.open(image).read_only(true).run().unwrap_or_else(|error| panic!("{image}: {error}"));
        let mut content = [0; CONTENT.len()];
        opened.read_exact_at(&mut content, 0).unwrap();
        let mut snapshots: Vec<String> = opened
            .snapshots()
            .list()
            .unwrap()
            .into_iter()
            .map(|taken| match taken.origin.kind() {
                SnapshotKind::User => taken.name,
                kind => format!("{kind:?}"),
            })
            .collect();
        snapshots.sort();
        let stat = opened.stat().unwrap();
        let _ = writeln!(
            text,
            "{image}: {:?} {} {} {:?} {:?} {} {:?} parent {:?} clones {} group {:?} snapshots {snapshots:?} {}",
            opened.features().unwrap(),
            stat.size,
            stat.object_size,
            opened.flags().unwrap(),
            opened.op_features().unwrap(),
            opened.data_pool_id().unwrap(),
            opened.parent().unwrap().map(|parent| (parent.image.name, parent.overlap)),
            opened.metadata().get("csi.name").is_ok_and(|name| name.starts_with(&opened.id().unwrap())),
            opened.children().unwrap().len(),
            opened.group().unwrap(),
            String::from_utf8_lossy(&content),
        );
    }
    let trash = pool.trash().list().unwrap();
    for entry in trash.iter().filter(|entry| is_of(&entry.name, &prefix)) {
        let _ = writeln!(text, "trash: {} {:?}", entry.name, entry.source);
    }
    let groups = pool.groups().list().unwrap();
    for group in groups.iter().filter(|group| is_of(group, &format!("csi-group-{name}"))) {
        let snapshots = pool.group(group).snapshots().list().unwrap();
        let complete = snapshots.iter().map(|taken| taken.complete).collect::<Vec<_>>();
        let members = pool.group(group).list().unwrap().len();
        let _ = writeln!(text, "group: {group} {members} members, snapshots {complete:?}");
    }
    text.replace(name, "NAME")
}

/// Whether a name is this one, or one that was made of it.
fn is_of(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

/// Makes these requests until each has an answer.
pub async fn all(channel: &Channel, calls: Vec<(String, Call)>) -> HashMap<String, Made> {
    let (mut asked, mut made, mut faults) = (JoinSet::new(), HashMap::new(), Vec::new());
    for (what, call) in calls {
        let channel = channel.clone();
        asked.spawn(async move { (what, call.converge(channel).await) });
    }
    for (what, answer) in asked.join_all().await {
        match answer {
            Ok(answer) => drop(made.insert(what, answer)),
            Err(status) => faults.push(format!("{what}: {status}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    made
}

/// Deletes all that is there, the sources before their clones. Nothing is left.
pub async fn clean(site: &Site, channel: &Channel) {
    let (pool, mut controller) = (&site.driver.pool, ControllerClient::new(channel.clone()));
    let listed = controller.list_snapshots(ListSnapshotsRequest::default()).await.unwrap().into_inner();
    let (mut calls, mut groups) = (Vec::new(), HashMap::<String, Vec<Snapshot>>::new());
    for taken in listed.entries.into_iter().filter_map(|entry| entry.snapshot) {
        if taken.group_snapshot_id.is_empty() {
            calls.push(Call::DeleteSnapshot(taken.snapshot_id));
        } else {
            groups.entry(taken.group_snapshot_id.clone()).or_default().push(taken);
        }
    }
    calls.extend(groups.into_iter().map(|(group_snapshot_id, snapshots)| {
        Call::DeleteGroup(VolumeGroupSnapshot { group_snapshot_id, snapshots, ..Default::default() })
    }));
    all(channel, calls.into_iter().map(|call| (format!("{call:?}"), call)).collect()).await;
    let listed = controller.list_volumes(ListVolumesRequest::default()).await.unwrap().into_inner();
    let volumes = listed.entries.into_iter().filter_map(|entry| entry.volume);
    let (clones, others): (Vec<Volume>, Vec<Volume>) = volumes.partition(|volume| {
        let image = pool.open(&volume.volume_context["imageName"]).read_only(true).run().unwrap();
        image.parent().unwrap().is_some()
    });
    assert!(clones.len() >= TENTHS.len() * 2, "{clones:?}");
    let delete = |volumes: &[Volume]| {
        volumes
            .iter()
            .map(|volume| (volume.volume_id.clone(), Call::Delete(volume.volume_id.clone())))
            .collect()
    };
    all(channel, delete(&others)).await;
    // Their sources are deleted, and they have their content.
    for clone in &clones {
        let image = pool.open(&clone.volume_context["imageName"]).read_only(true).run().unwrap();
        let mut content = [0; CONTENT.len()];
        image.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(content, CONTENT, "{clone:?}");
    }
    all(channel, delete(&clones)).await;
    let left = || {
        let mut left = Vec::new();
        for pool in [pool, &site.data] {
            for object in pool.objects().list().unwrap() {
                let name = object.unwrap().name;
                // It may be removed just now.
                let mut entries = pool.objects().omap(&name).unwrap_or_default();
                // Whether the namespace may have images.
                entries.remove(&b"state"[..]);
                if !DIRECTORIES.contains(&&*name) || !entries.is_empty() {
                    left.push(format!(
                        "{name} {:?}",
                        entries.keys().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>()
                    ));
                }
            }
        }
        left
    };
    for _ in 0..300 {
        if left().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("left behind: {:#?}", left());
}

impl Site {
    /// Checks that a killed request has made the same as a request that was not killed.
    pub fn check(&self, names: &[(Kind, String)], made: &HashMap<String, Made>) {
        let pool = &self.driver.pool;
        let mut faults = Vec::new();
        for (kind, name) in names {
            let whole = format!("{kind:?}-whole");
            let (found, expected) = (state(pool, name), state(pool, &whole));
            if found != expected {
                faults.push(format!("{name}:\n{found}instead of\n{expected}"));
            }
            let shape = |made: &Made| match made {
                Made::Volume(volume) => {
                    format!("{} {:?}", volume.capacity_bytes, volume.content_source.is_some())
                }
                Made::Snapshot(taken) => format!("{} {}", taken.size_bytes, taken.ready_to_use),
                Made::Group(taken) => format!("{} {}", taken.snapshots.len(), taken.ready_to_use),
                Made::Size(size) => size.to_string(),
                Made::Nothing => String::new(),
            };
            assert_eq!(shape(&made[name]), shape(&made[&whole]), "{name}");
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
