//! Encryption by the client: data is encrypted before it leaves this machine.

use std::fmt;
use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use super::Image;
use super::snapshot::SnapshotRef;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::features::Features;
use crate::raw::image::Image as RawImage;
use crate::raw::image::encryption::{self, RawFormat};

/// A format of encrypted images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EncryptionFormat {
    /// LUKS version 1.
    Luks1,
    /// LUKS version 2.
    Luks2,
}

/// The cipher of a newly encrypted image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Cipher {
    /// AES with keys of 128 bits, in XTS mode.
    Aes128,
    /// AES with keys of 256 bits, in XTS mode.
    #[default]
    Aes256,
}

/// A passphrase: any bytes. Never printed, wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes over as they are; a newline at the end of a file with a passphrase belongs
    /// to it.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Passphrase {
        Passphrase(Zeroizing::new(bytes.into()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// The encryption of an image by the client: see [`Image::encryption`].
#[derive(Debug, Clone, Copy)]
pub struct Encryption<'a>(&'a Image);

impl Image {
    /// Formats an encrypted image, and loads its encryption into this handle.
    pub fn encryption(&self) -> Encryption<'_> {
        Encryption(self)
    }
}

impl Encryption<'_> {
    /// Writes an encryption header: **what the image held is lost**, and some megabytes of its size
    /// go to the header.
    ///
    /// The header of LUKS1 takes 4 MiB of an image with objects of 4 MiB, that of LUKS2 16 MiB.
    /// Needs the right to write, and the exclusive lock if the image has that feature. This handle
    /// has the encryption loaded afterwards. Refused for images that are too small, for images with
    /// the feature journaling, and for a handle that has encryption loaded; for clones, too, by
    /// libraries older than Ceph 18.2. A clone with a header of its own reads what it does not have
    /// from its parent, whatever that is encrypted with: open it again, and give the passphrases of
    /// both to [`load_chain`](Self::load_chain). What was never written reads as anything
    /// afterwards, not as zeros, as with other encryption of disks. Blocks, about a second.
    ///
    /// Implements: `rbd_encryption_format`.
    #[doc(alias = "rbd_encryption_format")]
    pub fn format(&self, format: EncryptionFormat, cipher: Cipher, passphrase: &Passphrase) -> Result<()> {
        let (operation, image) = ("encrypt", self.0);
        if image.is_read_only() {
            return Err(image.refuse(operation, "it is opened read-only").with_kind(ErrorKind::ReadOnly));
        }
        image.check_passphrase(operation, passphrase)?;
        // librbd would write a second header over the first one, and all data would be lost.
        image.refuse_encrypted(operation, "open the image again, and format that handle")?;
        if image.features()?.contains(Features::JOURNALING) {
            let why = "its journal would hold the data in clear: disable the feature journaling first";
            return Err(image.refuse(operation, why).with_kind(ErrorKind::NotSupported));
        }
        if !encryption::has_chains() && image.parent()?.is_some() {
            let why = "it is a clone: flatten it first, or format its parent before the snapshot";
            return Err(image.refuse(operation, why).with_kind(ErrorKind::NotSupported));
        }
        let (size, passphrase) = (image.size()?, passphrase.clone());
        image
            .bounded(operation, move |raw| {
                raw.encryption_format(raw_format(format), cipher == Cipher::Aes128, &passphrase.0)
            })
            .map_err(|error| explain_format(error, size))?;
        image.encrypted.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes this handle decrypt and encrypt from now on. Other handles are not affected.
    ///
    /// Offsets count from behind the header, and sizes are what is left beside it: those of the
    /// image, of its snapshots and of the overlap with a parent, and the size that
    /// [`Image::resize`] takes. What would copy clear data into an image that is not encrypted is
    /// refused, and so is [`Image::at_snapshot`]; each error says which handle to use. Blocks,
    /// about a second.
    ///
    /// Implements: `rbd_encryption_load`.
    #[doc(alias = "rbd_encryption_load")]
    pub fn load(&self, format: EncryptionFormat, passphrase: &Passphrase) -> Result<()> {
        let (operation, image) = ("decrypt", self.0);
        image.check_passphrase(operation, passphrase)?;
        let passphrase = passphrase.clone();
        image
            .bounded(operation, move |raw| raw.encryption_load(raw_format(format), &passphrase.0))
            .map_err(explain)?;
        image.encrypted.store(true, Ordering::Release);
        Ok(())
    }

    /// Loads the encryption of a clone whose ancestors are encrypted with passphrases of their own.
    ///
    /// The chain holds the passphrase of the image first, then that of its parent, and so on. The
    /// format is found out where it is `None`. For the rest see [`load`](Self::load).
    ///
    /// Implements: `rbd_encryption_load2`. Needs Ceph 18.2.
    #[doc(alias = "rbd_encryption_load2")]
    pub fn load_chain(&self, chain: &[(Option<EncryptionFormat>, Passphrase)]) -> Result<()> {
        let (operation, image) = ("decrypt", self.0);
        if chain.is_empty() {
            return Err(image.refuse(operation, "no passphrase is given"));
        }
        for (_, passphrase) in chain {
            image.check_passphrase(operation, passphrase)?;
        }
        let chain = chain.to_vec();
        let load = move |raw: &RawImage| {
            let raw_chain: Vec<(RawFormat, &[u8])> = chain
                .iter()
                .map(|(format, passphrase)| {
                    (format.map_or(RawFormat::Any, raw_format), passphrase.0.as_slice())
                })
                .collect();
            raw.encryption_load_chain(&raw_chain)
        };
        image.bounded(operation, load).map_err(explain)?;
        image.encrypted.store(true, Ordering::Release);
        Ok(())
    }

    /// Returns whether this handle has encryption loaded.
    pub fn is_loaded(&self) -> bool {
        self.0.is_encrypted()
    }
}

impl Image {
    pub(super) fn is_encrypted(&self) -> bool {
        self.encrypted.load(Ordering::Acquire)
    }

    /// Refuses what librbd would do with the stored bytes, or with the clear ones, where the user
    /// expects the other.
    pub(crate) fn refuse_encrypted(&self, operation: &'static str, instead: &str) -> Result<()> {
        if !self.is_encrypted() {
            return Ok(());
        }
        let why = format!("this handle has encryption loaded: {instead}");
        Err(self.refuse(operation, why).with_kind(ErrorKind::NotSupported))
    }

    /// The same version of the image as it is stored: opened again, read-only, without encryption.
    pub(super) fn as_stored(&self) -> Result<Image> {
        let stored = self.open_again()?;
        match self.snapshot() {
            None => Ok(stored),
            Some(name) => {
                let snapshots = self.bounded("list the snapshots of", move |raw| raw.snapshots())?;
                match snapshots.iter().find(|snapshot| snapshot.name == name) {
                    Some(snapshot) => stored.turn_to(snapshot.id),
                    None => self.stored_at(SnapshotRef::Name(name)),
                }
            }
        }
    }

    /// How many bytes at the start of the image the encryption header takes; 0 where no encryption
    /// is loaded.
    pub(super) fn header_size(&self) -> Result<u64> {
        if !self.is_encrypted() {
            return Ok(0);
        }
        for _ in 0..10 {
            let before = self.size()?;
            let stored = self.as_stored()?.size()?;
            if self.size()? == before && stored >= before {
                return Ok(stored - before);
            }
        }
        let why = "another client resizes it all the time, or has cut it below its encryption header";
        Err(self.refuse("read the encryption header of", why))
    }

    /// The header of the version that is shown, with its key slots, as it is stored.
    pub(super) fn stored_header(&self) -> Result<Vec<u8>> {
        // Both formats keep here what belongs to the volume key.
        const LEN: usize = 32 << 10;
        let mut header = vec![0; LEN];
        let read = self.read_at(&mut header, 0)?;
        header.truncate(read);
        Ok(header)
    }

    fn check_passphrase(&self, operation: &'static str, passphrase: &Passphrase) -> Result<()> {
        if passphrase.0.is_empty() {
            return Err(self.refuse(operation, "the passphrase is empty"));
        }
        Ok(())
    }
}

fn raw_format(format: EncryptionFormat) -> RawFormat {
    match format {
        EncryptionFormat::Luks1 => RawFormat::Luks1,
        EncryptionFormat::Luks2 => RawFormat::Luks2,
    }
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => {
            error.with_detail("the passphrase does not open it; check it for a newline at its end")
        }
        Some(Errno::EINVAL) => error.with_kind(ErrorKind::NotSupported).with_detail(
            "it holds no encryption header of this format; format it first, or name the other format",
        ),
        Some(Errno::EEXIST) => error.with_detail("its encryption is loaded already"),
        _ => error,
    }
}

/// librbd says ENOSPC where the image is too small for the header.
fn explain_format(error: Error, size: u64) -> Error {
    // The greatest header has 16 MiB, and ends with a row of objects.
    if error.errno() == Some(Errno::ENOSPC) && size <= 64 << 20 {
        let why = format!("its {size} bytes have no room for the encryption header: resize it first");
        return error.with_kind(ErrorKind::InvalidInput).with_detail(why);
    }
    error
}
