//! The services of the interface. They check requests, do the work on a thread that may block, and
//! turn the results into answers.

mod capability;
mod controller;
mod group;
mod identity;
mod node;
mod registration;
mod snapshot_metadata;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Response, Status};
use tracing::Instrument;

use crate::controller::Controller;
use crate::ids::Place;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::turns::{Turn, Turns};

pub use registration::Registrar;

/// Who the driver is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The driver's name.
    pub name: String,
    /// Whether it has the controller's services.
    pub controller: bool,
    /// Whether it has a user of its own, for the calls that come without secrets.
    pub lists: bool,
    /// What is measured.
    pub metrics: Arc<Metrics>,
}

/// The controller's services.
#[derive(Debug, Clone)]
pub struct ControllerService {
    controller: Controller,
    turns: Turns,
    identity: Identity,
}

impl ControllerService {
    /// Serves this controller.
    pub fn new(controller: Controller, identity: Identity) -> ControllerService {
        ControllerService { controller, turns: Turns::default(), identity }
    }

    /// Sets how long a request waits for another one for the same object. Default: 30 s.
    pub fn patience(mut self, patience: Duration) -> ControllerService {
        self.turns = self.turns.patience(patience);
        self
    }
}

/// The node's service.
#[derive(Debug, Clone)]
pub struct NodeService {
    node: Node,
    turns: Turns,
    stages: Stages,
    identity: Identity,
}

/// How many volumes of one pool are staged at the same time. Other requests wait. Otherwise calls
/// to the cluster would time out on a small node.
const STAGES: usize = 8;

/// Bounds how many volumes are staged at the same time, for each pool: if the OSDs of a pool do not
/// answer, volumes of other pools can still be staged.
#[derive(Debug, Clone, Default)]
struct Stages(Arc<Mutex<HashMap<Pool, Arc<Semaphore>>>>);

/// The name of a cluster, and the id of a pool.
type Pool = (String, i64);

impl Stages {
    /// Waits until a volume of this place may be staged.
    async fn begin(&self, place: &Place) -> Result<OwnedSemaphorePermit, Status> {
        let pool = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let pool = all.entry((place.cluster.clone(), place.pool));
            Arc::clone(pool.or_insert_with(|| Arc::new(Semaphore::new(STAGES))))
        };
        pool.acquire_owned().await.map_err(|error| Status::internal(error.to_string()))
    }
}

impl NodeService {
    /// Serves this node.
    pub fn new(node: Node, identity: Identity) -> NodeService {
        NodeService { node, turns: Turns::default(), stages: Stages::default(), identity }
    }
}

/// Answers a request: logs it with its number, counts it, and measures how long it takes.
async fn answer<T>(
    identity: &Identity,
    method: &'static str,
    object: &str,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<Response<T>, Status> {
    let start = Instant::now();
    let span = tracing::info_span!("request", id = identity.metrics.number(), method, object);
    async {
        tracing::debug!("begun");
        let mut given_up = GivenUp(Some((identity, method, start)));
        let result = work.await;
        given_up.0 = None;
        let took = start.elapsed();
        match &result {
            Ok(_) => {
                identity.metrics.count(method, tonic::Code::Ok, took);
                tracing::info!(ms = took.as_millis() as u64, "done");
            }
            Err(status) => {
                identity.metrics.count(method, status.code(), took);
                tracing::warn!(
                    ms = took.as_millis() as u64,
                    code = ?status.code(),
                    reason = status.message(),
                    "failed"
                );
            }
        }
        result.map(Response::new)
    }
    .instrument(span)
    .await
}

/// A request. If it is dropped before it has ended, its caller has given it up, perhaps because its
/// deadline is over.
struct GivenUp<'a>(Option<(&'a Identity, &'static str, Instant)>);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if let Some((identity, method, start)) = self.0 {
            identity.metrics.count(method, tonic::Code::Cancelled, start.elapsed());
            let ms = start.elapsed().as_millis() as u64;
            tracing::warn!(ms, "the caller gave up; work that has begun goes on");
        }
    }
}

/// Does the work on a thread that may block, and keeps the turn until it has ended.
async fn work<T: Send + 'static>(
    turn: impl Into<Option<Turn>>,
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let turn = turn.into();
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        span.in_scope(work)
    })
    .await
    .map_err(|error| Status::internal(format!("the request ended early: {error}")))?
}

/// Refuses a request without this field.
fn required<'a>(name: &str, value: &'a str) -> Result<&'a str, Status> {
    if value.is_empty() { Err(Status::invalid_argument(format!("{name} is missing"))) } else { Ok(value) }
}

/// Returns the size of a page; 0 means no limit.
fn max_entries(max: i32) -> Result<usize, Status> {
    usize::try_from(max).map_err(|_| Status::invalid_argument("max_entries is negative"))
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_is_given_up_is_counted() {
        let metrics = Arc::new(Metrics::default());
        let identity =
            Identity { name: String::new(), controller: false, lists: false, metrics: Arc::clone(&metrics) };
        let request = answer(&identity, "Probe", "", std::future::pending::<Result<(), Status>>());
        assert!(tokio::time::timeout(Duration::from_millis(10), request).await.is_err());
        answer(&identity, "Probe", "", async { Ok(()) }).await.unwrap();
        let text = metrics.text();
        for line in [
            r#"rbd_csi_requests_total{method="Probe",code="CANCELLED"} 1"#,
            r#"rbd_csi_requests_total{method="Probe",code="OK"} 1"#,
        ] {
            assert!(text.lines().any(|other| other == line), "no {line} in\n{text}");
        }
    }
}
