//! The flags that name pools and images.

use super::failure::{EINVAL, Failure};
use super::spec::{ImageSpec, Place};

/// Flags that name a pool and a namespace in it.
#[derive(Debug, clap::Args)]
pub struct PoolFlags {
    /// pool name
    #[arg(short, long)]
    pool: Option<String>,
    /// namespace name
    #[arg(long)]
    namespace: Option<String>,
}

/// Flags that name an image. An image specification, in one word, does the same.
#[derive(Debug, clap::Args)]
pub struct ImageFlags {
    #[command(flatten)]
    pool: PoolFlags,
    /// image name
    #[arg(long)]
    image: Option<String>,
}

/// An image, named by a word or by flags.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    #[command(flatten)]
    flags: ImageFlags,
    /// image specification: [<pool-name>/[<namespace>/]]<image-name>
    image_spec: Option<String>,
}

impl ImageArgs {
    /// Returns the named image.
    pub fn spec(&self) -> Result<ImageSpec, Failure> {
        self.flags.spec(self.image_spec.as_deref())
    }
}

/// Whether progress is shown.
#[derive(Debug, clap::Args)]
pub struct ProgressFlag {
    /// disable progress output
    #[arg(long)]
    no_progress: bool,
}

impl ProgressFlag {
    /// Returns whether to show progress.
    pub fn shown(&self) -> bool {
        !self.no_progress
    }
}

impl PoolFlags {
    /// Returns the place that the flags or the word `pool[/namespace]` name. As in the `rbd`
    /// command, `--pool` displaces the word, and the word's namespace displaces `--namespace`.
    pub fn place(&self, word: Option<&str>) -> Place {
        let word = word.filter(|_| self.pool.is_none());
        Place::from_word(word.unwrap_or_default()).or(self.pool.as_deref(), self.namespace.as_deref())
    }
}

impl ImageFlags {
    /// Returns the image that the flags or the word `[pool/[namespace/]]image` name.
    pub fn spec(&self, word: Option<&str>) -> Result<ImageSpec, Failure> {
        let spec = self.spec_or_snapshot(word, None)?;
        match spec.snapshot {
            Some(_) => Err(Failure::new(EINVAL, "snapshot name specified for a command that doesn't use it")),
            None => Ok(spec),
        }
    }

    /// Like `spec`, for a command that accepts a snapshot, as `image@snap` or `--snap`.
    pub fn spec_or_snapshot(&self, word: Option<&str>, snapshot: Option<&str>) -> Result<ImageSpec, Failure> {
        let word = match (self.image.as_deref(), word) {
            (Some(_), Some(_)) => return Err(Failure::new(1, "too many arguments")),
            (image, word) => image.or(word).unwrap_or_default(),
        };
        if word.is_empty() {
            return Err(Failure::new(EINVAL, "image name was not specified"));
        }
        let ImageSpec { place, image, snapshot: in_word } = word.parse()?;
        let place = place.or(self.pool.pool.as_deref(), self.pool.namespace.as_deref());
        Ok(ImageSpec { place, image, snapshot: in_word.or(snapshot.map(str::to_owned)) })
    }

    /// Returns whether a flag named the image, so that no word names it.
    pub fn is_named(&self) -> bool {
        self.image.is_some()
    }

    /// Returns the place, for commands that do not find the image by its name.
    pub fn place(&self) -> Place {
        self.pool.place(None)
    }
}

/// The kind of block device. This library makes only the kernel's.
#[derive(Debug, clap::Args)]
pub struct DeviceType {
    /// device type [krbd]
    #[arg(short = 't', long, value_parser = ["krbd"], default_value = "krbd")]
    device_type: String,
}
