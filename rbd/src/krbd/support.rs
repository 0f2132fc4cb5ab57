//! The features of the running kernel, and loading of its module.

use std::process::{Command, Output, Stdio};
use std::str::FromStr;
use std::{fmt, io};

use crate::Features;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::krbd::host::{Host, failed, number, read};

/// The first two numbers of a kernel's release: 6.1 of `6.1.0-37-cloud-amd64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

/// The image features that the running kernel can map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelFeatures {
    /// The kernel reports its features.
    Known(Features),
    /// The rbd module is not loaded; according to its version, the kernel should have these
    /// features.
    ModuleNotLoaded {
        /// The features according to the table of kernel versions.
        expected: Features,
    },
    /// The module is loaded but does not report its features (before 4.11); according to its
    /// version, the kernel should have these features.
    KernelTooOld {
        /// The features according to the table of kernel versions.
        expected: Features,
    },
}

impl KernelVersion {
    /// Creates a version, such as 4.17 for 4.17.0.
    pub const fn new(major: u32, minor: u32) -> KernelVersion {
        KernelVersion { major, minor }
    }

    /// Returns the features that a kernel of this version can map. Vendors backport features, so
    /// prefer the kernel's own report ([`KernelFeatures::Known`]) to this table.
    ///
    /// `striping` is more than a feature: before 4.17, kernels map such an image only if its stripe
    /// count is 1 and its stripe unit is the size of an object. [`map`](crate::krbd::map) checks
    /// that; a program that plans for another machine must do so itself.
    pub fn features(self) -> Features {
        const SINCE: [(KernelVersion, Features); 6] = [
            (KernelVersion::new(3, 10), Features::LAYERING.union(Features::STRIPING)),
            (KernelVersion::new(4, 9), Features::EXCLUSIVE_LOCK),
            (KernelVersion::new(4, 11), Features::DATA_POOL),
            (KernelVersion::new(4, 16), Features::OPERATIONS),
            (KernelVersion::new(5, 1), Features::DEEP_FLATTEN),
            (KernelVersion::new(5, 3), Features::OBJECT_MAP.union(Features::FAST_DIFF)),
        ];
        SINCE.iter().filter(|(since, _)| self >= *since).map(|(_, features)| *features).collect()
    }

    /// Returns whether the kernel maps images that are striped over several objects.
    pub(crate) fn maps_fancy_striping(self) -> bool {
        self >= KernelVersion::new(4, 17)
    }

    /// Returns whether a read-only mapping needs only the features that change where data is
    /// stored.
    pub(crate) fn reads_despite_write_features(self) -> bool {
        self >= KernelVersion::new(5, 5)
    }
}

impl FromStr for KernelVersion {
    type Err = Error;

    fn from_str(release: &str) -> Result<KernelVersion> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) {
            return Ok(KernelVersion { major, minor });
        }
        let object = Object::new(ObjectKind::KernelVersion, release);
        Err(Error::invalid("parse", object, "it does not begin with two numbers, such as 6.1"))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl KernelFeatures {
    /// Returns the features, from any of the sources.
    pub fn features(self) -> Features {
        match self {
            KernelFeatures::Known(features)
            | KernelFeatures::ModuleNotLoaded { expected: features }
            | KernelFeatures::KernelTooOld { expected: features } => features,
        }
    }
}

impl Host {
    /// Returns the image features that this kernel can map.
    pub fn supported_features(&self) -> Result<KernelFeatures> {
        let path = self.bus().join("supported_features");
        match read(&path) {
            Ok(text) => match number(&text) {
                Some(bits) => Ok(KernelFeatures::Known(Features::from_bits_retain(bits))),
                None => Err(Error::new("read", file(&path), Errno::EINVAL)
                    .with_detail(format!("'{text}' is not a number"))),
            },
            Err(error) if Errno::from_io_error(&error) == Some(Errno::ENOENT) => {
                let expected = self.kernel()?.features();
                Ok(if self.is_module_loaded() {
                    KernelFeatures::KernelTooOld { expected }
                } else {
                    KernelFeatures::ModuleNotLoaded { expected }
                })
            }
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Loads the kernel's rbd module with `modprobe`, with one major number for all images. Does
    /// nothing if the module is loaded.
    ///
    /// Blocks until `modprobe` ends. Needs the capability `CAP_SYS_MODULE`.
    pub fn load_module(&self) -> Result<()> {
        if self.is_module_loaded() {
            return Ok(());
        }
        let modprobe = Command::new("modprobe").args(["rbd", "single_major=Y"]).stdin(Stdio::null()).output();
        self.judge_modprobe(modprobe)
    }

    /// Checks whether `modprobe` has loaded the module. The error says why not.
    fn judge_modprobe(&self, modprobe: io::Result<Output>) -> Result<()> {
        let refused = |errno, reason: String| {
            Error::new("load", Object::new(ObjectKind::File, "rbd.ko"), errno).with_detail(reason)
        };
        let output = modprobe.map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::ENOENT);
            refused(errno, format!("modprobe cannot be run ({error}); install the package kmod"))
        })?;
        if output.status.success() && self.is_module_loaded() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        let said = if said.is_empty() { "modprobe succeeded, but /sys/bus/rbd did not appear" } else { said };
        let kernel =
            self.kernel().map_or_else(|_| "of unknown version".to_owned(), |version| version.to_string());
        let why = format!("{said}; this kernel ({kernel}) may come without the module");
        Err(refused(Errno::ENODEV, why).with_kind(ErrorKind::NotSupported))
    }

    /// Fails if the module is not loaded.
    pub(crate) fn require_module(&self, operation: &'static str, object: Object) -> Result<()> {
        if self.is_module_loaded() {
            return Ok(());
        }
        Err(Error::new(operation, object, Errno::ENODEV).with_kind(ErrorKind::NotSupported).with_detail(
            format!(
                "the kernel's rbd module is not loaded ({} is missing); load it with \
             krbd::load_module() or 'modprobe rbd'",
                self.bus().display()
            ),
        ))
    }
}

fn file(path: &std::path::Path) -> Object {
    Object::new(ObjectKind::File, path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn host(release: &str, supported: Option<&str>, loaded: bool) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let kernel = root.path().join("proc/sys/kernel");
        fs::create_dir_all(&kernel).unwrap();
        fs::write(kernel.join("osrelease"), release).unwrap();
        if loaded {
            fs::create_dir_all(host.bus()).unwrap();
        }
        if let Some(supported) = supported {
            fs::write(host.bus().join("supported_features"), supported).unwrap();
        }
        (root, host)
    }

    #[test]
    fn the_kernels_own_word_wins_over_the_table() {
        let (_root, host) = host("4.18.0-553.el8.x86_64\n", Some("0x1bf\n"), true);
        assert_eq!(
            host.supported_features().unwrap(),
            KernelFeatures::Known(Features::from_bits_retain(0x1bf))
        );
    }

    #[test]
    fn the_walkthroughs_kernel_is_too_old_to_say() {
        let (_root, host) = host("3.19.0-80-generic\n", None, true);
        assert_eq!(
            host.supported_features().unwrap(),
            KernelFeatures::KernelTooOld { expected: Features::LAYERING | Features::STRIPING }
        );
    }

    #[test]
    fn without_the_module_the_table_answers() {
        let (_root, host) = host("6.1.0-37-cloud-amd64\n", None, false);
        let state = host.supported_features().unwrap();
        assert_eq!(state, KernelFeatures::ModuleNotLoaded { expected: Features::from_bits_retain(0x1bf) });
        let error = host.require_module("map", Object::new(ObjectKind::Image, "rbd/foo")).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("modprobe rbd"), "{error}");
    }

    #[test]
    fn garbage_is_an_error_and_not_no_features() {
        let (_root, host) = host("6.1.0\n", Some("many\n"), true);
        assert!(host.supported_features().unwrap_err().to_string().contains("'many' is not a number"));
    }

    #[test]
    fn releases_parse() {
        for (text, want) in [("6.1.0-37-cloud-amd64", (6, 1)), ("5.10", (5, 10)), ("4.4-rc3", (4, 4))] {
            let version: KernelVersion = text.parse().unwrap();
            assert_eq!((version.major, version.minor), want, "{text}");
        }
        for text in ["", "6", "v6.1", "6.x", "99999999999.1"] {
            assert!(text.parse::<KernelVersion>().is_err(), "{text}");
        }
        let told = |text: &str| text.parse::<KernelVersion>().unwrap_err().to_string();
        assert!(told("five").starts_with("cannot parse kernel version 'five': it does not begin with"));
        assert!(told("").starts_with("cannot parse the kernel version: it does not begin with"));
    }

    #[test]
    fn each_version_adds_its_features() {
        let stages = [
            ((3, 9), Features::empty()),
            ((3, 10), Features::LAYERING | Features::STRIPING),
            ((4, 9), Features::EXCLUSIVE_LOCK),
            ((4, 11), Features::DATA_POOL),
            ((4, 16), Features::OPERATIONS),
            ((5, 1), Features::DEEP_FLATTEN),
            ((5, 3), Features::OBJECT_MAP | Features::FAST_DIFF),
        ];
        let mut expected = Features::empty();
        for ((major, minor), added) in stages {
            if minor > 0 && !added.is_empty() {
                assert_eq!(
                    KernelVersion::new(major, minor - 1).features(),
                    expected,
                    "before {major}.{minor}"
                );
            }
            expected |= added;
            assert_eq!(KernelVersion::new(major, minor).features(), expected, "{major}.{minor}");
        }
        assert_eq!(KernelVersion::new(6, 1).features(), expected);
    }

    #[test]
    fn limits_of_versions_are_inclusive() {
        let [old, new] = [16, 17].map(|minor| KernelVersion::new(4, minor).maps_fancy_striping());
        assert!(!old && new);
        let [old, new] = [4, 5].map(|minor| KernelVersion::new(5, minor).reads_despite_write_features());
        assert!(!old && new);
        assert_eq!(KernelVersion::new(5, 10).to_string(), "5.10");
    }

    #[test]
    fn the_features_are_the_same_from_each_source() {
        let expected = Features::LAYERING;
        for state in [
            KernelFeatures::Known(expected),
            KernelFeatures::ModuleNotLoaded { expected },
            KernelFeatures::KernelTooOld { expected },
        ] {
            assert_eq!(state.features(), expected);
        }
    }

    #[test]
    fn a_list_of_features_that_cannot_be_read_is_an_error() {
        let (_root, host) = host("6.1.0\n", None, true);
        fs::create_dir(host.bus().join("supported_features")).unwrap();
        let error = host.supported_features().unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EISDIR), "{error}");
        assert!(error.to_string().contains("/supported_features"), "{error}");
    }

    #[test]
    fn a_loaded_module_needs_nothing() {
        let (_root, host) = host("6.1.0\n", None, true);
        host.load_module().unwrap();
        host.require_module("map", Object::new(ObjectKind::Image, "rbd/foo")).unwrap();
    }

    #[test]
    fn a_failed_modprobe_is_explained() {
        let ended = |code: i32, said: &str| {
            let status = ExitStatus::from_raw(code << 8);
            Ok(Output { status, stdout: Vec::new(), stderr: said.into() })
        };
        let (_root, absent) = host("6.1.0\n", None, false);
        let missing = absent.judge_modprobe(Err(io::Error::from_raw_os_error(libc::EACCES))).unwrap_err();
        assert_eq!(missing.errno(), Some(Errno::EACCES));
        assert!(missing.to_string().contains("install the package kmod"), "{missing}");
        let failed = absent.judge_modprobe(ended(1, "FATAL: Module rbd not found.\n")).unwrap_err();
        assert_eq!(*failed.kind(), ErrorKind::NotSupported);
        assert!(failed.to_string().contains("FATAL: Module rbd not found.; this kernel (6.1)"), "{failed}");
        let silent = absent.judge_modprobe(ended(0, "")).unwrap_err();
        assert!(silent.to_string().contains("did not appear"), "{silent}");
        let (_root, loaded) = host("6.1.0\n", None, true);
        loaded.judge_modprobe(ended(0, "")).unwrap();
        assert!(loaded.judge_modprobe(ended(1, "")).is_err());
    }
}
