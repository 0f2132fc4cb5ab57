//! Requests for one object take turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;
use tonic::Status;

/// How long a request waits for its turn. After that, its caller repeats it, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// The objects that requests work on.
#[derive(Debug, Clone)]
pub struct Turns {
    objects: Arc<Mutex<HashMap<String, Arc<Object>>>>,
    patience: Duration,
}

#[derive(Debug, Default)]
struct Object {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The request whose turn it is, and since when.
    at_work: Mutex<Option<(&'static str, Instant)>>,
}

/// A turn. Dropping it lets the next request begin. The thread that does the work owns it, so the
/// turn lasts until the work has ended, even if the caller gives the request up.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    name: String,
    object: Arc<Object>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { objects: Arc::default(), patience: PATIENCE }
    }
}

impl Turns {
    /// Sets how long a request waits for its turn. Default: 30 s.
    pub fn patience(mut self, patience: Duration) -> Turns {
        self.patience = patience;
        self
    }

    /// Waits until no other request works on the object. `method` is what the request is.
    pub async fn take(&self, method: &'static str, name: impl Into<String>) -> Result<Turn, Status> {
        let name = name.into();
        let object = Arc::clone(self.lock().entry(name.clone()).or_default());
        let waiting = tokio::time::timeout(self.patience, Arc::clone(&object.turn).lock_owned());
        let mut turn = Turn { turns: self.clone(), name, object, guard: None };
        turn.guard = waiting.await.ok();
        if turn.guard.is_none() {
            return Err(Status::aborted(turn.under_way()));
        }
        *turn.at_work() = Some((method, Instant::now()));
        Ok(turn)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Object>>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn at_work(&self) -> MutexGuard<'_, Option<(&'static str, Instant)>> {
        self.object.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the error of a request that did not get its turn. It names the request that is under
    /// way.
    fn under_way(&self) -> String {
        let (name, waited) = (&self.name, self.turns.patience.as_secs());
        let at_work = match *self.at_work() {
            Some((method, since)) => {
                format!("{method} for {name} is under way and began {} s ago", since.elapsed().as_secs())
            }
            None => format!("other requests for {name} are under way"),
        };
        format!("{at_work}; this request has waited for {waited} s; ask again")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.guard.is_some() {
            *self.at_work() = None;
            self.guard = None;
        }
        let mut objects = self.turns.lock();
        self.object = Arc::default();
        // Nobody else waits or works: forget the object.
        if objects.get(&self.name).is_some_and(|object| Arc::strong_count(object) == 1) {
            objects.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_for_one_object_take_turns_and_leave_nothing() {
        let turns = Turns::default();
        let first = turns.take("Probe", "a").await.unwrap();
        let other = turns.take("Probe", "b").await.unwrap();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take("Probe", "a").await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
        drop(other);
        assert!(turns.lock().is_empty());
        // A caller that gives up leaves no entry, either.
        let first = turns.take("Probe", "a").await.unwrap();
        let given_up = tokio::time::timeout(Duration::from_millis(1), turns.take("Probe", "a")).await;
        assert!(given_up.is_err());
        drop(first);
        assert!(turns.lock().is_empty());
    }
}
