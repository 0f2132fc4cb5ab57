//! Connections: one for each cluster and user, opened at the first request and kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rbd::cluster::Key;
use rbd::{Cluster, IoCtx};
use sha2::{Digest, Sha256};
use tonic::{Code, Status};
use zeroize::Zeroizing;

use crate::config::{ClusterConfig, Config};
use crate::ids::Place;
use crate::status::{self, OrStatus};

/// The timeout of a call. The caller repeats a request that fails with it.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the result of a check for fencing is valid. If the cluster fences the connection in
/// this time, a request fails, and its caller repeats it.
const CHECKED_FOR: Duration = Duration::from_secs(1);

/// Who asks: the user and key of a request's secrets.
#[derive(Clone, Default)]
pub struct Secrets(Option<(String, Zeroizing<String>)>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secrets").field(&self.0.as_ref().map(|(user, _)| user)).finish()
    }
}

impl Secrets {
    /// Takes the user and the key out of a request. A request with neither means the driver's own
    /// user. A request with only one of them is refused when the secrets are used.
    pub fn new(secrets: HashMap<String, String>) -> Secrets {
        let mut secrets: HashMap<String, Zeroizing<String>> =
            secrets.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
        let (user, key) = (secrets.remove("userID"), secrets.remove("userKey"));
        if user.is_none() && key.is_none() {
            return Secrets(None);
        }
        let (user, key) = (user.unwrap_or_default(), key.unwrap_or_default());
        Secrets(Some((user.trim().to_owned(), key)))
    }

    /// Returns the user; `None` if the request named none.
    pub fn user(&self) -> Option<&str> {
        self.0.as_ref().map(|(user, _)| &**user)
    }

    /// Returns user and key; `None` if the request named neither. One without the other is an
    /// error.
    pub fn whole(&self) -> Result<Option<(&str, &Zeroizing<String>)>, Status> {
        match &self.0 {
            Some((user, _)) if user.is_empty() => Err(half("userID", "userKey")),
            Some((_, key)) if key.trim().is_empty() => Err(half("userKey", "userID")),
            whole => Ok(whole.as_ref().map(|(user, key)| (&**user, key))),
        }
    }
}

/// A cluster, its user, and a digest of the key: the key itself is not kept.
type Identity = (String, String, [u8; 32]);
/// Held while the connection is made, so that requests at the same time share it, or its failure.
type Slot = Arc<Mutex<Option<Result<Cluster, Status>>>>;

/// All connections.
#[derive(Debug)]
pub struct Clusters {
    config: Config,
    connect_timeout: Duration,
    call_timeout: Duration,
    slots: Mutex<HashMap<Identity, Slot>>,
    /// The time of the last check that found a connection not fenced, by the connection's instance.
    checked: Mutex<HashMap<u64, Instant>>,
}

impl Clusters {
    /// Starts with these clusters and without a connection.
    pub fn new(config: Config) -> Clusters {
        Clusters {
            config,
            connect_timeout: CONNECT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            slots: Mutex::default(),
            checked: Mutex::default(),
        }
    }

    /// Sets the timeouts of making a connection and of a call. Default: 30 s and 60 s.
    pub fn timeouts(mut self, connect: Duration, call: Duration) -> Clusters {
        (self.connect_timeout, self.call_timeout) = (connect, call);
        self
    }

    /// Returns the clusters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how many connections there are, also those that are being made.
    pub fn connections(&self) -> usize {
        self.slots().len()
    }

    /// Returns a cluster's settings.
    pub fn settings(&self, id: &str) -> Result<&ClusterConfig, Status> {
        self.config.get(id).ok_or_else(|| {
            Status::failed_precondition(format!(
                "cluster '{id}' is not in the driver's file of clusters; add it there, and restart the driver"
            ))
        })
    }

    /// Returns the connection to a cluster, made now if there is none.
    pub fn connect(&self, id: &str, secrets: &Secrets) -> Result<Cluster, Status> {
        let settings = self.settings(id)?;
        let (user, key) = match secrets.whole()? {
            Some((user, key)) => (user.to_owned(), key.clone()),
            None => own_user(settings)?,
        };
        let identity = (id.to_owned(), user.clone(), Sha256::digest(key.as_bytes()).into());
        let slot = Arc::clone(self.slots().entry(identity.clone()).or_default());
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*slot {
            return made.clone();
        }
        let connected = Cluster::builder()
            .ignore_environment(true)
            .no_conf_file(true)
            .monitors(settings.monitors.join(","))
            .user(user)
            .key(Key::from(key.as_str()))
            .connect_timeout(self.connect_timeout)
            .call_timeout(self.call_timeout)
            .connect();
        let cluster = match connected {
            Ok(cluster) => cluster,
            Err(error) => {
                // A failed connection is not kept. Requests that wait for this slot get the
                // failure.
                self.slots().remove(&identity);
                return slot.insert(Err(not_connected(id, &error))).clone();
            }
        };
        tracing::info!(cluster = id, user = cluster.user(), "connected");
        // A connection with the user's former key ends with the last request that uses it.
        self.slots()
            .retain(|other, _| *other == identity || (&other.0, &other.1) != (&identity.0, &identity.1));
        slot.insert(Ok(cluster)).clone()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Identity, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a pool by its name, and the namespace of the class, or else of the cluster.
    pub fn pool(
        &self,
        id: &str,
        pool: &str,
        namespace: Option<&str>,
        secrets: &Secrets,
    ) -> Result<IoCtx, Status> {
        let namespace = match namespace {
            Some(namespace) => namespace,
            None => &self.settings(id)?.rbd.namespace,
        };
        let pool = self.open(id, secrets, |cluster| cluster.ioctx(pool)?.with_namespace(namespace))?;
        if !namespace.is_empty() && !pool.namespaces().exists(namespace).or_status()? {
            return Err(Status::invalid_argument(format!(
                "namespace '{namespace}' is not in pool '{}'; create it (rbd namespace create)",
                pool.pool()
            )));
        }
        Ok(pool)
    }

    /// Opens the pool and namespace of a volume.
    pub fn place(&self, place: &Place, secrets: &Secrets) -> Result<IoCtx, Status> {
        self.open(&place.cluster, secrets, |cluster| {
            cluster.ioctx_by_id(place.pool)?.with_namespace(&place.namespace)
        })
    }

    /// Returns a new connection if the cluster has fenced this one, because no call on it would
    /// succeed.
    fn open(
        &self,
        id: &str,
        secrets: &Secrets,
        open: impl Fn(&Cluster) -> rbd::Result<IoCtx>,
    ) -> Result<IoCtx, Status> {
        let cluster = self.connect(id, secrets)?;
        let opened = open(&cluster);
        let fenced = match &opened {
            Ok(pool) => self.is_fenced(&cluster, pool),
            Err(error) => error.is_blocklisted(),
        };
        if !fenced {
            return opened.or_status();
        }
        tracing::warn!(cluster = id, "this client was fenced off; connecting again");
        self.forget(&cluster);
        open(&self.connect(id, secrets)?).map_err(|error| status::of(&error))
    }

    /// Asks only if the last answer is too old, because asking takes a round trip.
    fn is_fenced(&self, cluster: &Cluster, pool: &IoCtx) -> bool {
        let (instance, now) = (cluster.instance_id(), Instant::now());
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked().get(&instance).is_some_and(|last| now - *last < CHECKED_FOR) {
            return false;
        }
        let fenced = pool.is_blocklisted().unwrap_or(false);
        let mut checked = checked();
        checked.retain(|_, last| now - *last < CHECKED_FOR);
        if !fenced {
            checked.insert(instance, now);
        }
        fenced
    }

    fn forget(&self, cluster: &Cluster) {
        let instance = cluster.instance_id();
        for slot in self.slots().values() {
            // A locked slot is connecting, so it holds no old connection.
            if let Ok(mut slot) = slot.try_lock()
                && matches!(&*slot, Some(Ok(cluster)) if cluster.instance_id() == instance)
            {
                *slot = None;
            }
        }
    }
}

/// Returns the status of a failed connection: which cluster cannot be reached, or that its secrets
/// are wrong.
fn not_connected(id: &str, error: &rbd::Error) -> Status {
    let status = status::of(error);
    let code = match status.code() {
        // Not NOT_FOUND: a missing user must not look like a missing volume, which counts as
        // deleted.
        Code::PermissionDenied | Code::NotFound => Code::Unauthenticated,
        code => code,
    };
    Status::new(code, format!("cluster '{id}' of the file of clusters: {}", status.message()))
}

fn half(missing: &str, there: &str) -> Status {
    Status::invalid_argument(format!(
        "the request's secrets have '{there}' but no '{missing}'; add it to the Secret that the storage \
         class names"
    ))
}

/// The driver's own user, for requests that come without secrets.
fn own_user(settings: &ClusterConfig) -> Result<(String, Zeroizing<String>), Status> {
    let (Some(user), Some(file)) = (&settings.user, &settings.key_file) else {
        return Err(Status::invalid_argument(format!(
            "the request has no secrets 'userID' and 'userKey'; name a secret in the storage class, or set \
             'user' and 'keyFile' of cluster '{}' in the driver's file of clusters",
            settings.id
        )));
    };
    let key = std::fs::read_to_string(file).map_err(|error| {
        Status::failed_precondition(format!("cannot read the key file '{}': {error}", file.display()))
    })?;
    Ok((user.clone(), Zeroizing::new(key)))
}
