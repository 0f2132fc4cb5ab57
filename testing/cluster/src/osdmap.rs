//! The parts of the OSD map that tell whether a change has arrived.

use serde::Deserialize;
use serde_json::Value;

use crate::{Access, Error, Result};

#[derive(Debug, Deserialize)]
struct OsdMap {
    osds: Vec<OsdState>,
    pools: Vec<Pool>,
}

/// One OSD as the monitors see it.
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
    pg_num: u64,
}

impl Access {
    pub(crate) fn osd_state(&self, number: u32) -> Result<OsdState> {
        let osds = self.osd_map()?.osds;
        let missing = || Error::Invalid(format!("the cluster has no osd.{number}"));
        osds.into_iter().find(|state| state.osd == number).ok_or_else(missing)
    }

    /// How many placement groups all pools have together.
    pub(crate) fn wanted_pgs(&self) -> Result<u64> {
        Ok(self.osd_map()?.pools.iter().map(|pool| pool.pg_num).sum())
    }

    fn osd_map(&self) -> Result<OsdMap> {
        let map = self.mon_query("osd dump", Value::Null)?;
        serde_json::from_value(map).map_err(|source| Error::Answer { command: "osd dump".to_owned(), source })
    }
}

fn number_as_bool<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(u8::deserialize(deserializer)? != 0)
}
