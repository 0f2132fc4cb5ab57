//! The blocklist, which fences clients off.

use std::time::Duration;

use serde_json::{Value, json};

use super::Cluster;
use crate::address::ClientAddress;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::c_string;

/// A client on the blocklist.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlocklistEntry {
    /// The client's address with its nonce, such as `127.0.0.1:0/3461389112`, or a range of
    /// addresses, such as `10.0.0.0/24` (Ceph 17 or later).
    pub address: ClientAddress,
    /// When the entry expires, in the cluster's format: `2026-11-23T21:00:00.000000+0000`.
    pub until: String,
}

/// The blocklist of a cluster: see [`Cluster::blocklist`].
#[derive(Debug, Clone, Copy)]
pub struct Blocklist<'a>(&'a Cluster);

/// Adds a client to the blocklist: see [`Blocklist::add`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct AddToBlocklist<'a> {
    cluster: &'a Cluster,
    address: &'a ClientAddress,
    duration: Option<Duration>,
}

impl Cluster {
    /// Returns the group of calls that add, list and remove clients on the blocklist. The cluster
    /// refuses all requests of a client on the blocklist.
    pub fn blocklist(&self) -> Blocklist<'_> {
        Blocklist(self)
    }
}

impl<'a> Blocklist<'a> {
    /// Adds a client: all its later requests fail.
    ///
    /// The address is that of a [watcher](crate::image::Watcher) or lock owner.
    ///
    /// Implements: `rados_blocklist_add`.
    #[doc(alias = "rados_blocklist_add")]
    pub fn add(&self, address: &'a ClientAddress) -> AddToBlocklist<'a> {
        AddToBlocklist { cluster: self.0, address, duration: None }
    }

    /// Removes a client. Succeeds too if the client is not on the blocklist.
    ///
    /// **A paused client does not notice that it was fenced if you remove it from the blocklist
    /// before it resumes: it then overwrites the data of the lock's new owner.** Remove a client
    /// only after its process has ended or its machine has restarted. An entry also expires by
    /// itself.
    ///
    /// Implements: `ceph osd blocklist rm`.
    pub fn remove(&self, address: &ClientAddress) -> Result<()> {
        let address = address.as_str();
        let command = json!({ "prefix": "osd blocklist", "blocklistop": "rm", "addr": address });
        self.0.command_on("unblocklist", || Object::new(ObjectKind::User, address), &command)?;
        Ok(())
    }

    /// Lists the clients on the blocklist.
    ///
    /// Implements: `ceph osd blocklist ls`.
    pub fn list(&self) -> Result<Vec<BlocklistEntry>> {
        let command = json!({ "prefix": "osd blocklist ls", "format": "json" });
        let (operation, object) = ("list the blocklist of", || self.0.object());
        let reply = self.0.command_on(operation, object, &command)?;
        entries(&reply)
            .map_err(|error| Error::invalid(operation, object(), format!("the answer is not JSON: {error}")))
    }
}

/// Parses two consecutive JSON documents: single clients, then ranges of addresses.
pub(super) fn entries(reply: &[u8]) -> serde_json::Result<Vec<BlocklistEntry>> {
    let lists = serde_json::Deserializer::from_slice(reply).into_iter::<Vec<Value>>();
    let lists = lists.collect::<serde_json::Result<Vec<_>>>()?;
    let blocked = |entry: Value| {
        let text = |field: &str| Some(entry.get(field)?.as_str()?.to_owned());
        Some(BlocklistEntry {
            address: ClientAddress::from_ceph(text("addr").or_else(|| text("range"))?),
            until: text("until")?,
        })
    };
    Ok(lists.into_iter().flatten().filter_map(blocked).collect())
}

impl AddToBlocklist<'_> {
    /// Sets how long the client stays on the blocklist. Default: the cluster's setting, normally
    /// one hour.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Adds the client. Blocks.
    pub fn run(self) -> Result<()> {
        let AddToBlocklist { cluster, address, duration } = self;
        let object = || Object::new(ObjectKind::User, address.as_str());
        let c_address = c_string("blocklist", object, address.as_str())?;
        let seconds = duration.map_or(0, |time| u32::try_from(time.as_secs().max(1)).unwrap_or(u32::MAX));
        cluster.bounded("blocklist", object, move |raw| raw.blocklist_add(&c_address, seconds))
    }
}
