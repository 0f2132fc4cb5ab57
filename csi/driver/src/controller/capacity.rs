//! The free space of a pool.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rbd::IoCtx;
use serde::Deserialize;
use tonic::{Code, Status};

use super::Controller;
use crate::class::Class;
use crate::clusters::Secrets;
use crate::status::OrStatus;

#[derive(Deserialize)]
struct Df {
    pools: Vec<PoolDf>,
}

#[derive(Deserialize)]
struct PoolDf {
    id: i64,
    stats: Stats,
}

#[derive(Deserialize)]
struct Stats {
    max_avail: u64,
}

#[derive(Deserialize)]
struct OsdDump {
    pools: Vec<PoolFlags>,
}

#[derive(Deserialize)]
struct PoolFlags {
    pool: i64,
    flags_names: String,
}

/// How long the monitors may take to say whether a pool is full. If they are the reason of the
/// timeout, the request must not wait for them a second time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Replaces the timeout of a call by the reason if the pool is full: a write to a full pool waits
/// for space until it times out.
pub(crate) fn or_full<T>(pool: &IoCtx, result: Result<T, Status>) -> Result<T, Status> {
    match result {
        Err(status) if status.code() == Code::Unavailable && is_full(pool) => {
            Err(Status::resource_exhausted(format!(
                "pool '{}' is full: its quota or its OSDs are; make room or raise the quota (ceph df, \
                 ceph osd pool get-quota), and ask again",
                pool.pool()
            )))
        }
        result => result,
    }
}

fn is_full(pool: &IoCtx) -> bool {
    let (sender, answer) = mpsc::channel();
    let cluster = pool.cluster().clone();
    thread::spawn(move || {
        let _ = sender.send(cluster.mon_command(r#"{"prefix": "osd dump", "format": "json"}"#, &[]));
    });
    let dump = answer.recv_timeout(PATIENCE).ok().and_then(Result::ok);
    let dump = dump.and_then(|dump| serde_json::from_slice::<OsdDump>(&dump).ok());
    // The flags are `full`, and `full_quota` if that is the reason; `nearfull` is not full.
    dump.is_some_and(|dump| {
        dump.pools.iter().any(|other| {
            other.pool == pool.pool_id() && other.flags_names.split(',').any(|flag| flag == "full")
        })
    })
}

impl Controller {
    /// Returns the free space in bytes of the pool of a class.
    pub fn capacity(&self, class: &Class) -> Result<u64, Status> {
        let secrets = Secrets::default();
        let cluster = class.cluster()?;
        // The data goes to the data pool.
        let name = match class.data_pool() {
            Some(pool) => pool,
            None => class.pool()?,
        };
        let pool = self.clusters.pool(cluster, name, Some(""), &secrets)?;
        let answer = pool.cluster().mon_command(r#"{"prefix": "df", "format": "json"}"#, &[]).or_status()?;
        let df: Df = serde_json::from_slice(&answer).map_err(|error| {
            Status::internal(format!("the monitors' answer to 'df' is not understood: {error}"))
        })?;
        df.pools
            .iter()
            .find(|df| df.id == pool.pool_id())
            .map(|df| df.stats.max_avail)
            .ok_or_else(|| Status::unavailable(format!("the monitors have no figures of pool '{name}' yet")))
    }
}
