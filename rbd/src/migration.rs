//! Moves an image to another pool, name or layout. Clients close it for the start, and can use it
//! in its new place while the data is copied.
//!
//! ```no_run
//! # let cluster = rbd::Cluster::connect()?;
//! let (slow, fast) = (cluster.ioctx("slow")?, cluster.ioctx("fast")?);
//! slow.prepare_migration("vm-7", &fast, "vm-7").run()?;
//! let migration = fast.migration("vm-7");
//! migration.execute().run()?;
//! println!("{}", migration.status()?.state);
//! migration.commit().run()?;
//! # Ok::<(), rbd::Error>(())
//! ```

use std::fmt;
use std::sync::Arc;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, Result};
use crate::features::Features;
use crate::image::Image;
use crate::image::trimming::Source;
use crate::ioctx::IoCtx;
use crate::ioctx::new_image::{NewImage, new_image_setters};
use crate::names::{c_string, c_value, json_object, new_name};
use crate::progress::LongOperation;
use crate::raw::ioctx::IoCtx as RawIoCtx;
use crate::raw::migration::RawMigrationEnd;

/// Starts a migration: see [`IoCtx::prepare_migration`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct PrepareMigration<'a> {
    from: &'a IoCtx,
    image: &'a str,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
}

/// Starts an import: see [`IoCtx::prepare_import`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct PrepareImport<'a> {
    source: &'a str,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
}

/// A started migration: see [`IoCtx::migration`].
#[derive(Debug, Clone, Copy)]
pub struct Migration<'a> {
    ioctx: &'a IoCtx,
    image: &'a str,
}

/// The status of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The source image. For an import, its names are empty and its pool id is negative.
    pub source: MigrationEnd,
    /// The destination image.
    pub destination: MigrationEnd,
    /// The state.
    pub state: MigrationState,
    /// Ceph's description of the state, such as the reason of a failure.
    pub description: String,
}

/// The source or destination of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationEnd {
    /// The pool's id.
    pub pool_id: i64,
    /// The namespace; empty for the default one.
    pub namespace: String,
    /// The image's name.
    pub name: String,
    /// The image's id.
    pub id: String,
}

/// The state of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MigrationState {
    /// The migration has failed and must be aborted.
    Error,
    /// The destination is being created.
    Preparing,
    /// Clients can use the destination. Data that is not yet copied is read from the source.
    Prepared,
    /// Data is being copied.
    Executing,
    /// All data is copied, and the migration can be committed.
    Executed,
    /// The migration is being aborted.
    Aborting,
    /// A state that this crate does not know.
    Unknown(i32),
}

impl IoCtx {
    /// Starts to move an image to a name in any pool or namespace, optionally with another layout.
    ///
    /// Close the image in all clients first: the call fails if one has it mapped or open for
    /// writing. Afterwards only the destination can be opened. It shows all data, although none is
    /// copied yet. Then [execute](Migration::execute) and [commit](Migration::commit), or
    /// [abort](Migration::abort).
    ///
    /// Waits for removed snapshots of the image as [`Image::deep_copy_to`] does, and fails with
    /// [`ErrorKind::Busy`] before anything is changed.
    ///
    /// ```no_run
    /// # let cluster = rbd::Cluster::connect()?;
    /// let (slow, fast) = (cluster.ioctx("slow")?, cluster.ioctx("fast")?);
    /// slow.prepare_migration("vm-7", &fast, "vm-7").run()?;
    /// // Clients open fast/vm-7 from here on.
    /// let migration = fast.migration("vm-7");
    /// migration.execute().run()?;
    /// migration.commit().run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_migration_prepare`.
    #[doc(alias = "rbd_migration_prepare")]
    pub fn prepare_migration<'a>(
        &'a self,
        image: &'a str,
        to: &'a IoCtx,
        name: &'a str,
    ) -> PrepareMigration<'a> {
        PrepareMigration { from: self, image, ioctx: to, name, new: NewImage::default() }
    }

    /// Starts to import an external image into a new image, which can be used at once. `source` is
    /// JSON as in Ceph's documentation of live migration: a `raw`, `qcow` or `native` format over a
    /// `file`, `http` or `s3` stream.
    ///
    /// If the source is an image of a cluster, remove no snapshot of it shortly before or during
    /// the import: librbd would leave out data of older snapshots without an error until the OSDs
    /// have trimmed the removed one. [`Image::deep_copy_to`] can wait for that; this call cannot
    /// ask another cluster.
    ///
    /// Implements: `rbd_migration_prepare_import`.
    #[doc(alias = "rbd_migration_prepare_import")]
    pub fn prepare_import<'a>(&'a self, source: &'a str, name: &'a str) -> PrepareImport<'a> {
        PrepareImport { source, ioctx: self, name, new: NewImage::default() }
    }

    /// Returns a started migration, by the name of its source or destination.
    pub fn migration<'a>(&'a self, image: &'a str) -> Migration<'a> {
        Migration { ioctx: self, image }
    }
}

impl<'a> PrepareMigration<'a> {
    new_image_setters!();

    /// Sets whether to copy the parent's data too, so that the destination is no clone. Default:
    /// off.
    pub fn flatten(mut self, flatten: bool) -> Self {
        self.new.flatten = flatten;
        self
    }

    /// Starts the migration. Blocks.
    pub fn run(self) -> Result<()> {
        let PrepareMigration { from, image, ioctx, name, new } = self;
        let (operation, object) = ("migrate", || from.image_object(image));
        from.check_same_cluster(operation, object, ioctx)?;
        let c_image = c_string(operation, object, image)?;
        let c_name = new_name(operation, || ioctx.image_object(name), name)?;
        let options = new.options(operation, || ioctx.image_object(name))?;
        // If it cannot be opened, librbd says why below.
        if let Ok(source) = from.open(image).read_only(true).run() {
            source.trimming_source(operation)?.wait_until_trimmed(from, operation, &object())?;
            source.close()?;
        }
        let into = Arc::clone(ioctx.raw());
        let prepare = move |raw: &RawIoCtx| raw.migration_prepare(&c_image, &into, &c_name, &options);
        from.bounded(operation, object, prepare)
            .map_err(|error| explain(&new, from, image, ioctx, name, error))
    }
}

/// Adds the clients that watch the image, or the name that is already in use.
fn explain(new: &NewImage<'_>, from: &IoCtx, image: &str, ioctx: &IoCtx, name: &str, error: Error) -> Error {
    if error.is_already_exists() {
        return error
            .with_detail(format!("an image '{}' already exists; choose another name", ioctx.spec(name)));
    }
    if error.is_busy() {
        return from.with_watchers(image, error);
    }
    new.explain(ioctx, error)
}

/// Explains EINVAL, which librbd returns for an image that is not in a migration.
fn explain_state(ioctx: &IoCtx, image: &str, error: Error) -> Error {
    if !matches!(error.errno(), Some(Errno::EINVAL | Errno::ENOENT)) {
        return error;
    }
    match ioctx.open(image).read_only(true).run().and_then(|image| image.features()) {
        Ok(features) if !features.contains(Features::MIGRATING) => error
            .with_kind(ErrorKind::InvalidInput)
            .with_detail("it is not in a migration; start one with `prepare_migration`"),
        Err(missing) if missing.is_not_found() => error.with_kind(missing.kind().clone()),
        _ => error,
    }
}

impl<'a> PrepareImport<'a> {
    new_image_setters!();

    /// Starts the import. Blocks.
    pub fn run(self) -> Result<()> {
        let PrepareImport { source, ioctx, name, new } = self;
        let (operation, object) = ("import", || ioctx.image_object(name));
        check_source(source).map_err(|why| Error::invalid(operation, object(), why))?;
        let c_source = c_value(operation, object, source)?;
        let c_name = new_name(operation, object, name)?;
        let options = new.options(operation, object)?;
        let prepare = move |raw: &RawIoCtx| raw.migration_prepare_import(&c_source, &c_name, &options);
        ioctx.bounded(operation, object, prepare).map_err(|error| new.explain(ioctx, error))
    }
}

/// Refuses a source that is no JSON object. The error does not show the text, which may contain the
/// secret key of an S3 store.
pub(crate) fn check_source(source: &str) -> Result<(), String> {
    json_object("source", source)
}

impl<'a> Migration<'a> {
    /// Returns the status. Fails if the image is not in a migration.
    ///
    /// Implements: `rbd_migration_status`.
    #[doc(alias = "rbd_migration_status")]
    pub fn status(&self) -> Result<MigrationStatus> {
        let operation = "read the migration of";
        let object = || self.ioctx.image_object(self.image);
        let image = c_string(operation, object, self.image)?;
        let status = self.ioctx.bounded(operation, object, move |raw| raw.migration_status(&image));
        let raw = status.map_err(|error| explain_state(self.ioctx, self.image, error))?;
        Ok(MigrationStatus {
            source: raw.source.into(),
            destination: raw.destination.into(),
            state: MigrationState::from_raw(raw.state.0),
            description: raw.description,
        })
    }

    /// Copies the data. Clients may use the destination meanwhile. A break of the progress callback
    /// ends only the reports. Waits for removed snapshots of the source as [`Image::deep_copy_to`]
    /// does.
    ///
    /// Implements: `rbd_migration_execute_with_progress`.
    #[doc(alias = "rbd_migration_execute")]
    #[doc(alias = "rbd_migration_execute_with_progress")]
    pub fn execute(&self) -> LongOperation<'a> {
        let migration @ Migration { ioctx, image } = *self;
        LongOperation::new(move |progress| {
            let (operation, object) = ("execute the migration of", || ioctx.image_object(image));
            let c_image = c_string(operation, object, image)?;
            migration.wait_until_trimmed(operation, &object())?;
            let pool = Arc::clone(ioctx.raw());
            let result = ioctx.bounded_long(operation, object, progress, move |_, progress| {
                pool.migration_execute(&c_image, progress)
            });
            result.map_err(|error| explain_state(ioctx, image, error))
        })
    }

    /// Waits for the snapshots of the source: another program may have prepared the migration.
    fn wait_until_trimmed(&self, operation: &'static str, object: &Object) -> Result<()> {
        // Without a status, librbd says below what is wrong.
        let Ok(MigrationStatus { source, .. }) = self.status() else { return Ok(()) };
        // An import comes from elsewhere.
        if source.pool_id < 0 || source.id.is_empty() {
            return Ok(());
        }
        let cluster = self.ioctx.cluster();
        let ioctx = cluster.ioctx(&cluster.pools().name(source.pool_id)?)?;
        let ioctx = ioctx.with_namespace(&source.namespace)?;
        Source::by_id(&ioctx, operation, object, &source.id)?.wait_until_trimmed(&ioctx, operation, object)
    }

    /// Removes the source after all data is copied. First close the read-only handles of the
    /// destination: librbd does not tell them that the source is gone. Handles for writing can stay
    /// open.
    ///
    /// Implements: `rbd_migration_commit_with_progress`.
    #[doc(alias = "rbd_migration_commit")]
    #[doc(alias = "rbd_migration_commit_with_progress")]
    pub fn commit(&self) -> LongOperation<'a> {
        let Migration { ioctx, image } = *self;
        LongOperation::new(move |progress| {
            let (operation, object) = ("commit the migration of", || ioctx.image_object(image));
            let c_image = c_string(operation, object, image)?;
            let result = ioctx.bounded_long(operation, object, progress, move |raw, progress| {
                raw.migration_commit(&c_image, progress)
            });
            result.map_err(|error| explain_state(ioctx, image, error))
        })
    }

    /// Aborts the migration: removes the destination and restores the source. Data that was written
    /// to the destination is copied back as far as possible. No client may have the destination
    /// open.
    ///
    /// Implements: `rbd_migration_abort_with_progress`.
    #[doc(alias = "rbd_migration_abort")]
    #[doc(alias = "rbd_migration_abort_with_progress")]
    pub fn abort(&self) -> LongOperation<'a> {
        let Migration { ioctx, image } = *self;
        LongOperation::new(move |progress| {
            let (operation, object) = ("abort the migration of", || ioctx.image_object(image));
            let c_image = c_string(operation, object, image)?;
            let result = ioctx.bounded_long(operation, object, progress, move |raw, progress| {
                raw.migration_abort(&c_image, progress)
            });
            result.map_err(|error| explain_state(ioctx, image, error))
        })
    }
}

impl Image {
    /// Returns the source of a migration as JSON, in the form that [`IoCtx::prepare_import`] takes.
    /// Fails if the image is not in a migration.
    ///
    /// Implements: `rbd_get_migration_source_spec`.
    #[doc(alias = "rbd_get_migration_source_spec")]
    pub fn migration_source_spec(&self) -> Result<String> {
        self.bounded("read the migration source of", move |raw| raw.migration_source_spec())
    }
}

impl MigrationState {
    fn from_raw(state: i32) -> MigrationState {
        match state {
            0 => MigrationState::Error,
            1 => MigrationState::Preparing,
            2 => MigrationState::Prepared,
            3 => MigrationState::Executing,
            4 => MigrationState::Executed,
            5 => MigrationState::Aborting,
            other => MigrationState::Unknown(other),
        }
    }
}

impl From<RawMigrationEnd> for MigrationEnd {
    fn from(raw: RawMigrationEnd) -> MigrationEnd {
        MigrationEnd { pool_id: raw.pool_id, namespace: raw.namespace, name: raw.name, id: raw.id }
    }
}

/// Prints the words of the `rbd` command: `prepared`, `executed` …
impl fmt::Display for MigrationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MigrationState::Error => f.write_str("error"),
            MigrationState::Preparing => f.write_str("preparing"),
            MigrationState::Prepared => f.write_str("prepared"),
            MigrationState::Executing => f.write_str("executing"),
            MigrationState::Executed => f.write_str("executed"),
            MigrationState::Aborting => f.write_str("aborting"),
            MigrationState::Unknown(state) => write!(f, "unknown ({state})"),
        }
    }
}
