//! Background work: flattening images and emptying the trash. No request waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rbd::IoCtx;
use rbd::trash::TrashSource;

use crate::notes::Note;

/// How long deletions are collected before one check of the trash.
const COLLECT: Duration = Duration::from_secs(1);
/// How long a client that has died counts as a user of an image.
const WATCH: Duration = Duration::from_secs(30);
/// The time between two checks of the trash because of such users.
const LOOKS: usize = 3;

/// The background work, with one thread for each image or pool, and whether it was requested again
/// meanwhile. If the process ends, the next request that finds a deep chain or a deleted volume
/// starts the work again.
#[derive(Debug, Clone, Default)]
pub struct Background(Arc<Mutex<HashMap<String, bool>>>);

impl Background {
    /// Starts to flatten an image, unless a thread is already doing so.
    pub(super) fn flatten(&self, pool: &IoCtx, id: &str) {
        let (pool, id, all) = (pool.clone(), id.to_owned(), self.clone());
        self.begin(&format!("flatten {}/{id}", pool.pool_id()), move || match flatten(&pool, &id) {
            Ok(parent) => {
                tracing::info!(image = %id, "flattened");
                // If its parent was a deleted volume, nobody needs that any more.
                if let Some(parent) = parent {
                    all.empty_trash(&parent);
                }
            }
            Err(error) => tracing::warn!(image = %id, %error, "flattening failed"),
        });
    }

    /// Starts to remove the deleted volumes whose clones are gone.
    pub(super) fn empty_trash(&self, pool: &IoCtx) {
        let pool = pool.clone();
        self.begin(&format!("trash {}/{}", pool.pool_id(), pool.namespace()), move || {
            // One check serves all deletions of this time.
            thread::sleep(COLLECT);
            for _ in 0..LOOKS {
                match empty_trash(&pool) {
                    Ok(false) => break,
                    Ok(true) => thread::sleep(WATCH),
                    Err(error) => {
                        tracing::warn!(pool = pool.pool(), %error, "emptying the trash failed");
                        break;
                    }
                }
            }
        });
    }

    fn begin(&self, name: &str, work: impl Fn() + Send + 'static) {
        {
            let mut all = self.lock();
            if let Some(again) = all.get_mut(name) {
                *again = true;
                return;
            }
            all.insert(name.to_owned(), false);
        }
        let all = self.clone();
        let begun = thread::Builder::new().name("background".into()).spawn({
            let name = name.to_owned();
            move || {
                loop {
                    work();
                    let mut all = all.lock();
                    match all.get_mut(&name) {
                        // The work was requested again while it ran, so it runs once more.
                        Some(again) if *again => *again = false,
                        _ => {
                            all.remove(&name);
                            return;
                        }
                    }
                }
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "no thread for background work");
            self.lock().remove(name);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns where the former parent lies, if there was one.
fn flatten(pool: &IoCtx, id: &str) -> rbd::Result<Option<IoCtx>> {
    let image = pool.open_by_id(id).run()?;
    let Some(parent) = image.parent()? else { return Ok(None) };
    // A node that stages the volume meanwhile sees a watcher. The note tells it that the watcher is
    // this driver.
    Note::Flattening.set(&image, pool.cluster().address()?.as_ref())?;
    let result = image.flatten().run();
    Note::Flattening.remove(&image)?;
    image.close()?;
    result?;
    pool.cluster().ioctx_by_id(parent.image.pool_id)?.with_namespace(&parent.image.namespace).map(Some)
}

/// Removes the deleted volumes that no longer have clones. Returns whether one of them is in use,
/// perhaps by a client that has died.
fn empty_trash(pool: &IoCtx) -> rbd::Result<bool> {
    let mut used = false;
    for entry in pool.trash().list()? {
        if entry.source != TrashSource::User {
            continue;
        }
        let deleted = pool
            .open_by_id(&entry.id)
            .read_only(true)
            .run()
            .and_then(|image| Note::Deleted.get(&image))
            .is_ok_and(|note| note.is_some());
        if deleted {
            match pool.trash().remove(&entry.id).run() {
                Ok(()) => tracing::info!(image = %entry.name, "removed from the trash"),
                // It still has clones, or another controller has removed it.
                Err(error) => {
                    tracing::debug!(image = %entry.name, %error, "stays in the trash");
                    used |= error.is_busy();
                }
            }
        }
    }
    Ok(used)
}
