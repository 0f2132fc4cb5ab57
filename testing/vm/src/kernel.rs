//! Kernels: Debian packages, downloaded once and kept in a cache outside the source tree.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::apt::Apt;
use crate::error::{Context as _, Error, Result};
use crate::host;
use crate::pattern::{by_number, fits};

/// How long the newest package of a pattern is reused without asking apt again.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// A kernel to boot: the newest Debian package with this name or pattern.
///
/// The default is the newest cloud kernel of Debian 12 (6.1), or the value of `RBD_TESTVM_KERNEL`.
///
/// ```
/// use rbd_testvm::Kernel;
/// let six_twelve: Kernel = "linux-image-6.12.*-cloud-amd64@trixie".parse().unwrap();
/// assert_eq!(six_twelve, Kernel::package("linux-image-6.12.*-cloud-amd64").suite("trixie"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    pattern: String,
    suite: Option<String>,
}

impl Default for Kernel {
    fn default() -> Self {
        match env::var("RBD_TESTVM_KERNEL") {
            Ok(text) if !text.is_empty() => Self::split(&text),
            _ => Self::package("linux-image-6.1.0-*-cloud-amd64").suite("bookworm"),
        }
    }
}

impl Kernel {
    /// Returns the newest package with this name, in which `*` matches any text, from the host's
    /// own package sources.
    pub fn package(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), suite: None }
    }

    /// Sets the Debian suite of the package (`trixie`, `bookworm-backports`), which may differ from
    /// the host's.
    #[must_use]
    pub fn suite(mut self, suite: impl Into<String>) -> Self {
        self.suite = Some(suite.into());
        self
    }

    fn split(text: &str) -> Self {
        match text.split_once('@') {
            Some((pattern, suite)) => Self::package(pattern).suite(suite),
            None => Self::package(text),
        }
    }

    /// Downloads and unpacks the kernel unless the cache has it. Several processes may call this at
    /// the same time.
    pub(crate) fn fetch(&self) -> Result<KernelImage> {
        self.validate()?;
        let cache = cache_directory()?;
        let kernels = cache.join("kernels");
        let newest = cache.join("newest").join(self.to_string().replace('*', "_"));
        if let Some(package) = fresh(&newest) {
            if let Ok(image) = KernelImage::open(&kernels.join(package)) {
                return Ok(image);
            }
        }
        for directory in [&kernels, &cache.join("newest")] {
            fs::create_dir_all(directory).context(|| format!("cannot make {}", directory.display()))?;
        }
        let lock_file = cache.join("lock");
        let locking = || format!("cannot lock {}", lock_file.display());
        let lock = File::create(&lock_file).context(locking)?;
        flock(&lock, FlockOperation::LockExclusive).context(locking)?;

        let package = match self.newest(&cache) {
            Ok((apt, package)) => {
                if !kernels.join(&package).exists() {
                    unpack(&apt, &package, &cache)?;
                }
                package
            }
            // Without a network, the newest one in the cache is used.
            Err(error) => self.choose(cached(&kernels)).ok_or(error)?,
        };
        fs::write(&newest, &package).context(|| format!("cannot write {}", newest.display()))?;
        KernelImage::open(&kernels.join(package))
    }

    /// Checks name and suite, which become parts of file names and command lines.
    fn validate(&self) -> Result<()> {
        let plain = |text: &str| {
            let allowed = |char: char| char.is_ascii_alphanumeric() || "+.-_*".contains(char);
            text.starts_with(|first: char| first.is_ascii_alphanumeric()) && text.chars().all(allowed)
        };
        if plain(&self.pattern) && self.suite.as_deref().is_none_or(plain) {
            return Ok(());
        }
        Err(Error::NoKernel {
            pattern: self.to_string(),
            reason: "can exist; expected PACKAGE or PACKAGE@SUITE, with `*` for any text".into(),
        })
    }

    fn newest(&self, cache: &Path) -> Result<(Apt, String)> {
        host::require(&[("apt-get", "apt"), ("dpkg-deb", "dpkg")])?;
        let apt = Apt::open(self.suite.as_deref(), cache)?;
        let prefix = self.pattern.split('*').next().unwrap_or_default();
        let package = self.choose(apt.names_with(prefix)?).ok_or_else(|| Error::NoKernel {
            pattern: self.pattern.clone(),
            reason: match &self.suite {
                Some(suite) => format!("in suite {suite}"),
                None => "known to the host's apt; run apt-get update, or name a suite (PACKAGE@SUITE)".into(),
            },
        })?;
        Ok((apt, package))
    }

    fn choose(&self, names: Vec<String>) -> Option<String> {
        names.into_iter().filter(|name| fits(&self.pattern, name)).max_by(|a, b| by_number(a, b))
    }
}

impl std::fmt::Display for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.pattern)?;
        self.suite.as_ref().map_or(Ok(()), |suite| write!(f, "@{suite}"))
    }
}

impl FromStr for Kernel {
    type Err = Error;

    /// Parses `PACKAGE` or `PACKAGE@SUITE`, with `*` for any text.
    fn from_str(text: &str) -> Result<Self> {
        let kernel = Self::split(text);
        kernel.validate().map(|()| kernel)
    }
}

/// A kernel in the cache.
#[derive(Debug)]
pub(crate) struct KernelImage {
    /// The output of `uname -r`.
    pub(crate) release: String,
    pub(crate) vmlinuz: PathBuf,
    /// The content of `/lib/modules/RELEASE`, uncompressed.
    pub(crate) modules: PathBuf,
}

impl KernelImage {
    fn open(directory: &Path) -> Result<Self> {
        let release = directory.join("release");
        let release =
            fs::read_to_string(&release).context(|| format!("cannot read {}", release.display()))?;
        Ok(Self { release, vmlinuz: directory.join("vmlinuz"), modules: directory.join("modules") })
    }
}

/// Returns `RBD_TESTVM_CACHE`, or `rbd-testvm` in the user's cache directory.
fn cache_directory() -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let chosen = variable("RBD_TESTVM_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("rbd-testvm")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/rbd-testvm")));
    let chosen = chosen.unwrap_or_else(|| env::temp_dir().join("rbd-testvm"));
    std::path::absolute(chosen).context(|| "no current directory".to_owned())
}

fn fresh(newest: &Path) -> Option<String> {
    let age = fs::metadata(newest).ok()?.modified().ok()?.elapsed().ok()?;
    if age < FRESH { fs::read_to_string(newest).ok() } else { None }
}

fn cached(kernels: &Path) -> Vec<String> {
    let entries = fs::read_dir(kernels).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Downloads a kernel into the cache. The caller holds the cache's lock. Removes remains of an
/// interrupted call.
fn unpack(apt: &Apt, package: &str, cache: &Path) -> Result<()> {
    let bad = |reason: &str| Error::BadKernel { package: package.to_owned(), reason: reason.to_owned() };
    let work = cache.join("unpacking");
    let making = || format!("cannot make {}", work.display());
    if work.exists() {
        fs::remove_dir_all(&work).context(making)?;
    }
    let root = work.join("root");
    fs::create_dir_all(&root).context(making)?;
    apt.unpack(package, &root)?;
    if modules_of(&root).is_none_or(|modules| find_rbd(&modules).is_none()) {
        // In newer suites, dependencies of the package contain the modules, or even the kernel
        // itself.
        for part in apt.depends(package)?.iter().filter(|part| is_part(part)) {
            apt.unpack(part, &root)?;
        }
    }
    let modules = modules_of(&root).ok_or_else(|| bad("it holds no modules"))?;
    let rbd =
        find_rbd(&modules).ok_or_else(|| bad("it holds no rbd module; cloud and generic kernels do"))?;
    let release =
        modules.file_name().and_then(|name| name.to_str()).ok_or_else(|| bad("its release is not text"))?;
    let vmlinuz = [root.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
    let vmlinuz = vmlinuz.iter().find(|path| path.is_file()).ok_or_else(|| bad("it holds no vmlinuz"))?;

    match rbd.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => decompress(&modules, "*.ko.xz", ("xz", "xz-utils"), &["-d"])?,
        Some("zst") => decompress(&modules, "*.ko.zst", ("zstd", "zstd"), &["-d", "-q", "--rm"])?,
        _ => {}
    }
    let library = root.join("lib");
    if !library.exists() {
        std::os::unix::fs::symlink("usr/lib", &library).context(making)?;
    }
    host::succeed(host::command("depmod").arg("-b").arg(&root).arg(release))?;

    let done = work.join("done");
    fs::create_dir(&done)
        .and_then(|()| fs::rename(vmlinuz, done.join("vmlinuz")))
        .and_then(|()| fs::rename(&modules, done.join("modules")))
        .and_then(|()| fs::write(done.join("release"), release))
        .and_then(|()| fs::rename(&done, cache.join("kernels").join(package)))
        .and_then(|()| fs::remove_dir_all(&work))
        .context(|| format!("cannot put {package} into {}", cache.display()))
}

/// Returns true for `linux-modules-6.18…`, but not for `linux-base`, which contains scripts.
fn is_part(package: &str) -> bool {
    let rest =
        ["linux-base-", "linux-binary-", "linux-modules-"].iter().find_map(|kind| package.strip_prefix(kind));
    rest.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

fn modules_of(root: &Path) -> Option<PathBuf> {
    let parents = [root.join("lib/modules"), root.join("usr/lib/modules")];
    parents.iter().find_map(|parent| fs::read_dir(parent).ok()?.next()?.ok()).map(|entry| entry.path())
}

fn find_rbd(modules: &Path) -> Option<PathBuf> {
    let block = modules.join("kernel/drivers/block");
    ["rbd.ko", "rbd.ko.xz", "rbd.ko.zst"].iter().map(|name| block.join(name)).find(|path| path.is_file())
}

/// Decompresses modules, because busybox cannot.
fn decompress(
    modules: &Path,
    name: &str,
    tool: (&'static str, &'static str),
    options: &[&str],
) -> Result<()> {
    host::require(&[tool])?;
    let mut find = host::command("find");
    find.arg(modules).args(["-name", name, "-exec", tool.0]).args(options).args(["{}", "+"]);
    host::succeed(&mut find).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_fitting_names_is_chosen() {
        let names =
            ["-9-cloud-amd64", "-10-cloud-amd64", "-10-cloud-amd64-unsigned", "-11-amd64", "-8-cloud-amd64"];
        let names = names.map(|rest| format!("linux-image-6.1.0{rest}")).to_vec();
        let choose = |pattern: &str| Kernel::package(pattern).choose(names.clone());
        assert_eq!(choose("linux-image-6.1.0-*-cloud-amd64").as_ref(), Some(&names[1]));
        assert_eq!(choose("linux-image-6.1.0-8-cloud-amd64").as_ref(), Some(&names[4]));
        assert_eq!(choose("linux-image-6.1.*").as_ref(), Some(&names[3]));
        assert_eq!(choose("linux-image-6.12*"), None);
    }

    #[test]
    fn what_cannot_be_a_package_is_refused() {
        for text in ["", "../x", "-o", "a b", "linux@", "linux@../x"] {
            assert!(text.parse::<Kernel>().is_err(), "{text}");
        }
        let text = "linux-image-6.1.*@bookworm";
        assert_eq!(text.parse::<Kernel>().unwrap().to_string(), text);
    }

    #[test]
    fn parts_of_split_packages_are_told_from_other_dependencies() {
        assert!(is_part("linux-modules-6.18.3+deb14-cloud-amd64"));
        assert!(!is_part("linux-base") && !is_part("kmod") && !is_part("linux-modules-extra"));
    }
}
