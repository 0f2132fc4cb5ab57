//! Creates, lists, opens and removes images in a pool and namespace.
//!
//! ```no_run
//! use rbd::Features;
//! let pool = rbd::Cluster::connect()?.ioctx("rbd")?.with_namespace("team")?;
//! pool.create("foo", 1 << 30).features(Features::LAYERING | Features::EXCLUSIVE_LOCK).run()?;
//! for image in pool.list()? {
//!     println!("{}", image.name);
//! }
//! pool.remove("foo").run()?;
//! # Ok::<(), rbd::Error>(())
//! ```

mod application;
mod causes;
pub(crate) mod config;
mod create;
mod images;
pub(crate) mod metadata;
mod namespaces;
pub(crate) mod new_image;
pub(crate) mod purge;
mod stats;
pub(crate) mod trash;

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use crate::cluster::{Cluster, PoolUsage};
use crate::error::{Object, ObjectKind, Result};
use crate::names::{c_string, existing_name, spec_hint};
use crate::progress::Progress;
use crate::raw::{self, ffi::late::Failure};

pub use application::{ApplicationMetadata, Applications, EnableApplication};
pub use create::CreateImage;
pub use images::{ImageEntry, RemoveImage};
pub use namespaces::Namespaces;
pub use stats::{ImageCounts, PoolStats};

/// A pool and one of its namespaces, in which images are created, listed and opened.
///
/// An `IoCtx` is cheap to clone. The namespace is part of the value:
/// [`with_namespace`](IoCtx::with_namespace) returns an `IoCtx` for another namespace.
///
/// A method that returns a `Result` waits for the cluster, for at most the [call
/// timeout](crate::ClusterBuilder::call_timeout). With progress, each step may take that long.
#[derive(Clone)]
pub struct IoCtx {
    raw: Arc<raw::ioctx::IoCtx>,
    cluster: Cluster,
    pool: Arc<str>,
    pool_id: i64,
    namespace: Arc<str>,
}

/// Prepares a pool for images: see [`IoCtx::init`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct InitPool<'a> {
    ioctx: &'a IoCtx,
    force: bool,
}

impl Cluster {
    /// Opens a pool by its name, with the default namespace. `pool` is only the pool's name:
    /// [`ImageSpec`](crate::ImageSpec) parses `pool/namespace/image`.
    ///
    /// Implements: `rados_ioctx_create2`.
    #[doc(alias = "rados_ioctx_create")]
    #[doc(alias = "rados_ioctx_create2")]
    pub fn ioctx(&self, pool: &str) -> Result<IoCtx> {
        let object = || Object::new(ObjectKind::Pool, pool);
        let c_pool = existing_name("open", object, pool)?;
        let id =
            self.bounded("open", object, move |raw| raw.pool_lookup(&c_pool)).map_err(
                |error| match spec_hint(ObjectKind::Pool, pool) {
                    Some(hint) if error.is_not_found() => error.with_detail(hint),
                    _ => error,
                },
            )?;
        self.open_ioctx(pool, id, "", c"")
    }

    /// Opens a pool by its id, with the default namespace.
    ///
    /// Implements: `rados_ioctx_create2`, `rados_ioctx_get_pool_name`.
    #[doc(alias = "rados_ioctx_get_pool_name")]
    pub fn ioctx_by_id(&self, pool_id: i64) -> Result<IoCtx> {
        let ioctx = self.open_ioctx(&pool_id.to_string(), pool_id, "", c"")?;
        let pool = ioctx.bounded("look up", || ioctx.pool_object(), |raw| raw.pool_name())?;
        Ok(IoCtx { pool: pool.into(), ..ioctx })
    }

    fn open_ioctx(&self, pool: &str, pool_id: i64, namespace: &str, c_namespace: &CStr) -> Result<IoCtx> {
        let (cluster, c_namespace) = (Arc::clone(self.raw()), c_namespace.to_owned());
        let open = move || raw::ioctx::IoCtx::open(cluster, pool_id, &c_namespace);
        let raw = self.bounded_call("open", || Object::new(ObjectKind::Pool, pool), open)?;
        Ok(IoCtx {
            raw: Arc::new(raw),
            cluster: self.clone(),
            pool: pool.into(),
            pool_id,
            namespace: namespace.into(),
        })
    }
}

impl IoCtx {
    /// Returns the same pool with another namespace; empty means the default namespace. Does not
    /// check that the namespace exists: see [`Namespaces::exists`].
    ///
    /// Implements: `rados_ioctx_set_namespace`.
    #[doc(alias = "rados_ioctx_set_namespace")]
    pub fn with_namespace(&self, namespace: &str) -> Result<IoCtx> {
        let object = || Object::new(ObjectKind::Namespace, format!("{}/{namespace}", self.pool));
        let c_namespace = c_string("use", object, namespace)?;
        self.cluster.open_ioctx(&self.pool, self.pool_id, namespace, &c_namespace)
    }

    /// Returns the cluster that the pool belongs to.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns the name that the pool had when it was opened.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Returns the id of the pool.
    pub fn pool_id(&self) -> i64 {
        self.pool_id
    }

    /// Returns the namespace; empty for the default one.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the usage of the pool, over all namespaces.
    ///
    /// Implements: `rados_ioctx_pool_stat`.
    #[doc(alias = "rados_ioctx_pool_stat")]
    pub fn usage(&self) -> Result<PoolUsage> {
        let stat = self.bounded("read the usage of", || self.pool_object(), move |raw| raw.pool_stat())?;
        Ok(PoolUsage::from_raw(stat))
    }

    /// Prepares a new pool for images, as `rbd pool init` does: tags the pool for the application
    /// `rbd`.
    ///
    /// Implements: `rbd_pool_init`.
    #[doc(alias = "rbd_pool_init")]
    pub fn init(&self) -> InitPool<'_> {
        InitPool { ioctx: self, force: false }
    }

    pub(crate) fn raw(&self) -> &Arc<raw::ioctx::IoCtx> {
        &self.raw
    }

    pub(crate) fn pool_object(&self) -> Object {
        Object::new(ObjectKind::Pool, &*self.pool)
    }

    /// Returns `rbd/foo`, or `rbd/ns/foo` in a namespace.
    pub(crate) fn spec(&self, image: &str) -> String {
        match &*self.namespace {
            "" => format!("{}/{image}", self.pool),
            namespace => format!("{}/{namespace}/{image}", self.pool),
        }
    }

    pub(crate) fn image_object(&self, image: &str) -> Object {
        Object::new(ObjectKind::Image, self.spec(image))
    }

    /// Makes a call on the pool that may wait for the cluster: see [`Cluster::bounded`].
    pub(crate) fn bounded<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce(&raw::ioctx::IoCtx) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let raw = Arc::clone(&self.raw);
        self.cluster
            .bounded_call(operation, object, move || call(&raw))
            .map_err(|error| self.explain_pool(error))
    }

    /// Makes a call that reports progress: see [`Cluster::bounded_long`].
    pub(crate) fn bounded_long<T, E>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        progress: Progress<'_>,
        call: impl FnOnce(&raw::ioctx::IoCtx, Progress<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        let raw = Arc::clone(&self.raw);
        self.cluster
            .bounded_long(operation, object, progress, move |progress| call(&raw, progress))
            .map_err(|error| self.explain_pool(error))
    }

    pub(crate) fn call<T, E: Into<Failure>>(
        &self,
        operation: impl Into<Cow<'static, str>>,
        object: impl FnOnce() -> Object,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T> {
        self.cluster.call(operation, object, call).map_err(|error| self.explain_pool(error))
    }
}

impl InitPool<'_> {
    /// Sets whether to take over a pool that is tagged for another application. Default: off.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Prepares the pool. Blocks.
    pub fn run(self) -> Result<()> {
        let InitPool { ioctx, force } = self;
        ioctx.bounded("prepare for images", || ioctx.pool_object(), move |raw| raw.pool_init(force))
    }
}

impl fmt::Debug for IoCtx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoCtx")
            .field("pool", &self.pool)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
