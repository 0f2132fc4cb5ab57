//! The peers of a pool in other clusters.

use std::fmt;
use std::time::SystemTime;

use super::PoolMirroring;
use super::status::time;
use super::token::secret_c_string;
use crate::cluster::Key;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::names::c_string;
use crate::raw::ioctx::IoCtx as RawIoCtx;
use crate::raw::mirror::peer::{RawPeer, RawPeerAccess};

/// The direction of replication, seen from this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// From the peer to this cluster.
    RxOnly,
    /// From this cluster to the peer.
    TxOnly,
    /// Both directions.
    RxTx,
    /// A direction that this crate does not know.
    Unknown(u32),
}

/// The pool of the same name in another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The peer's id in this cluster.
    pub uuid: String,
    /// The direction of replication.
    pub direction: Direction,
    /// The name of the peer's cluster.
    pub site_name: String,
    /// The [uuid](PoolMirroring::uuid) of the peer's pool, which the status of images contains.
    /// Empty until a daemon has read it.
    pub mirror_uuid: String,
    /// The user that the local daemon connects to the peer as, such as `client.rbd-mirror-peer`.
    pub client_name: String,
    /// When the peer's daemon last contacted this cluster; `None` if it never did.
    pub last_seen: Option<SystemTime>,
}

/// The access data of a peer's cluster, which replaces a configuration file named after the site.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerAccess {
    /// The addresses of the peer's monitors.
    pub mon_host: Option<String>,
    /// The key of the peer's [client](Peer::client_name).
    pub key: Option<Key>,
}

/// Adds a peer: see [`Peers::add`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct AddPeer<'a> {
    ioctx: &'a IoCtx,
    site_name: &'a str,
    client_name: &'a str,
    direction: Direction,
}

/// The peers of a pool: see [`PoolMirroring::peers`].
#[derive(Debug, Clone, Copy)]
pub struct Peers<'a> {
    ioctx: &'a IoCtx,
}

impl<'a> PoolMirroring<'a> {
    /// Returns the group of calls that list, add, change and remove the pool's peers.
    pub fn peers(&self) -> Peers<'a> {
        Peers { ioctx: self.ioctx }
    }
}

impl<'a> Peers<'a> {
    /// Lists the peers of the pool.
    ///
    /// Implements: `rbd_mirror_peer_site_list`.
    #[doc(alias = "rbd_mirror_peer_list")]
    #[doc(alias = "rbd_mirror_peer_site_list")]
    pub fn list(&self) -> Result<Vec<Peer>> {
        let peers =
            self.ioctx.mirroring().pool_call("list the mirroring peers of", |raw| raw.mirror_peers())?;
        Ok(peers.into_iter().map(Peer::from).collect())
    }

    /// Adds a peer by its site name and the user that the daemon connects as, such as
    /// `client.rbd-mirror-peer`. [Importing a token](PoolMirroring::import_bootstrap_token) also
    /// adds a peer.
    ///
    /// Implements: `rbd_mirror_peer_site_add`.
    #[doc(alias = "rbd_mirror_peer_add")]
    #[doc(alias = "rbd_mirror_peer_site_add")]
    pub fn add(&self, site_name: &'a str, client_name: &'a str) -> AddPeer<'a> {
        AddPeer { ioctx: self.ioctx, site_name, client_name, direction: Direction::RxTx }
    }

    /// Removes a peer.
    ///
    /// Implements: `rbd_mirror_peer_site_remove`.
    #[doc(alias = "rbd_mirror_peer_remove")]
    #[doc(alias = "rbd_mirror_peer_site_remove")]
    pub fn remove(&self, uuid: &str) -> Result<()> {
        // librbd reports success for a missing peer.
        self.check_peer("remove", uuid)?;
        let c_uuid = self.peer_uuid("remove", uuid)?;
        self.peer_call("remove", uuid, move |raw| raw.mirror_peer_remove(&c_uuid))
    }

    /// Sets the name of a peer's site.
    ///
    /// Implements: `rbd_mirror_peer_site_set_name`.
    #[doc(alias = "rbd_mirror_peer_set_cluster")]
    #[doc(alias = "rbd_mirror_peer_site_set_name")]
    pub fn set_site_name(&self, uuid: &str, site_name: &str) -> Result<()> {
        let operation = "rename";
        let c_uuid = self.peer_uuid(operation, uuid)?;
        let c_name = c_string(operation, || self.peer_object(uuid), site_name)?;
        self.peer_call(operation, uuid, move |raw| raw.mirror_peer_set_site(&c_uuid, &c_name))
    }

    /// Sets the user that the daemon connects to a peer as, such as `client.rbd-mirror-peer`.
    ///
    /// Implements: `rbd_mirror_peer_site_set_client_name`.
    #[doc(alias = "rbd_mirror_peer_set_client")]
    #[doc(alias = "rbd_mirror_peer_site_set_client_name")]
    pub fn set_client_name(&self, uuid: &str, client_name: &str) -> Result<()> {
        let operation = "set the client of";
        let c_uuid = self.peer_uuid(operation, uuid)?;
        let c_name = c_string(operation, || self.peer_object(uuid), client_name)?;
        self.peer_call(operation, uuid, move |raw| raw.mirror_peer_set_client(&c_uuid, &c_name))
    }

    /// Sets the direction of replication.
    ///
    /// Implements: `rbd_mirror_peer_site_set_direction`.
    #[doc(alias = "rbd_mirror_peer_site_set_direction")]
    pub fn set_direction(&self, uuid: &str, direction: Direction) -> Result<()> {
        let operation = "set the direction of";
        let c_uuid = self.peer_uuid(operation, uuid)?;
        let set = move |raw: &RawIoCtx| raw.mirror_peer_set_direction(&c_uuid, direction.raw());
        self.peer_call(operation, uuid, set)
    }

    /// Returns the access data of a peer. Asks the monitors, which needs a capability that not
    /// every client has.
    ///
    /// Implements: `rbd_mirror_peer_site_get_attributes`.
    #[doc(alias = "rbd_mirror_peer_get_attributes")]
    #[doc(alias = "rbd_mirror_peer_site_get_attributes")]
    pub fn access(&self, uuid: &str) -> Result<PeerAccess> {
        let operation = "read the access data of";
        let c_uuid = self.peer_uuid(operation, uuid)?;
        let access = move |raw: &RawIoCtx| match raw.mirror_peer_access(&c_uuid) {
            // No access data is set.
            Err(Errno::ENOENT) => Ok(RawPeerAccess::default()),
            access => access,
        };
        self.check_peer(operation, uuid)?;
        let access = self.peer_call(operation, uuid, access)?;
        Ok(PeerAccess {
            mon_host: access.mon_host.map(|host| String::clone(&host)),
            key: access.key.map(|key| Key::new(&key)),
        })
    }

    /// Replaces the access data of a peer. `None` removes a value. Refuses a malformed key.
    ///
    /// Implements: `rbd_mirror_peer_site_set_attributes`.
    #[doc(alias = "rbd_mirror_peer_set_attributes")]
    #[doc(alias = "rbd_mirror_peer_site_set_attributes")]
    pub fn set_access(&self, uuid: &str, access: &PeerAccess) -> Result<()> {
        let operation = "set the access data of";
        self.check_peer(operation, uuid)?;
        let c_uuid = self.peer_uuid(operation, uuid)?;
        let host =
            access.mon_host.as_deref().map(|host| c_string(operation, || self.peer_object(uuid), host));
        let (host, mut key) = (host.transpose()?, None);
        if let Some(given) = &access.key {
            let refused = |why| Error::invalid(operation, self.peer_object(uuid), format!("the key {why}"));
            given.decode().map_err(refused)?;
            key = secret_c_string(given.expose());
        }
        self.peer_call(operation, uuid, move |raw| {
            let (host, key) = (host.as_deref(), key.as_ref().map(|key| key.as_c_str()));
            raw.mirror_peer_set_access(&c_uuid, host, key)
        })
    }

    fn peer_object(self, uuid: &str) -> Object {
        Object::new(ObjectKind::MirrorPeer, format!("{}/{uuid}", self.ioctx.pool()))
    }

    fn peer_uuid(self, operation: &'static str, uuid: &str) -> Result<std::ffi::CString> {
        c_string(operation, || self.peer_object(uuid), uuid)
    }

    fn peer_call<T>(
        self,
        operation: &'static str,
        uuid: &str,
        call: impl FnOnce(&RawIoCtx) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
    {
        let result = self.ioctx.bounded(operation, || self.peer_object(uuid), call);
        result.map_err(|error| self.ioctx.mirroring().explain(error))
    }

    fn check_peer(self, operation: &'static str, uuid: &str) -> Result<()> {
        if self.list()?.iter().any(|peer| peer.uuid == uuid) {
            return Ok(());
        }
        Err(Error::new(operation, self.peer_object(uuid), Errno::ENOENT))
    }
}

impl AddPeer<'_> {
    /// Sets the direction of replication: [`Direction::RxOnly`] or [`Direction::RxTx`]. Default:
    /// [`Direction::RxTx`].
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Adds the peer and returns its uuid. Blocks.
    pub fn run(self) -> Result<String> {
        let AddPeer { ioctx, site_name, client_name, direction } = self;
        let operation = "add";
        let object = || Object::new(ObjectKind::MirrorPeer, format!("{}/{site_name}", ioctx.pool()));
        direction.check_new(operation, object)?;
        if site_name.is_empty() {
            return Err(Error::invalid(operation, object(), "the site name is empty"));
        }
        let c_site = c_string(operation, object, site_name)?;
        let c_client = c_string(operation, object, client_name)?;
        let add = move |raw: &RawIoCtx| raw.mirror_peer_add(direction.raw(), &c_site, &c_client);
        ioctx.bounded(operation, object, add).map_err(|error| ioctx.mirroring().explain(error)).map_err(
            |error| match error.kind() {
                ErrorKind::AlreadyExists => error.with_detail("the pool already has a peer at this site"),
                _ => error,
            },
        )
    }
}

impl From<RawPeer> for Peer {
    fn from(raw: RawPeer) -> Peer {
        Peer {
            uuid: raw.uuid,
            direction: Direction::from_raw(raw.direction),
            site_name: raw.site_name,
            mirror_uuid: raw.mirror_uuid,
            client_name: raw.client_name,
            last_seen: time(raw.last_seen),
        }
    }
}

impl Direction {
    fn from_raw(direction: u32) -> Direction {
        match direction {
            0 => Direction::RxOnly,
            1 => Direction::TxOnly,
            2 => Direction::RxTx,
            other => Direction::Unknown(other),
        }
    }

    /// Checks the direction of a new peer, of which librbd accepts only two.
    pub(super) fn check_new(self, operation: &'static str, object: impl FnOnce() -> Object) -> Result<()> {
        match self {
            Direction::RxOnly | Direction::RxTx => Ok(()),
            other => {
                let why = format!("the direction of a new peer is rx-only or rx-tx, not {other}");
                Err(Error::invalid(operation, object(), why))
            }
        }
    }

    pub(super) fn raw(self) -> u32 {
        match self {
            Direction::RxOnly => 0,
            Direction::TxOnly => 1,
            Direction::RxTx => 2,
            Direction::Unknown(direction) => direction,
        }
    }
}

/// Prints the words of the `rbd` command: `rx-only`, `tx-only`, `rx-tx`.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Direction::RxOnly => f.write_str("rx-only"),
            Direction::TxOnly => f.write_str("tx-only"),
            Direction::RxTx => f.write_str("rx-tx"),
            Direction::Unknown(direction) => write!(f, "unknown ({direction})"),
        }
    }
}
