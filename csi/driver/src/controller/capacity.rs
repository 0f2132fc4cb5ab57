//! How much a pool can take.

use serde::Deserialize;
use tonic::Status;

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

impl Controller {
    /// Returns the bytes that the class's pool can still take.
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
