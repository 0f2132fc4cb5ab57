//! The headers of several Ceph releases, from Debian's own packages.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

const PACKAGES: [&str; 2] = ["librbd-dev", "librados-dev"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The headers of one release, unpacked.
pub(crate) struct Headers {
    /// The Debian suite of the packages.
    pub(crate) suite: String,
    /// The version of the packages.
    pub(crate) version: String,
    /// The version that this one replaces, because it is no longer available.
    pub(crate) instead_of: Option<String>,
    /// The directory that contains `rbd/` and `rados/`.
    pub(crate) include: PathBuf,
}

impl Headers {
    /// Returns the Ceph release: `16.2` of `16.2.15+ds-0+deb12u2`.
    ///
    /// A replacement counts as the version that it replaces.
    pub(crate) fn release(&self) -> String {
        let mut parts = self.instead_of.as_ref().unwrap_or(&self.version).split('.');
        format!("{}.{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    }

    /// Fetches the headers of `suite`: of the `wanted` version if it is still available, otherwise
    /// of the current one.
    pub(crate) fn fetch(suite: &str, wanted: Option<&str>) -> Result<Self> {
        let cache = cache_dir()?;
        if let Some(version) = wanted {
            let headers = Self::at(&cache, suite, version);
            if headers.complete() {
                return Ok(headers);
            }
        }
        let apt = Apt::new(suite)?;
        let carried = apt.version(PACKAGES[0])?;
        let mut headers = Self::at(&cache, suite, &carried);
        headers.instead_of = wanted.filter(|wanted| **wanted != *carried).map(str::to_owned);
        if !headers.complete() {
            apt.unpack(&carried, headers.root())?;
        }
        if !headers.complete() {
            bail!("the packages {PACKAGES:?} {carried} of Debian {suite} lack headers that are to be bound");
        }
        Ok(headers)
    }

    fn at(cache: &Path, suite: &str, version: &str) -> Self {
        let include = cache.join(format!("{suite}_{version}")).join("usr/include");
        Self { suite: suite.to_owned(), version: version.to_owned(), instead_of: None, include }
    }

    fn complete(&self) -> bool {
        crate::bindings::HEADERS.iter().all(|header| self.include.join(header).is_file())
    }

    fn root(&self) -> &Path {
        self.include.ancestors().nth(2).expect("at() joined two components")
    }
}

/// Returns the mirror of Debian that this system uses.
fn mirror() -> Result<String> {
    let targets =
        run(Command::new("apt-get").args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]))?;
    let mirror = targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|"));
    mirror.map(str::to_owned).context("apt knows no mirror of Debian; run `apt-get update`, on Debian")
}

/// apt with separate, temporary lists, sources and cache. It reads the system's keyring and
/// configuration (proxies), and writes nothing there.
struct Apt {
    dir: TempDir,
}

impl Apt {
    fn new(suite: &str) -> Result<Self> {
        let apt = Self { dir: tempfile::tempdir()? };
        for dir in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.dir.path().join(dir))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(apt.dir.path().join("sources.list"), source)?;
        run(apt.command("apt-get").args(["-qq", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let dir = self.dir.path().display();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::SourceList={dir}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(&self.dir);
        command
    }

    /// Returns the version of `package` in the suite.
    fn version(&self, package: &str) -> Result<String> {
        let shown = run(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        let version = shown.lines().find_map(|line| line.strip_prefix("Version: "));
        version.map(str::to_owned).with_context(|| format!("apt-cache tells no version of {package}"))
    }

    /// Unpacks the packages into the directory `root`, all of them or none.
    fn unpack(&self, version: &str, root: &Path) -> Result<()> {
        let cache = root.parent().context("the cache is no root directory")?;
        fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
        let unpacked = tempfile::tempdir_in(cache)?;
        let packages = PACKAGES.map(|package| format!("{package}={version}"));
        run(self.command("apt-get").args(["-qq", "download"]).args(packages))?;
        for file in fs::read_dir(&self.dir)? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("-x").arg(file).arg(unpacked.path()))?;
            }
        }
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        Ok(fs::rename(unpacked.keep(), root)?)
    }
}

fn cache_dir() -> Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("librbd-sys-headers"))
}

fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| {
        format!("cannot start {program}; the headers come from Debian packages: run this on Debian or Ubuntu")
    })?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
