//! Debian packages of the host's suite or of another one, without changing the host's package
//! sources.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::host;

/// A source of packages.
pub(crate) struct Apt {
    /// A separate configuration for a suite that is not among the host's sources.
    config: Option<PathBuf>,
}

impl Apt {
    /// Opens the host's own sources, or one suite. The lists of another suite are fetched here and
    /// kept under `cache`.
    pub(crate) fn open(suite: Option<&str>, cache: &Path) -> Result<Self> {
        let Some(suite) = suite else { return Ok(Self { config: None }) };
        let mirrors = Mirrors::of_host()?;
        if mirrors.suites.iter().any(|known| known == suite) {
            return Ok(Self { config: None });
        }
        let home = cache.join("apt").join(suite);
        let config = home.join("apt.conf");
        for directory in ["state/lists/partial", "cache/archives/partial"] {
            let directory = home.join(directory);
            fs::create_dir_all(&directory).context(|| format!("cannot make {}", directory.display()))?;
        }
        let write = |path: PathBuf, content: String| {
            fs::write(&path, content).context(|| format!("cannot write {}", path.display()))
        };
        write(home.join("sources.list"), mirrors.sources(suite))?;
        write(home.join("status"), String::new())?;
        write(config.clone(), configuration(&home.display().to_string()))?;
        let apt = Self { config: Some(config) };
        // A suite may lack its security archive. That is an error for apt, but not here: only the
        // names matter.
        let update = host::finish(apt.command("apt-get").arg("update"))?;
        if apt.names_with("linux-image-")?.is_empty() {
            return Err(Error::NoKernel {
                pattern: "linux-image-*".into(),
                reason: format!(
                    "in suite {suite}; apt-get update said: {}",
                    String::from_utf8_lossy(&update.stderr).trim()
                ),
            });
        }
        Ok(apt)
    }

    /// Returns the names of all packages with this prefix.
    pub(crate) fn names_with(&self, prefix: &str) -> Result<Vec<String>> {
        let names = host::succeed(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Returns the names of the packages on which this one depends.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let answer = host::succeed(self.command("apt-cache").args(["depends", "--important", package]))?;
        Ok(answer
            .lines()
            .filter_map(|line| line.split_once("Depends: "))
            .map(|(_, name)| name.to_owned())
            .collect())
    }

    /// Downloads a package and unpacks it into a folder.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = tempfile::tempdir_in(into.parent().unwrap_or(into))
            .context(|| format!("cannot make a folder beside {}", into.display()))?;
        host::succeed(self.command("apt-get").arg("download").arg(package).current_dir(downloads.path()))?;
        let listing = || format!("cannot list {}", downloads.path().display());
        for entry in fs::read_dir(downloads.path()).context(listing)? {
            let archive = entry.context(listing)?.path();
            host::succeed(host::command("dpkg-deb").arg("-x").arg(archive).arg(into))?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut command = host::command(program);
        if let Some(config) = &self.config {
            command.env("APT_CONFIG", config);
        }
        // The sandbox's user cannot enter the cache, and apt would warn about that.
        command.args(["-q", "-o", "APT::Sandbox::User=root"]);
        command
    }
}

fn configuration(home: &str) -> String {
    format!(
        r#"Dir::State "{home}/state";
Dir::State::status "{home}/status";
Dir::Cache "{home}/cache";
Dir::Etc::sourcelist "{home}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Acquire::Languages "none";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
"#
    )
}

/// The host's mirror of Debian, which also has the other suites.
struct Mirrors {
    suites: Vec<String>,
    main: String,
    security: Option<String>,
}

impl Mirrors {
    fn of_host() -> Result<Self> {
        let format = "$(ORIGIN)|$(LABEL)|$(CODENAME)|$(SUITE)|$(REPO_URI)";
        let answer = host::succeed(host::command("apt-get").args([
            "indextargets",
            "--format",
            format,
            "Created-By: Packages",
            "Origin: Debian",
        ]))?;
        Self::parse(&answer).ok_or_else(|| Error::NoKernel {
            pattern: "linux-image-*".into(),
            reason: "can be had: the host's apt has no lists of a Debian archive; run: apt-get update".into(),
        })
    }

    fn parse(answer: &str) -> Option<Self> {
        let mut mirrors = Self { suites: Vec::new(), main: String::new(), security: None };
        for line in answer.lines() {
            let [_, label, codename, suite, uri] = line.split('|').collect::<Vec<_>>()[..] else { continue };
            match label {
                "Debian" => {
                    mirrors.suites.extend([codename.to_owned(), suite.to_owned()]);
                    uri.clone_into(&mut mirrors.main);
                }
                "Debian-Security" => mirrors.security = Some(uri.to_owned()),
                _ => {}
            }
        }
        (!mirrors.main.is_empty()).then_some(mirrors)
    }

    fn sources(&self, suite: &str) -> String {
        // Packages are verified with the archive's keys. The package of the keys contains those of
        // newer suites.
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let main = format!("deb [signed-by={keys}] {} {suite} main\n", self.main);
        // Some suites, such as backports, have no security archive.
        match &self.security {
            Some(security) if !suite.contains('-') => {
                main + &format!("deb [signed-by={keys}] {security} {suite}-security main\n")
            }
            _ => main,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_suite_comes_from_the_hosts_mirrors() {
        let answer = "Debian|Debian|bookworm|oldstable|http://mirror.example/debian/\n\
                      Debian|Debian-Security|bookworm-security|oldstable-security|http://mirror.example/security/\n";
        let mirrors = Mirrors::parse(answer).unwrap();
        assert_eq!(mirrors.suites, ["bookworm", "oldstable"]);
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let main = format!("deb [signed-by={keys}] http://mirror.example/debian/");
        let security = format!("deb [signed-by={keys}] http://mirror.example/security/");
        assert_eq!(
            mirrors.sources("trixie"),
            format!("{main} trixie main\n{security} trixie-security main\n")
        );
        assert_eq!(mirrors.sources("bookworm-backports"), format!("{main} bookworm-backports main\n"));
        assert!(Mirrors::parse("").is_none());
    }
}
