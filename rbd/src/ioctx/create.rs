//! Creating images.

use super::IoCtx;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::features::Features;
use crate::names::{c_string, new_name};
use crate::raw::RawResult;
use crate::raw::options::{ImageOptions, Opt};

/// The object sizes that RBD has: 4 KiB to 32 MiB.
const ORDERS: std::ops::RangeInclusive<u32> = 12..=25;

/// Creates an image: see [`IoCtx::create`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `run`"]
pub struct CreateImage<'a> {
    ioctx: &'a IoCtx,
    name: &'a str,
    size: u64,
    features: Option<Features>,
    object_size: Option<u64>,
    striping: Option<(u64, u64)>,
    data_pool: Option<&'a str>,
}

impl IoCtx {
    /// Creates an image of a size in bytes. What is not set follows the configuration (`rbd_default_…`).
    ///
    /// ```no_run
    /// # let ioctx = rbd::Cluster::connect()?.ioctx("rbd")?;
    /// ioctx.create("foo", 1 << 30).features(rbd::Features::LAYERING).run()?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// Implements: `rbd_create4`.
    #[doc(alias = "rbd_create")]
    #[doc(alias = "rbd_create2")]
    #[doc(alias = "rbd_create3")]
    #[doc(alias = "rbd_create4")]
    pub fn create<'a>(&'a self, name: &'a str, size: u64) -> CreateImage<'a> {
        CreateImage {
            ioctx: self,
            name,
            size,
            features: None,
            object_size: None,
            striping: None,
            data_pool: None,
        }
    }
}

impl<'a> CreateImage<'a> {
    /// Exactly these features; those of [`striping`](Self::striping) and [`data_pool`](Self::data_pool) are added by themselves.
    pub fn features(mut self, features: Features) -> Self {
        self.features = Some(features);
        self
    }

    /// The size of the image's objects in bytes: a power of two from 4 KiB to 32 MiB. Default 4 MiB.
    pub fn object_size(mut self, bytes: u64) -> Self {
        self.object_size = Some(bytes);
        self
    }

    /// Stripes over `count` objects in units of `unit` bytes, which must divide the object size.
    pub fn striping(mut self, unit: u64, count: u64) -> Self {
        self.striping = Some((unit, count));
        self
    }

    /// Keeps the data in another pool, such as an erasure-coded one with overwrites.
    pub fn data_pool(mut self, pool: &'a str) -> Self {
        self.data_pool = Some(pool);
        self
    }

    /// Creates it. Blocks.
    pub fn run(self) -> Result<()> {
        let object = || self.ioctx.image_object(self.name);
        let name = new_name("create", object, self.name)?;
        self.check().map_err(|why| Error::invalid("create", object(), why))?;
        let options = self.options()?;
        let create = || self.ioctx.raw().create(&name, self.size, &options);
        self.ioctx.call("create", object, create).map_err(|error| self.explain(error))
    }

    /// Refuses before anything is touched what librbd would refuse late, or change in silence.
    fn check(&self) -> Result<(), String> {
        if let Some(features) = self.features {
            features.check_create().map_err(|conflict| conflict.to_string())?;
        }
        let object_size = match self.object_size {
            Some(size) if !size.is_power_of_two() || !ORDERS.contains(&size.trailing_zeros()) => {
                return Err(format!(
                    "an object size of {size} bytes is not a power of two from 4 KiB to 32 MiB"
                ));
            }
            Some(size) => size,
            None => 4 << 20,
        };
        if let Some((unit, count)) = self.striping {
            if unit == 0 || count == 0 {
                return Err(format!(
                    "striping of {count} objects in units of {unit} bytes: neither may be zero"
                ));
            }
            if self.object_size.is_some() && object_size % unit != 0 {
                return Err(format!(
                    "a stripe unit of {unit} bytes does not divide the object size of {object_size}"
                ));
            }
        }
        Ok(())
    }

    fn options(&self) -> Result<ImageOptions> {
        let mut options = ImageOptions::new();
        let mut fill = || -> RawResult<()> {
            options.set_number(Opt::Format, 2)?;
            if let Some(features) = self.features {
                options.set_number(Opt::Features, features.bits())?;
            }
            if let Some(size) = self.object_size {
                options.set_number(Opt::Order, u64::from(size.trailing_zeros()))?;
            }
            if let Some((unit, count)) = self.striping {
                options.set_number(Opt::StripeUnit, unit)?;
                options.set_number(Opt::StripeCount, count)?;
            }
            Ok(())
        };
        let object = || self.ioctx.image_object(self.name);
        fill().map_err(|errno| Error::new("set the options of", object(), errno))?;
        if let Some(pool) = self.data_pool {
            let pool = c_string("create", object, pool)?;
            options
                .set_text(Opt::DataPool, &pool)
                .map_err(|errno| Error::new("set the options of", object(), errno))?;
        }
        Ok(options)
    }

    /// ENOENT does not mean the image: find out which of the things it lives in is missing.
    fn explain(&self, error: Error) -> Error {
        if error.errno() != Some(Errno::ENOENT) {
            return error;
        }
        let Some(missing) = self.missing() else { return error };
        let what = missing.kind;
        error
            .with_kind(ErrorKind::NotFound { what })
            .with_detail(format!("the {missing} does not exist; create it first"))
    }

    fn missing(&self) -> Option<Object> {
        if let Some(pool) = self.data_pool {
            if self.ioctx.cluster().pool_id(pool).is_err_and(|error| error.is_not_found()) {
                return Some(Object::new(ObjectKind::DataPool, pool));
            }
        }
        let namespace = self.ioctx.namespace();
        let gone = !namespace.is_empty() && matches!(self.ioctx.namespace_exists(namespace), Ok(false));
        gone.then(|| Object::new(ObjectKind::Namespace, namespace))
    }
}
