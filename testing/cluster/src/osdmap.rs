//! The parts of the OSD map that show whether a change has arrived, and the primary of each group.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Access, Error, Result};

/// The used parts of the OSD map.
#[derive(Debug, Deserialize)]
pub(crate) struct OsdMap {
    /// Grows with every change.
    pub(crate) epoch: u64,
    pub(crate) osds: Vec<OsdState>,
    pools: Vec<Pool>,
}

/// An OSD in the monitors' view.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct OsdState {
    osd: u32,
    #[serde(deserialize_with = "number_as_bool")]
    pub(crate) up: bool,
    /// The epoch of the map in which it last came up: greater after every start.
    pub(crate) up_from: u64,
}

#[derive(Debug, Deserialize)]
struct Pool {
    pool: u64,
    pg_num: u64,
}

impl OsdMap {
    /// Returns the names of all placement groups.
    pub(crate) fn pgs(&self) -> impl Iterator<Item = String> {
        let of = |pool: &Pool| {
            (0..pool.pg_num).map({
                let id = pool.pool;
                move |pg| format!("{id}.{pg:x}")
            })
        };
        self.pools.iter().flat_map(of)
    }
}

impl Access {
    pub(crate) fn osd_state(&self, number: u32) -> Result<OsdState> {
        let osds = self.osd_map()?.osds;
        let missing = || Error::Invalid(format!("the cluster has no osd.{number}"));
        osds.into_iter().find(|state| state.osd == number).ok_or_else(missing)
    }

    pub(crate) fn osd_map(&self) -> Result<OsdMap> {
        let map = self.mon_query("osd dump", Value::Null)?;
        serde_json::from_value(map).map_err(|source| Error::Answer { command: "osd dump".to_owned(), source })
    }

    /// Returns the primary of the placement group `pg`, if it has one.
    pub(crate) fn primary_of(&self, pg: &str) -> Result<Option<u32>> {
        let map = self.mon_query("pg map", json!({ "pgid": pg }))?;
        Ok(map["acting"][0].as_u64().and_then(|osd| osd.try_into().ok()))
    }
}

fn number_as_bool<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(deserializer)? != 0)
}
