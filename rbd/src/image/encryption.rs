//! Encryption by the client: data is encrypted before it leaves this machine.

use std::fmt;

use zeroize::Zeroizing;

use super::Image;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::raw::encryption::RawFormat;

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
    /// Takes the bytes over as they are; a newline at the end of a file with a passphrase belongs to it.
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
    /// Writes an encryption header: **what the image held is lost**, and some megabytes of its size go to the header.
    /// Needs the right to write, and the exclusive lock if the image has that feature. This handle has the encryption loaded afterwards.
    ///
    /// Implements: `rbd_encryption_format`.
    #[doc(alias = "rbd_encryption_format")]
    pub fn format(&self, format: EncryptionFormat, cipher: Cipher, passphrase: &Passphrase) -> Result<()> {
        let operation = "encrypt";
        if self.0.is_read_only() {
            return Err(self.0.refuse(operation, "it is opened read-only").with_kind(ErrorKind::ReadOnly));
        }
        self.0.check_passphrase(operation, passphrase)?;
        self.0.call(operation, |raw| {
            raw.encryption_format(raw_format(format), cipher == Cipher::Aes128, &passphrase.0)
        })
    }

    /// Makes this handle decrypt and encrypt from now on: the size is what is left beside the header, and offsets
    /// count from behind it. Other handles are not affected.
    ///
    /// Implements: `rbd_encryption_load`.
    #[doc(alias = "rbd_encryption_load")]
    pub fn load(&self, format: EncryptionFormat, passphrase: &Passphrase) -> Result<()> {
        let operation = "decrypt";
        self.0.check_passphrase(operation, passphrase)?;
        self.0.call(operation, |raw| raw.encryption_load(raw_format(format), &passphrase.0)).map_err(explain)
    }

    /// As [`load`](Self::load) for a clone whose ancestors are encrypted with passphrases of their
    /// own: that of the image first, then its parent's, and so on. The format is found out where it is `None`.
    ///
    /// Implements: `rbd_encryption_load2`. Needs Ceph 18.2.
    #[doc(alias = "rbd_encryption_load2")]
    pub fn load_chain(&self, chain: &[(Option<EncryptionFormat>, Passphrase)]) -> Result<()> {
        let operation = "decrypt";
        if chain.is_empty() {
            return Err(self.0.refuse(operation, "no passphrase is given"));
        }
        for (_, passphrase) in chain {
            self.0.check_passphrase(operation, passphrase)?;
        }
        let raw_chain: Vec<(RawFormat, &[u8])> = chain
            .iter()
            .map(|(format, passphrase)| (format.map_or(RawFormat::Any, raw_format), passphrase.0.as_slice()))
            .collect();
        self.0.call(operation, |raw| raw.encryption_load_chain(&raw_chain)).map_err(explain)
    }
}

impl Image {
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
