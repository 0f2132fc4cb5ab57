//! Mirroring of a pool or namespace.

use std::fmt;

use super::{BootstrapToken, Direction};
use crate::cluster::Cluster;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::ioctx::IoCtx;
use crate::names::c_string;
use crate::raw::ioctx::IoCtx as RawIoCtx;

/// The mirroring mode of a pool or namespace, which decides which images are mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoolMode {
    /// No images.
    Disabled,
    /// Images for which mirroring is [enabled](super::ImageMirroring::enable).
    Image,
    /// All images with the feature journaling.
    Pool,
    /// The pool does not mirror its own images, but it can receive images of another cluster. Needs
    /// Ceph 20.2.
    InitOnly,
    /// A mode that this crate does not know.
    Unknown(u32),
}

/// Mirroring of a pool or namespace: see [`IoCtx::mirroring`].
#[derive(Debug, Clone, Copy)]
pub struct PoolMirroring<'a> {
    pub(super) ioctx: &'a IoCtx,
}

impl Cluster {
    /// Returns the site name of this cluster in mirroring. Default: its fsid.
    ///
    /// Implements: `rbd_mirror_site_name_get`.
    #[doc(alias = "rbd_mirror_site_name_get")]
    pub fn mirror_site_name(&self) -> Result<String> {
        self.bounded("read the mirroring site name of", || self.object(), move |raw| raw.mirror_site_name())
    }

    /// Sets the site name of this cluster in mirroring. An empty name stands for its fsid.
    ///
    /// Implements: `rbd_mirror_site_name_set`.
    #[doc(alias = "rbd_mirror_site_name_set")]
    pub fn set_mirror_site_name(&self, name: &str) -> Result<()> {
        let operation = "set the mirroring site name of";
        let c_name = c_string(operation, || self.object(), name)?;
        self.bounded(operation, || self.object(), move |raw| raw.set_mirror_site_name(&c_name))
    }
}

impl IoCtx {
    /// Returns the group of calls for mirroring of this pool or namespace. Peers always belong to
    /// the whole pool.
    pub fn mirroring(&self) -> PoolMirroring<'_> {
        PoolMirroring { ioctx: self }
    }
}

impl PoolMirroring<'_> {
    /// Returns the mirroring mode, which decides which images are mirrored.
    ///
    /// Implements: `rbd_mirror_mode_get`.
    #[doc(alias = "rbd_mirror_mode_get")]
    pub fn mode(&self) -> Result<PoolMode> {
        let operation = "read the mirroring mode of";
        let mode = self.ioctx.bounded(operation, || self.object(), move |raw| raw.mirror_mode())?;
        Ok(PoolMode::from_raw(mode))
    }

    /// Sets the mirroring mode, which decides which images are mirrored. Remove the peers before
    /// you disable mirroring.
    ///
    /// Disabling ends the mirroring of images that are mirrored by journals. Disable mirroring of
    /// images that are mirrored by snapshots first: otherwise the call fails with
    /// [`ErrorKind::Busy`].
    ///
    /// Implements: `rbd_mirror_mode_set`.
    #[doc(alias = "rbd_mirror_mode_set")]
    pub fn set_mode(&self, mode: PoolMode) -> Result<()> {
        let operation = "set the mirroring mode of";
        if let PoolMode::Unknown(number) = mode {
            let why = format!("this crate does not know the mode {number}");
            return Err(Error::invalid(operation, self.object(), why));
        }
        self.ioctx.check_namespace(operation)?;
        let set = move |raw: &RawIoCtx| raw.set_mirror_mode(mode.raw());
        self.ioctx.bounded(operation, || self.object(), set).map_err(|error| match (mode, error.errno()) {
            (PoolMode::Disabled, Some(Errno::EBUSY)) => {
                error.with_detail("it has mirroring peers; remove them first")
            }
            (PoolMode::Disabled, Some(Errno::EINVAL)) => error
                .with_kind(ErrorKind::Busy { holders: Vec::new() })
                .with_detail("images in it are still mirrored; disable mirroring of each first"),
            _ => error,
        })
    }

    /// Returns the id that identifies this pool to its peers.
    ///
    /// Implements: `rbd_mirror_uuid_get`.
    #[doc(alias = "rbd_mirror_uuid_get")]
    pub fn uuid(&self) -> Result<String> {
        self.pool_call("read the mirroring uuid of", |raw| raw.mirror_uuid())
    }

    /// Returns the peer's namespace that this namespace is mirrored to. Default: the namespace of
    /// the same name.
    ///
    /// Implements: `rbd_mirror_remote_namespace_get`. Needs Ceph 20.2.
    #[doc(alias = "rbd_mirror_remote_namespace_get")]
    pub fn remote_namespace(&self) -> Result<String> {
        let operation = "read the remote namespace of";
        self.ioctx.bounded(operation, || self.object(), move |raw| raw.mirror_remote_namespace())
    }

    /// Sets the peer's namespace that this namespace is mirrored to. Mirroring must be disabled.
    ///
    /// Implements: `rbd_mirror_remote_namespace_set`. Needs Ceph 20.2.
    #[doc(alias = "rbd_mirror_remote_namespace_set")]
    pub fn set_remote_namespace(&self, namespace: &str) -> Result<()> {
        let operation = "set the remote namespace of";
        let c_namespace = c_string(operation, || self.object(), namespace)?;
        let set = move |raw: &RawIoCtx| raw.set_mirror_remote_namespace(&c_namespace);
        self.ioctx.bounded(operation, || self.object(), set)
    }

    /// Creates a token with which another cluster becomes a peer of this pool. Also creates the
    /// user `client.rbd-mirror-peer`. The token contains this user's key: keep it as secret as a
    /// key.
    ///
    /// Implements: `rbd_mirror_peer_bootstrap_create`.
    #[doc(alias = "rbd_mirror_peer_bootstrap_create")]
    pub fn create_bootstrap_token(&self) -> Result<BootstrapToken> {
        let operation = "create a bootstrap token for";
        let token = self.pool_call(operation, |raw| raw.mirror_bootstrap_create())?;
        Ok(BootstrapToken::from_raw(token))
    }

    /// Imports a token of another cluster, whose pool of the same name becomes a peer of this pool.
    /// Connects to that cluster.
    ///
    /// Unless the direction is [`Direction::RxOnly`], this pool also becomes a peer of that pool.
    ///
    /// Implements: `rbd_mirror_peer_bootstrap_import`.
    #[doc(alias = "rbd_mirror_peer_bootstrap_import")]
    pub fn import_bootstrap_token(&self, token: &BootstrapToken, direction: Direction) -> Result<()> {
        let operation = "import a bootstrap token into";
        direction.check_new(operation, || self.ioctx.pool_object())?;
        let invalid = |why| {
            Error::invalid(operation, self.ioctx.pool_object(), format!("it is not a bootstrap token: {why}"))
        };
        token.check().map_err(invalid)?;
        let c_token = token.c_string().ok_or_else(|| invalid("it contains a NUL byte"))?;
        let import = move |raw: &RawIoCtx| raw.mirror_bootstrap_import(direction.raw(), &c_token);
        self.pool_call(operation, import).map_err(|error| match (error.errno(), error.kind()) {
            (Some(Errno::EINVAL), kind) if *kind != ErrorKind::MirroringDisabled => error
                .with_kind(ErrorKind::InvalidInput)
                .with_detail("the token is from this cluster; create it in the other cluster"),
            _ => error,
        })
    }

    /// Makes a call on the pool itself, without a namespace.
    pub(super) fn pool_call<T>(
        self,
        operation: &'static str,
        call: impl FnOnce(&RawIoCtx) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
    {
        let result = self.ioctx.bounded(operation, || self.ioctx.pool_object(), call);
        result.map_err(|error| self.explain(error))
    }

    /// Explains EINVAL, which librbd returns for almost every call if mirroring is disabled.
    pub(super) fn explain(self, error: Error) -> Error {
        let disabled = error.errno() == Some(Errno::EINVAL) && matches!(self.mode(), Ok(PoolMode::Disabled));
        if disabled { error.with_kind(ErrorKind::MirroringDisabled) } else { error }
    }

    pub(super) fn object(self) -> Object {
        match self.ioctx.namespace() {
            "" => self.ioctx.pool_object(),
            namespace => Object::new(ObjectKind::Namespace, format!("{}/{namespace}", self.ioctx.pool())),
        }
    }
}

impl PoolMode {
    fn from_raw(mode: u32) -> PoolMode {
        match mode {
            0 => PoolMode::Disabled,
            1 => PoolMode::Image,
            2 => PoolMode::Pool,
            3 => PoolMode::InitOnly,
            other => PoolMode::Unknown(other),
        }
    }

    fn raw(self) -> u32 {
        match self {
            PoolMode::Disabled => 0,
            PoolMode::Image => 1,
            PoolMode::Pool => 2,
            PoolMode::InitOnly => 3,
            PoolMode::Unknown(mode) => mode,
        }
    }
}

/// Prints the words of the `rbd` command: `disabled`, `image`, `pool`, `init-only`.
impl fmt::Display for PoolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolMode::Disabled => f.write_str("disabled"),
            PoolMode::Image => f.write_str("image"),
            PoolMode::Pool => f.write_str("pool"),
            PoolMode::InitOnly => f.write_str("init-only"),
            PoolMode::Unknown(mode) => write!(f, "unknown ({mode})"),
        }
    }
}
