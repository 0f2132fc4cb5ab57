//! The flags that choose the cluster and the user.

use std::ops::Deref;
use std::path::PathBuf;

use rbd::{Cluster, Errno, IoCtx, ObjectKind};
use rbd_testcluster::TestCluster;

use super::failure::{Failure, failed, status};
use super::spec::Place;

/// The heading of these flags in `--help`. Each flag names it: `next_help_heading` would also hold
/// for all arguments after them.
const HEADING: &str = "Cluster";

/// Flags that choose the cluster and the user. Without them: CEPH_CONF, CEPH_ARGS and
/// `/etc/ceph/ceph.conf`, as usual.
#[derive(Debug, clap::Args)]
pub struct ClusterFlags {
    /// path to cluster configuration
    #[arg(short, long, help_heading = HEADING)]
    conf: Option<PathBuf>,
    /// cluster name
    #[arg(long, help_heading = HEADING)]
    cluster: Option<String>,
    /// client id (without 'client.' prefix)
    #[arg(long, visible_alias = "user", help_heading = HEADING)]
    id: Option<String>,
    /// client name
    #[arg(short, long, help_heading = HEADING)]
    name: Option<String>,
    /// monitor host
    #[arg(short, long = "mon_host", visible_alias = "mon-host", help_heading = HEADING)]
    mon_host: Option<String>,
    /// path to keyring
    #[arg(short, long, help_heading = HEADING)]
    keyring: Option<PathBuf>,
    /// path to secret key
    #[arg(short = 'K', long, help_heading = HEADING)]
    keyfile: Option<PathBuf>,
    /// secret key; other users of this machine can read it, so prefer --keyfile
    #[arg(long, help_heading = HEADING)]
    key: Option<String>,
    /// start a Ceph cluster on loopback for this run (`rbd` has no such flag)
    #[arg(long, conflicts_with_all = ["conf", "mon_host"], help_heading = HEADING)]
    embedded: bool,
}

/// A connection, and its embedded cluster if there is one.
pub struct Session {
    // In this order: the connection ends before the cluster.
    cluster: Cluster,
    _embedded: Option<TestCluster>,
}

impl Deref for Session {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl ClusterFlags {
    /// Connects.
    pub fn connect(&self) -> Result<Session, Failure> {
        let embedded = self.embedded.then(|| TestCluster::builder().start()).transpose();
        let embedded =
            embedded.map_err(|error| Failure::new(1, "the embedded cluster did not start").because(error))?;
        let mut builder = Cluster::builder();
        if let Some(conf) = embedded.as_ref().map(|cluster| cluster.conf()).or(self.conf.as_deref()) {
            builder = builder.conf_file(conf);
        }
        if let Some(name) = &self.cluster {
            builder = builder.cluster_name(name);
        }
        if let Some(user) = self.name.as_ref().or(self.id.as_ref()) {
            builder = builder.user(user);
        }
        if let Some(monitors) = &self.mon_host {
            builder = builder.monitors(monitors);
        }
        if let Some(keyring) = &self.keyring {
            builder = builder.keyring(keyring);
        }
        if let Some(file) = &self.keyfile {
            builder = builder.key_file(file);
        }
        if let Some(key) = &self.key {
            builder = builder.key(key.as_str());
        }
        let cluster = builder.connect().map_err(|error| match error.object_kind() {
            // The file is read first. The `rbd` command prints no errno for it.
            ObjectKind::File if self.names_conf(error.object_name()) => {
                let message = format!(
                    "global_init: unable to open config file from search list {}",
                    error.object_name()
                );
                Failure::new(1, "").instead(message).because(error).not_begun()
            }
            _ => Failure::new(status(&error), "couldn't connect to the cluster!").because(error),
        })?;
        Ok(Session { cluster, _embedded: embedded })
    }
}

impl ClusterFlags {
    /// Returns whether this is the given configuration file; otherwise it is a keyring.
    fn names_conf(&self, file: &str) -> bool {
        let from_env = std::env::var_os("CEPH_CONF").map(PathBuf::from);
        self.conf.clone().or(from_env).is_some_and(|path| path.as_os_str() == file)
    }
}

impl Session {
    /// Opens the pool and namespace.
    pub fn open(&self, place: &Place) -> Result<IoCtx, Failure> {
        let pool = match &place.pool {
            Some(pool) => pool.clone(),
            None => {
                self.config().get("rbd_default_pool").map_err(failed("reading rbd_default_pool failed"))?
            }
        };
        let ioctx = self.ioctx(&pool).map_err(|error| {
            let failure = failed(format_args!("error opening pool '{pool}'"))(error);
            if !pool.contains('/') {
                return failure;
            }
            // The library explains its own arguments. These are those of a command.
            failure.instead_because(format_args!(
                "no pool has the name '{pool}'; a pool and a namespace are written 'pool/namespace'"
            ))
        })?;
        if place.namespace.is_empty() {
            return Ok(ioctx);
        }
        // A namespace that does not exist looks empty, so check it.
        let exists =
            ioctx.namespaces().exists(&place.namespace).map_err(failed("error asserting namespace"))?;
        if !exists {
            return Err(Failure::new(
                Errno::ENOENT.code(),
                format_args!("namespace '{}' does not exist.", place.namespace),
            ));
        }
        ioctx.with_namespace(&place.namespace).map_err(failed("error opening namespace"))
    }
}
