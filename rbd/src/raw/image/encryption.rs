//! Encryption of an image's data by librbd, in the formats of LUKS.

use librbd_sys as sys;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::check;
use crate::raw::ffi::late::{LateResult, need};
use crate::raw::image::Image;

/// The encryption format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawFormat {
    Luks1,
    Luks2,
    /// The format that the image has. Only for loading, with Ceph 18.2 or later.
    Any,
}

impl RawFormat {
    fn number(self) -> sys::rbd_encryption_format_t {
        match self {
            RawFormat::Luks1 => sys::RBD_ENCRYPTION_FORMAT_LUKS1,
            RawFormat::Luks2 => sys::RBD_ENCRYPTION_FORMAT_LUKS2,
            RawFormat::Any => sys::late::RBD_ENCRYPTION_FORMAT_LUKS,
        }
    }
}

/// Returns whether the loaded librbd can encrypt a clone separately from its parent.
pub(crate) fn has_chains() -> bool {
    sys::late::rbd_encryption_load2.get().is_some()
}

/// Returns the C options of LUKS1. Those of LUKS2 have the same layout. The passphrase is borrowed.
fn options(aes128: bool, passphrase: &[u8]) -> sys::rbd_encryption_luks1_format_options_t {
    const {
        assert!(
            size_of::<sys::rbd_encryption_luks1_format_options_t>()
                == size_of::<sys::rbd_encryption_luks2_format_options_t>()
        );
    }
    sys::rbd_encryption_luks1_format_options_t {
        alg: if aes128 { sys::RBD_ENCRYPTION_ALGORITHM_AES128 } else { sys::RBD_ENCRYPTION_ALGORITHM_AES256 },
        passphrase: passphrase.as_ptr().cast_mut().cast(),
        passphrase_size: passphrase.len(),
    }
}

impl Image {
    /// Formats the image. `format` must not be [`RawFormat::Any`]. The header will have
    /// `header_len` bytes, and the image has more.
    pub(crate) fn encryption_format(
        &self,
        format: RawFormat,
        aes128: bool,
        passphrase: &[u8],
        header_len: u64,
    ) -> RawResult<()> {
        let mut options = options(aes128, passphrase);
        let (opts, size) = ((&raw mut options).cast(), size_of_val(&options));
        let _one = self.shared().encryption();
        self.shared().mark_written();
        // SAFETY: the image is open, and the lock keeps others from its encryption; options and
        // passphrase live through the call, have the layout of the format, and are only read.
        check(unsafe { sys::rbd_encryption_format(self.as_ptr(), format.number(), opts, size) })?;
        self.has_header(header_len);
        Ok(())
    }

    /// Loads the encryption. `format` must not be [`RawFormat::Any`]. The header has `header_len`
    /// bytes.
    pub(crate) fn encryption_load(
        &self,
        format: RawFormat,
        passphrase: &[u8],
        header_len: u64,
    ) -> RawResult<()> {
        let mut options = options(false, passphrase);
        let (opts, size) = ((&raw mut options).cast(), size_of_val(&options));
        let _one = self.shared().encryption();
        // SAFETY: as in `encryption_format`; the algorithm is ignored.
        check(unsafe { sys::rbd_encryption_load(self.as_ptr(), format.number(), opts, size) })?;
        self.has_header(header_len);
        Ok(())
    }

    /// Loads the encryption of a clone and its ancestors, the image itself first. The header of the
    /// image has `header_len` bytes.
    pub(crate) fn encryption_load_chain(
        &self,
        chain: &[(RawFormat, &[u8])],
        header_len: u64,
    ) -> LateResult<()> {
        let load2 = need(&sys::late::rbd_encryption_load2)?;
        let mut exact: Vec<_> = chain.iter().map(|(_, passphrase)| options(false, passphrase)).collect();
        let mut any: Vec<_> = chain
            .iter()
            .map(|(_, passphrase)| sys::late::rbd_encryption_luks_format_options_t {
                passphrase: passphrase.as_ptr().cast_mut().cast(),
                passphrase_size: passphrase.len(),
            })
            .collect();
        let specs: Vec<sys::late::rbd_encryption_spec_t> = chain
            .iter()
            .zip(exact.iter_mut().zip(&mut any))
            .map(|((format, _), (exact, any))| {
                let (opts, opts_size) = match format {
                    RawFormat::Any => ((&raw mut *any).cast(), size_of_val(any)),
                    _ => ((&raw mut *exact).cast(), size_of_val(exact)),
                };
                sys::late::rbd_encryption_spec_t { format: format.number(), opts, opts_size }
            })
            .collect();
        let _one = self.shared().encryption();
        // SAFETY: the image is open, and the lock keeps others from its encryption; specs, options
        // and passphrases live through the call, have the layouts of their formats, and are only
        // read.
        check(unsafe { load2(self.as_ptr(), specs.as_ptr(), specs.len()) })?;
        self.has_header(header_len);
        Ok(())
    }

    /// Returns whether this handle has encryption loaded.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.shared().header().is_loaded()
    }

    fn has_header(&self, len: u64) {
        self.shared().header().set_len(len);
        self.shared().header().set_loaded();
        self.size_changed();
    }
}
