//! Moves an image to another pool, name or layout while it is in use.
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
use crate::error::{Error, ErrorKind, Result};
use crate::features::Features;
use crate::image::Image;
use crate::ioctx::IoCtx;
use crate::ioctx::new_image::{NewImage, new_image_setters};
use crate::names::{c_string, c_value, new_name};
use crate::progress::LongOperation;
use crate::raw::ioctx::IoCtx as RawIoCtx;
use crate::raw::migration::RawMigrationEnd;

/// Begins a migration: see [`IoCtx::prepare_migration`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct PrepareMigration<'a> {
    from: &'a IoCtx,
    image: &'a str,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
}

/// Begins an import: see [`IoCtx::prepare_import`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct PrepareImport<'a> {
    source: &'a str,
    ioctx: &'a IoCtx,
    name: &'a str,
    new: NewImage<'a>,
}

/// A migration that was begun: see [`IoCtx::migration`].
#[derive(Debug, Clone, Copy)]
pub struct Migration<'a> {
    ioctx: &'a IoCtx,
    image: &'a str,
}

/// How a migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStatus {
    /// The image that moves. Empty names and a negative pool id, where it is imported.
    pub source: MigrationEnd,
    /// Where it moves to.
    pub destination: MigrationEnd,
    /// How far it is.
    pub state: MigrationState,
    /// What Ceph says about the state, such as why it failed.
    pub description: String,
}

/// One end of a migration.
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

/// How far a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MigrationState {
    /// It failed; abort it.
    Error,
    /// The destination is being made.
    Preparing,
    /// Clients can use the destination; data is still read from the source where it is not yet
    /// copied.
    Prepared,
    /// Data is being copied.
    Executing,
    /// All data is copied; it can be committed.
    Executed,
    /// It is being undone.
    Aborting,
    /// Of a kind that this crate does not know.
    Unknown(i32),
}

impl IoCtx {
    /// Begins to move an image from here to a name in any pool or namespace, and into another
    /// layout where that is set.
    ///
    /// Nobody may have it open. From then on only the destination can be opened; it shows all data,
    /// though none is copied yet. Then [execute](Migration::execute) and
    /// [commit](Migration::commit), or [abort](Migration::abort).
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

    /// Begins to import an image from outside into one here, that can be used at once. `source` is
    /// the JSON that Ceph's live migration documents: a `raw`, `qcow` or `native` format over a
    /// `file`, `http` or `s3` stream.
    ///
    /// Implements: `rbd_migration_prepare_import`.
    #[doc(alias = "rbd_migration_prepare_import")]
    pub fn prepare_import<'a>(&'a self, source: &'a str, name: &'a str) -> PrepareImport<'a> {
        PrepareImport { source, ioctx: self, name, new: NewImage::default() }
    }

    /// A migration that was begun, by the name of the source or of the destination.
    pub fn migration<'a>(&'a self, image: &'a str) -> Migration<'a> {
        Migration { ioctx: self, image }
    }
}

impl<'a> PrepareMigration<'a> {
    new_image_setters!();

    /// Copies a clone's data with it, so that it is no clone any more.
    pub fn flatten(mut self, flatten: bool) -> Self {
        self.new.flatten = flatten;
        self
    }

    /// Begins it. Blocks.
    pub fn run(self) -> Result<()> {
        let PrepareMigration { from, image, ioctx, name, new } = self;
        let (operation, object) = ("migrate", || from.image_object(image));
        from.check_same_cluster(operation, object, ioctx)?;
        let c_image = c_string(operation, object, image)?;
        let c_name = new_name(operation, || ioctx.image_object(name), name)?;
        let options = new.options(operation, || ioctx.image_object(name))?;
        let into = Arc::clone(ioctx.raw());
        let prepare = move |raw: &RawIoCtx| raw.migration_prepare(&c_image, &into, &c_name, &options);
        from.bounded(operation, object, prepare)
            .map_err(|error| explain(&new, from, image, ioctx, name, error))
    }
}

/// Names what is in the way: those who have it open, or the name that is taken.
fn explain(new: &NewImage<'_>, from: &IoCtx, image: &str, ioctx: &IoCtx, name: &str, error: Error) -> Error {
    if error.is_exists() {
        return error
            .with_detail(format!("an image '{}' already exists; choose another name", ioctx.spec(name)));
    }
    if error.is_busy() {
        return from.with_watchers(image, error);
    }
    new.explain(ioctx, error)
}

/// librbd says EINVAL of an image that is in no migration.
fn explain_state(ioctx: &IoCtx, image: &str, error: Error) -> Error {
    if !matches!(error.errno(), Some(Errno::EINVAL | Errno::ENOENT)) {
        return error;
    }
    match ioctx.open(image).read_only(true).run().and_then(|image| image.features()) {
        Ok(features) if !features.contains(Features::MIGRATING) => error
            .with_kind(ErrorKind::InvalidInput)
            .with_detail("it is in no migration; begin one with `prepare_migration`"),
        Err(missing) if missing.is_not_found() => error.with_kind(missing.kind().clone()),
        _ => error,
    }
}

impl<'a> PrepareImport<'a> {
    new_image_setters!();

    /// Begins it. Blocks.
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

/// Refuses what is no JSON object: librbd parses it with a function that calls itself for each
/// level of nesting. The parser here gives up beyond 128 levels. The text is not shown, for it may
/// hold the secret key of an S3 store.
pub(crate) fn check_source(source: &str) -> Result<(), String> {
    match serde_json::from_str(source) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err("the source is JSON, but not an object".into()),
        Err(error) => Err(format!("the source is not JSON: {error}")),
    }
}

impl<'a> Migration<'a> {
    /// How it stands. Fails where the image is in no migration.
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
    /// only ends the reports.
    ///
    /// Implements: `rbd_migration_execute_with_progress`.
    #[doc(alias = "rbd_migration_execute")]
    #[doc(alias = "rbd_migration_execute_with_progress")]
    pub fn execute(&self) -> LongOperation<'a> {
        let Migration { ioctx, image } = *self;
        LongOperation::new(move |progress| {
            let (operation, object) = ("execute the migration of", || ioctx.image_object(image));
            let c_image = c_string(operation, object, image)?;
            let result = ioctx.bounded_long(operation, object, progress, move |raw, progress| {
                raw.migration_execute(&c_image, progress)
            });
            result.map_err(|error| explain_state(ioctx, image, error))
        })
    }

    /// Removes the source, after all data is copied. Nobody may have the destination open by an
    /// older handle.
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

    /// Undoes it: removes the destination and gives the source back. What was written to the
    /// destination is copied back as far as it can be; nobody may have it open.
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
    /// Where an image in migration gets its data from: the JSON that [`IoCtx::prepare_import`]
    /// takes. Fails where it is in no migration.
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

/// In the words of the `rbd` command: `prepared`, `executed` …
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
