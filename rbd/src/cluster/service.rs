//! This client as a daemon of a service, which `ceph -s` counts and `ceph service dump` shows.

use super::Cluster;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::c_string;
use crate::raw::cluster::Cluster as RawCluster;
use crate::raw::cluster::service::Dict;

impl Cluster {
    /// Registers this client as a daemon of a service (`rbd-nbd`, `my-gateway` …), with metadata
    /// for other users. The cluster lists the daemon while this connection lives. A connection can
    /// register once.
    ///
    /// Needs a manager, which publishes the entry within seconds.
    ///
    /// Implements: `rados_service_register`.
    #[doc(alias = "rados_service_register")]
    pub fn register_service(&self, service: &str, daemon: &str, metadata: &[(&str, &str)]) -> Result<()> {
        let object = || Object::new(ObjectKind::Service, format!("{service}.{daemon}"));
        let operation = "register";
        if service.is_empty() || daemon.is_empty() {
            return Err(Error::invalid(operation, object(), "the name is empty"));
        }
        let (c_service, c_daemon) =
            (c_string(operation, object, service)?, c_string(operation, object, daemon)?);
        let metadata = dict(operation, object, metadata)?;
        let register = move |raw: &RawCluster| raw.service_register(&c_service, &c_daemon, &metadata);
        self.bounded(operation, object, register).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => error.with_detail(
                "this connection is already registered; open another connection to register again",
            ),
            _ => error,
        })
    }

    /// Replaces the status that the cluster shows for this [registered](Self::register_service)
    /// client. Before the registration, this succeeds although the cluster shows no status.
    ///
    /// Implements: `rados_service_update_status`.
    #[doc(alias = "rados_service_update_status")]
    pub fn update_service_status(&self, status: &[(&str, &str)]) -> Result<()> {
        let (operation, object) = ("set the status of", || Object::new(ObjectKind::Service, self.user()));
        let status = dict(operation, object, status)?;
        self.bounded(operation, object, move |raw| raw.service_status(&status))
    }
}

fn dict(operation: &'static str, object: impl FnOnce() -> Object, pairs: &[(&str, &str)]) -> Result<Dict> {
    Dict::new(pairs.iter().copied()).ok_or_else(|| {
        Error::invalid(operation, object(), "a key is empty, or a key or value contains a NUL byte")
    })
}
