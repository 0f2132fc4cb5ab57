//! Lists of volumes and snapshots, in pages.

use rbd::snapshot::SnapshotKind;
use tonic::Status;

use super::request::Volume;
use super::snapshots::{self, Snapshot, is_users};
use super::{Controller, place};
use crate::clusters::Secrets;
use crate::ids::{SnapshotId, VolumeId};
use crate::status::OrStatus;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, in order of their ids.
    pub entries: Vec<T>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
}

impl Controller {
    /// Returns at most `max` volumes, beginning after the volume `after`: all images of the pools
    /// that the file of clusters names.
    pub fn volumes(&self, after: Option<&VolumeId>, max: usize) -> Result<Page<Volume>, Status> {
        let mut all = Vec::new();
        self.survey(false, |id, image| {
            all.push(Volume { id, image: image.name, size: image.size });
        })?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(page(
            all,
            max,
            |volume| after.is_none_or(|after| volume.id > *after),
            |volume| volume.id.to_string(),
        ))
    }

    /// Returns a volume.
    pub fn volume(&self, id: &VolumeId) -> Result<Volume, Status> {
        let image = self.open(id, &Secrets::default(), true)?;
        let (name, size) = (image.name().or_status()?, image.size().or_status()?);
        Ok(Volume { id: id.clone(), image: name, size })
    }

    /// Returns at most `max` snapshots, beginning after the snapshot `after`, of one volume or of
    /// all.
    pub fn snapshots(
        &self,
        volume: Option<&VolumeId>,
        after: Option<&SnapshotId>,
        max: usize,
        secrets: &Secrets,
    ) -> Result<Page<Snapshot>, Status> {
        let mut all = match volume {
            Some(id) => self.snapshots_of(id, secrets)?,
            None => self.all_snapshots()?,
        };
        all.sort_by(|a, b| a.id.cmp(&b.id));
        let is_after = |snapshot: &Snapshot| after.is_none_or(|after| snapshot.id > *after);
        Ok(page(all, max, is_after, |snapshot| snapshot.id.to_string()))
    }

    /// Returns the snapshots of a volume; none if it is missing.
    fn snapshots_of(&self, id: &VolumeId, secrets: &Secrets) -> Result<Vec<Snapshot>, Status> {
        match self.open(id, secrets, true) {
            Err(status) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
            opened => snapshots::of_users(id, &opened?),
        }
    }

    fn all_snapshots(&self) -> Result<Vec<Snapshot>, Status> {
        let (mut all, mut in_groups) = (Vec::new(), Vec::new());
        self.survey(true, |id, image| {
            if image.snapshots.iter().any(|snapshot| snapshot.kind == SnapshotKind::Group) {
                in_groups.push(id);
                return;
            }
            let listed = image.snapshots.iter().filter(|snapshot| is_users(snapshot.kind, &snapshot.name));
            all.extend(listed.map(|snapshot| Snapshot {
                id: SnapshotId { volume: id.clone(), snapshot: snapshot.id },
                size: snapshot.size,
                created: snapshot.created,
                group: None,
            }));
        })?;
        // A survey does not tell the group of a snapshot.
        for id in in_groups {
            all.extend(self.snapshots_of(&id, &Secrets::default())?);
        }
        Ok(all)
    }

    /// Surveys all images of the listed pools, without opening one.
    fn survey(
        &self,
        snapshots: bool,
        mut each: impl FnMut(VolumeId, rbd::survey::SurveyedImage),
    ) -> Result<(), Status> {
        for cluster in self.clusters.config().with_user() {
            for pool in &cluster.pools {
                let pool = self.clusters.pool(&cluster.id, pool, None, &Secrets::default())?;
                for image in pool.survey().snapshots(snapshots).run().or_status()? {
                    match image {
                        Ok(image) if !image.half_removed && !image.old_format => {
                            let id = VolumeId { place: place(&cluster.id, &pool), image: image.id.clone() };
                            each(id, image);
                        }
                        Ok(_) => {}
                        Err(error) => tracing::warn!(%error, "left out of the list"),
                    }
                }
            }
        }
        Ok(())
    }
}

fn page<T>(all: Vec<T>, max: usize, is_after: impl Fn(&T) -> bool, id: impl Fn(&T) -> String) -> Page<T> {
    let max = if max == 0 { usize::MAX } else { max };
    let mut rest = all.into_iter().filter(is_after);
    let entries: Vec<T> = rest.by_ref().take(max).collect();
    let next = rest.next().and_then(|_| entries.last().map(id));
    Page { entries, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let part = |after: i32, max| page(vec![1, 2, 3], max, |n| *n > after, ToString::to_string);
        assert_eq!(part(0, 2), Page { entries: vec![1, 2], next: Some("2".into()) });
        assert_eq!(part(2, 2), Page { entries: vec![3], next: None });
        assert_eq!(part(0, 3).next, None);
        assert_eq!(part(0, 0).entries.len(), 3);
        assert_eq!(part(3, 1), Page { entries: vec![], next: None });
    }
}
