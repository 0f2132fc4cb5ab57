//! Requests for one object take turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tonic::Status;

/// How long a request waits for its turn. Then its caller asks again, which costs nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// The objects that requests work on.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

/// A turn; dropping it lets the next request begin. It goes into the thread that does the work: a
/// request that its caller has given up ends its turn when the work has ended.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    object: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until no other request works on the object.
    pub async fn take(&self, object: impl Into<String>) -> Result<Turn, Status> {
        let object = object.into();
        let lock = Arc::clone(self.lock().entry(object.clone()).or_default());
        let waited = tokio::time::timeout(PATIENCE, lock.lock_owned()).await;
        let guard = waited.ok();
        let turn = Turn { turns: self.clone(), object, guard };
        if turn.guard.is_none() {
            return Err(Status::aborted(format!(
                "another request for {} has been going on for over {} s; ask again",
                turn.object,
                PATIENCE.as_secs()
            )));
        }
        Ok(turn)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.guard = None;
        let mut objects = self.turns.lock();
        // Nobody else waits or works: forget the object.
        if objects.get(&self.object).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            objects.remove(&self.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_for_one_object_take_turns_and_leave_nothing() {
        let turns = Turns::default();
        let first = turns.take("a").await.unwrap();
        let other = turns.take("b").await.unwrap();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.take("a").await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
        drop(other);
        assert!(turns.lock().is_empty());
        // A caller that gives up leaves nothing either.
        let first = turns.take("a").await.unwrap();
        let given_up = tokio::time::timeout(Duration::from_millis(1), turns.take("a")).await;
        assert!(given_up.is_err());
        drop(first);
        assert!(turns.lock().is_empty());
    }
}
