//! Client-side encryption: data is encrypted before it leaves this machine.

use std::fmt;

use zeroize::Zeroizing;

use super::snapshot::SnapshotRef;
use super::{Image, luks};
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

/// A passphrase of arbitrary bytes. It is never printed, and it is wiped from memory when it is
/// dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Wraps the bytes unchanged. The newline at the end of a passphrase file is part of the
    /// passphrase.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Passphrase {
        Passphrase(Zeroizing::new(bytes.into()))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// The client-side encryption of an image: see [`Image::encryption`].
#[derive(Debug, Clone, Copy)]
pub struct Encryption<'a>(&'a Image);

impl Image {
    /// Returns the group of calls that format an encrypted image and load its encryption into this
    /// handle.
    pub fn encryption(&self) -> Encryption<'_> {
        Encryption(self)
    }
}

impl Encryption<'_> {
    /// Writes an encryption header. **The image's data is lost**, and the header takes some
    /// megabytes of its size.
    ///
    /// For an image with objects of 4 MiB, a LUKS1 header takes 4 MiB and a LUKS2 header 16 MiB.
    /// The call needs write permission, and the exclusive lock if the image has that feature.
    /// Afterwards this handle has the encryption loaded. Blocks for about a second.
    ///
    /// Refused for images that are too small, for images with the feature journaling, for a handle
    /// that has encryption loaded, and, before Ceph 18.2, for clones. A clone with its own header
    /// reads missing data from its parent, even if the parent has another passphrase: open the
    /// clone again, and pass both passphrases to [`load_chain`](Self::load_chain). Ranges that were
    /// never written read as random bytes, not as zeros, as with other disk encryption.
    ///
    /// Implements: `rbd_encryption_format`.
    #[doc(alias = "rbd_encryption_format")]
    pub fn format(&self, format: EncryptionFormat, cipher: Cipher, passphrase: &Passphrase) -> Result<()> {
        let (operation, image) = ("encrypt", self.0);
        if image.is_read_only() {
            let why = "it is open read-only; open it for writing";
            return Err(image.refuse(operation, why).with_kind(ErrorKind::ReadOnly));
        }
        image.check_passphrase(operation, passphrase)?;
        // librbd would write a second header over the first one, and all data would be lost.
        image
            .refuse_encrypted(operation, "open the image again without encryption and format that handle")?;
        if image.features()?.contains(Features::JOURNALING) {
            let why = "its journal would contain unencrypted data; disable the feature journaling first";
            return Err(image.refuse(operation, why).with_kind(ErrorKind::NotSupported));
        }
        if !encryption::has_chains() && image.parent()?.is_some() {
            let why = "it is a clone; flatten it first, or format the parent before you take the \
                       snapshot that you clone";
            return Err(image.refuse(operation, why).with_kind(ErrorKind::NotSupported));
        }
        let stat = image.stat()?;
        let header = luks::header_len(format, cipher, stat.object_size.saturating_mul(image.stripe_count()?));
        if stat.size <= header {
            let size = stat.size;
            let why = format!(
                "its {size} bytes have no room for the encryption header of {header} bytes and data; enlarge it \
                 first"
            );
            return Err(image.refuse(operation, why));
        }
        let passphrase = passphrase.clone();
        image.bounded(operation, move |raw| {
            raw.encryption_format(raw_format(format), cipher == Cipher::Aes128, &passphrase.0, header)
        })
    }

    /// Loads the encryption into this handle, which then encrypts and decrypts data. Other handles
    /// are not affected.
    ///
    /// Offsets then begin after the header, and all sizes exclude it: those of the image, of its
    /// snapshots and of the overlap with a parent, and the size that [`Image::resize`] takes. Calls
    /// that would copy decrypted data into an unencrypted image are refused, and so is
    /// [`Image::at_snapshot`]. Each error names the handle to use. Blocks for about a second.
    ///
    /// Fails with [`PermissionDenied`](crate::ErrorKind::PermissionDenied) if the passphrase is
    /// wrong, and with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if this handle has
    /// encryption loaded already. Fails with [`NotSupported`](crate::ErrorKind::NotSupported) if
    /// the image has no header of this format.
    ///
    /// Implements: `rbd_encryption_load`.
    #[doc(alias = "rbd_encryption_load")]
    pub fn load(&self, format: EncryptionFormat, passphrase: &Passphrase) -> Result<()> {
        let (operation, image) = ("decrypt", self.0);
        image.check_passphrase(operation, passphrase)?;
        let (passphrase, header) = (passphrase.clone(), image.look_at_header(operation)?);
        image
            .bounded(operation, move |raw| raw.encryption_load(raw_format(format), &passphrase.0, header))
            .map_err(explain)?;
        image.loaded(header)
    }

    /// Loads the encryption of a clone whose ancestors have different passphrases.
    ///
    /// The chain holds the passphrase of the image, then that of its parent, and so on. `None`
    /// detects the format. In all other respects, the call works as [`load`](Self::load).
    ///
    /// Implements: `rbd_encryption_load2`. Needs Ceph 18.2.
    #[doc(alias = "rbd_encryption_load2")]
    pub fn load_chain(&self, chain: &[(Option<EncryptionFormat>, Passphrase)]) -> Result<()> {
        let (operation, image) = ("decrypt", self.0);
        if chain.is_empty() {
            return Err(
                image.refuse(operation, "no passphrase is given; pass one per encrypted image of the chain")
            );
        }
        for (_, passphrase) in chain {
            image.check_passphrase(operation, passphrase)?;
        }
        let (chain, header) = (chain.to_vec(), image.look_at_header(operation)?);
        let load = move |raw: &RawImage| {
            let raw_chain: Vec<(RawFormat, &[u8])> = chain
                .iter()
                .map(|(format, passphrase)| {
                    (format.map_or(RawFormat::Any, raw_format), passphrase.0.as_slice())
                })
                .collect();
            raw.encryption_load_chain(&raw_chain, header)
        };
        image.bounded(operation, load).map_err(explain)?;
        image.loaded(header)
    }

    /// Returns whether this handle has encryption loaded.
    pub fn is_loaded(&self) -> bool {
        self.0.is_encrypted()
    }
}

impl Image {
    pub(super) fn is_encrypted(&self) -> bool {
        self.raw().is_encrypted()
    }

    /// Refuses a call that would use the encrypted bytes where the user expects decrypted ones, or
    /// the reverse.
    pub(crate) fn refuse_encrypted(&self, operation: &'static str, instead: &str) -> Result<()> {
        if !self.is_encrypted() {
            return Ok(());
        }
        let why = format!("this handle has encryption loaded: {instead}");
        Err(self.refuse(operation, why).with_kind(ErrorKind::NotSupported))
    }

    /// Opens the same version of the image again, read-only and without encryption.
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

    /// Returns the size of the encryption header in bytes; 0 if no encryption is loaded.
    pub(super) fn header_size(&self) -> u64 {
        self.raw().header_len()
    }

    /// Returns the size of the encryption header that is about to be loaded; 0 if there is none.
    /// Refuses an image that is smaller: librbd would load it, and abort the process at the next
    /// call.
    fn look_at_header(&self, operation: &'static str) -> Result<u64> {
        if self.is_encrypted() {
            return Ok(self.header_size());
        }
        let stored = self.as_stored()?;
        let header = luks::header_len_in(&stored.stored_header()?).unwrap_or(0);
        let size = stored.size()?;
        if 0 < size && size < header {
            let why = format!("its {size} bytes are less than {CUT}");
            return Err(self.refuse(operation, why));
        }
        Ok(header)
    }

    /// Completes what is known of the encryption that was loaded.
    fn loaded(&self, header: u64) -> Result<()> {
        if header == 0 {
            // librbd can read the header, but this crate cannot.
            let header = self.as_stored()?.size()?.saturating_sub(self.size()?);
            self.raw().set_header_len(header);
        }
        Ok(())
    }

    /// Refuses a call on an image that another client has made smaller than its encryption header:
    /// librbd would abort the process. After a change it asks the cluster, and blocks.
    pub(super) fn refuse_cut(&self, operation: &str) -> Result<()> {
        if self.header_size() == 0 || !self.is_cut()? {
            return Ok(());
        }
        Err(self.refuse(operation.to_owned(), format!("it is smaller than {CUT}")))
    }

    /// Returns the stored header, with its key slots, of this handle's version.
    pub(super) fn stored_header(&self) -> Result<Vec<u8>> {
        // Both formats store the volume key's data here.
        const LEN: usize = 32 << 10;
        let mut header = vec![0; LEN];
        let read = self.read_at(&mut header, 0)?;
        header.truncate(read);
        Ok(header)
    }

    fn check_passphrase(&self, operation: &'static str, passphrase: &Passphrase) -> Result<()> {
        if passphrase.0.is_empty() {
            return Err(self.refuse(operation, "the passphrase is empty; pass that of the image"));
        }
        Ok(())
    }
}

/// The advice for an image that was made smaller than its encryption header.
const CUT: &str = "its encryption header: another client has shrunk it; enlarge it through a handle that has no \
                   encryption loaded";

fn raw_format(format: EncryptionFormat) -> RawFormat {
    match format {
        EncryptionFormat::Luks1 => RawFormat::Luks1,
        EncryptionFormat::Luks2 => RawFormat::Luks2,
    }
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::EPERM) => error.with_detail("the passphrase is wrong; check it for a newline at its end"),
        Some(Errno::EINVAL) => error.with_kind(ErrorKind::NotSupported).with_detail(
            "it has no encryption header of this format; name the other format, or format the image if it \
             is new, which destroys its data",
        ),
        Some(Errno::EEXIST) => error.with_detail("this handle has already loaded the encryption"),
        _ => error,
    }
}
