//! The blocklist, which fences clients.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use serde_json::{Value, json};

use super::Cluster;
use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::c_string;
use crate::raw::cluster::Cluster as RawCluster;
use crate::time::storable_seconds;

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

/// Adds a client or a range to the blocklist: see [`Blocklist::add`] and
/// [`Blocklist::add_range`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct AddToBlocklist<'a> {
    cluster: &'a Cluster,
    who: Who<'a>,
    duration: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Who<'a> {
    Client(&'a ClientAddress),
    Range(&'a str),
}

impl Cluster {
    /// Returns the group of calls that add, list and remove clients on the blocklist. The OSDs
    /// refuse the requests of these clients.
    pub fn blocklist(&self) -> Blocklist<'_> {
        Blocklist(self)
    }
}

impl<'a> Blocklist<'a> {
    /// Adds a client, whose requests then fail.
    ///
    /// [`run`](AddToBlocklist::run) returns when the monitors have the entry and this connection
    /// has the new OSD map. An OSD refuses the client once it knows that map: at the latest with
    /// the next request of this connection to it. Until then it can accept the client's requests.
    /// So reads and writes through this connection are safe. In another process or connection, call
    /// [`Cluster::wait_for_latest_osdmap`] before you read.
    ///
    /// The address is that of a [watcher](crate::image::Watcher) or lock owner. An address without
    /// port and nonce, such as `10.9.8.7`, means all clients of that machine.
    ///
    /// Ceph does not change an entry that exists. So a client that is on the blocklist already can
    /// come back earlier than the default time from now. Set a
    /// [duration](AddToBlocklist::duration) to be told.
    ///
    /// Implements: `rados_blocklist_add`.
    #[doc(alias = "rados_blocklist_add")]
    pub fn add(&self, address: &'a ClientAddress) -> AddToBlocklist<'a> {
        AddToBlocklist { cluster: self.0, who: Who::Client(address), duration: None }
    }

    /// Adds all clients of a range of addresses, such as `10.9.8.0/24`: their requests then fail,
    /// also those of clients that start later.
    ///
    /// [`run`](AddToBlocklist::run) returns when the monitors have the entry. An OSD refuses the
    /// clients once it knows the new OSD map. Call [`Cluster::wait_for_latest_osdmap`] before you
    /// read what they have written.
    ///
    /// Needs Ceph 17 on all OSDs of the cluster. An older cluster would take the range for a single
    /// client, so it is refused with `NotSupported` before anything is added. Make sure that the
    /// range has no daemons of the cluster: managers are clients, too.
    ///
    /// Implements: `ceph osd blocklist range add`.
    pub fn add_range(&self, range: &'a str) -> AddToBlocklist<'a> {
        AddToBlocklist { cluster: self.0, who: Who::Range(range), duration: None }
    }

    /// Removes a client. Also succeeds if the client is not on the blocklist.
    ///
    /// **A paused client does not notice that it was fenced if you remove it from the blocklist
    /// before it resumes. If a write had taken the exclusive lock for it, it then overwrites the
    /// data of the lock's new owner, without an error.** If it had
    /// [acquired](crate::lock::ExclusiveLock::acquire) the lock, its requests fail, but those in
    /// flight at the pause can still take effect. Remove a client only after its process has ended
    /// or its machine has restarted. An entry also expires by itself, normally after one hour, with
    /// the same effect on a client that was paused for longer. See
    /// [`guide::locks`](crate::guide::locks).
    ///
    /// Blocks for at most the [mon timeout](crate::ClusterBuilder::mon_timeout).
    ///
    /// Implements: `ceph osd blocklist rm`.
    pub fn remove(&self, address: &ClientAddress) -> Result<()> {
        let address = address.as_str();
        let command = json!({ "prefix": "osd blocklist", "blocklistop": "rm", "addr": address });
        self.0.command_on("unblocklist", || Object::new(ObjectKind::Client, address), &command)?;
        Ok(())
    }

    /// Removes a range of addresses. Also succeeds if the range is not on the blocklist. The
    /// warning of [`remove`](Self::remove) about paused clients applies to all clients of the
    /// range.
    ///
    /// Implements: `ceph osd blocklist range rm`.
    pub fn remove_range(&self, range: &str) -> Result<()> {
        self.0.change_range("unblocklist", range, json!({ "blocklistop": "rm" }))
    }

    /// Lists the clients and ranges on the blocklist.
    ///
    /// Implements: `ceph osd blocklist ls`.
    pub fn list(&self) -> Result<Vec<BlocklistEntry>> {
        let command = json!({ "prefix": "osd blocklist ls", "format": "json" });
        let (operation, object) = ("list the blocklist of", || self.0.object());
        let reply = self.0.command_on(operation, object, &command)?;
        entries(&reply).map_err(|error| {
            let why = format!("the answer to `osd blocklist ls` is not JSON: {error}");
            Error::bad_answer(operation, object(), &why)
        })
    }
}

impl Cluster {
    fn change_range(&self, operation: &'static str, range: &str, mut command: Value) -> Result<()> {
        let object = || Object::new(ObjectKind::Client, range);
        if !is_range(range) {
            let why = "it is not a range of addresses of the form IP/BITS, such as 10.9.8.0/24";
            return Err(Error::invalid(operation, object(), why));
        }
        let map = self.command_on(operation, object, &json!({ "prefix": "osd dump", "format": "json" }))?;
        let map: Value = serde_json::from_slice(&map).unwrap_or_default();
        // Names of releases are in alphabetical order.
        let release = map["require_osd_release"].as_str().unwrap_or("an unknown release");
        if release < "quincy" {
            let why = format!(
                "ranges need Ceph 17 on all OSDs, and this cluster requires {release} only; name each \
                 client, or upgrade and set `ceph osd require-osd-release`"
            );
            return Err(Error::new(operation, object(), Errno::EOPNOTSUPP).with_detail(why));
        }
        command["prefix"] = "osd blocklist".into();
        command["range"] = "range".into();
        command["addr"] = range.into();
        self.command_on(operation, object, &command)?;
        Ok(())
    }
}

fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

/// Returns a range as it is added: Ceph lists `10.0.0.0/24` as `10.0.0.0:0/24`, and `fd00::/8` as
/// `[fd00::]:0/8`.
fn plain_range(listed: &str) -> String {
    listed.replace(":0/", "/").replace(['[', ']'], "")
}

/// Returns an address or a range in one form: Ceph lists `10.9.8.7` as `10.9.8.7:0/0`, and
/// addresses of version 6 in their shortest form.
fn one_form(text: &str) -> String {
    let plain = ["v1:", "v2:", "any:"].iter().find_map(|version| text.strip_prefix(version)).unwrap_or(text);
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return format!("{}/0", SocketAddr::new(ip, 0));
    }
    let Some((place, rest)) = plain.split_once('/') else { return plain.to_owned() };
    match (place.parse::<SocketAddr>(), place.parse::<IpAddr>()) {
        (Ok(client), _) => format!("{client}/{rest}"),
        (_, Ok(range)) => format!("{range}/{rest}"),
        _ => plain.to_owned(),
    }
}

/// Returns a duration in seconds. At least 1, because 0 would mean the cluster's setting.
fn seconds(duration: Duration) -> u32 {
    storable_seconds(duration).max(1)
}

/// Parses two consecutive JSON documents: single clients, then ranges of addresses.
pub(super) fn entries(reply: &[u8]) -> serde_json::Result<Vec<BlocklistEntry>> {
    let lists = serde_json::Deserializer::from_slice(reply).into_iter::<Vec<Value>>();
    let lists = lists.collect::<serde_json::Result<Vec<_>>>()?;
    let blocked = |entry: Value| {
        let text = |field: &str| Some(entry.get(field)?.as_str()?.to_owned());
        Some(BlocklistEntry {
            address: ClientAddress::from_ceph(text("addr").or_else(|| Some(plain_range(&text("range")?)))?),
            until: text("until")?,
        })
    };
    Ok(lists.into_iter().flatten().filter_map(blocked).collect())
}

impl AddToBlocklist<'_> {
    /// Sets how long the client or range stays on the blocklist, in whole seconds, at least 1.
    /// Ceph stores times up to the year 2106: a longer duration ends in that year. Default: the
    /// cluster's setting, normally one hour.
    ///
    /// [`run`](Self::run) then fails with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if an
    /// entry existed that ends earlier, because Ceph does not change it. The client is on the
    /// blocklist then, but not for as long. To find out, `run` lists the blocklist.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Adds the client or the range. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout), for a range the [mon
    /// timeout](crate::ClusterBuilder::mon_timeout).
    pub fn run(self) -> Result<()> {
        let Some(duration) = self.duration else { return self.add() };
        let wanted = SystemTime::now() + Duration::from_secs(seconds(duration).into());
        let before = self.entry()?;
        self.add()?;
        let Some(before) = before else { return Ok(()) };
        if self.entry()?.is_some_and(|now| now == before)
            && end(&before.until).is_some_and(|end| end < wanted)
        {
            let why = format!(
                "it is on the blocklist already, until {}, and Ceph does not change the end of an entry; add \
                 it again after that, or remove it first, which lets it in for a moment",
                before.until
            );
            return Err(Error::new("blocklist", self.object(), Errno::EEXIST).with_detail(why));
        }
        Ok(())
    }

    fn object(&self) -> Object {
        Object::new(ObjectKind::Client, self.text())
    }

    fn text(&self) -> &str {
        match self.who {
            Who::Client(address) => address.as_str(),
            Who::Range(range) => range,
        }
    }

    /// Returns the entry of the client or range, if there is one.
    fn entry(&self) -> Result<Option<BlocklistEntry>> {
        let wanted = one_form(self.text());
        let entries = self.cluster.blocklist().list()?;
        Ok(entries.into_iter().find(|entry| one_form(entry.address.as_str()) == wanted))
    }

    fn add(&self) -> Result<()> {
        let AddToBlocklist { cluster, who, duration } = self;
        match who {
            Who::Client(address) => {
                let c_address = c_string("blocklist", || self.object(), address.as_str())?;
                let seconds = duration.map_or(0, seconds);
                let add = move |raw: &RawCluster| raw.blocklist_add(&c_address, seconds);
                cluster.bounded("blocklist", || self.object(), add)
            }
            Who::Range(range) => {
                let mut change = json!({ "blocklistop": "add" });
                if let Some(duration) = duration {
                    change["expire"] = f64::from(seconds(*duration)).into();
                }
                cluster.change_range("blocklist", range, change)
            }
        }
    }
}

/// Parses the end of an entry, which is in the time zone of a monitor.
fn end(until: &str) -> Option<SystemTime> {
    DateTime::parse_from_str(until, "%Y-%m-%dT%H:%M:%S%.f%z").ok().map(SystemTime::from)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_entry_is_parsed() {
        let seconds =
            |text| end(text).map(|end| end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("2026-11-30T22:15:51.384798+0000"), Some(1_796_076_951));
        assert_eq!(seconds("2026-11-30T23:15:51.384798+0100"), Some(1_796_076_951));
        assert_eq!(seconds("soon"), None);
    }

    #[test]
    fn an_entry_is_found_in_the_form_that_ceph_lists() {
        for (added, listed) in [
            ("10.9.8.7", "10.9.8.7:0/0"),
            ("v1:10.9.8.7:0/12", "10.9.8.7:0/12"),
            ("fd00:0::1", "[fd00::1]:0/0"),
            ("[fd00:0::1]:0/12", "[fd00::1]:0/12"),
            ("fd00:0::/8", plain_range("[fd00::]:0/8").as_str()),
        ] {
            assert_eq!(one_form(added), one_form(listed), "{added}");
        }
        assert_ne!(one_form("10.9.8.7"), one_form("10.9.8.7:0/12"));
        assert_ne!(one_form("10.9.8.7/12"), one_form("10.9.8.7:0/12"));
    }

    #[test]
    fn a_range_is_listed_as_it_is_added() {
        assert_eq!(plain_range("127.0.0.0:0/8"), "127.0.0.0/8");
        assert_eq!(plain_range("[fd00::]:0/8"), "fd00::/8");
    }
}
