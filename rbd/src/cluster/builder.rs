//! The builder of a connection.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::credentials::Secrets;
use super::environment::EarlyArgs;
use super::files;
use super::key::Key;
use super::login;
use super::safeguards::{refuse_forgetful_cache, split_journal_between_blocks, turn_scheduler_off};
use super::timeouts::{CALL_TIMEOUT, connect, fix_osd_timeout};
use super::{Cluster, Inner};
use crate::errno::Errno;
use crate::error::keys::{option_name, without_keys};
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, c_value};
use crate::raw::{cluster::Cluster as RawCluster, cluster::log::Log};

const CONNECT: &str = "connect to";

/// Builds a connection to a cluster: see [`Cluster::builder`].
///
/// Configuration comes from these sources: the monitors (`ceph config set`), the configuration
/// file, CEPH_ARGS, this builder. A later source wins. The `rbd` command uses the same order. The
/// first of these that is set names the configuration file: this builder, `-c` in CEPH_ARGS,
/// CEPH_CONF. If none is set, the first existing file of the default search path is read.
#[derive(Clone, Default)]
#[must_use = "nothing happens until `connect`"]
pub struct ClusterBuilder {
    user: Option<String>,
    cluster_name: Option<String>,
    conf_file: ConfFile,
    ignore_environment: bool,
    key: Option<Key>,
    pub(super) options: Vec<(String, String)>,
    /// In the order of [`TIMEOUTS`](super::timeouts). The outer `None` keeps the configured value,
    /// the inner `None` means no timeout.
    pub(super) timeouts: [Option<Option<Duration>>; 3],
    /// The outer `None` is the default, the inner `None` means no timeout.
    pub(super) call_timeout: Option<Option<Duration>>,
}

#[derive(Debug, Clone, Default)]
enum ConfFile {
    #[default]
    Search,
    At(PathBuf),
    None,
}

impl ClusterBuilder {
    pub(super) fn new() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    /// Sets the user to authenticate as, with or without its type: `admin` or `client.admin`.
    /// Default: the one that CEPH_ARGS names, else `client.admin`.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the name of the cluster in file names such as `/etc/ceph/NAME.conf`. Default: the one
    /// that CEPH_ARGS names, else `ceph`.
    pub fn cluster_name(mut self, name: impl Into<String>) -> Self {
        self.cluster_name = Some(name.into());
        self
    }

    /// Sets the configuration file. Connecting fails if the file is missing. Default: see
    /// [`ClusterBuilder`].
    pub fn conf_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.conf_file = ConfFile::At(path.into());
        self
    }

    /// Sets whether to read no configuration file at all. If set, this builder or CEPH_ARGS must
    /// name the [monitors](Self::monitors), and also the key, unless a keyring is in its default
    /// place. Default: off. `false` keeps the file that [`conf_file`](Self::conf_file) has set.
    pub fn no_conf_file(mut self, no_conf_file: bool) -> Self {
        if no_conf_file || matches!(self.conf_file, ConfFile::None) {
            self.conf_file = if no_conf_file { ConfFile::None } else { ConfFile::Search };
        }
        self
    }

    /// Sets whether to ignore CEPH_CONF, and the user, cluster and file that CEPH_ARGS names. The
    /// default search path (`/etc/ceph/ceph.conf`, `~/.ceph/ceph.conf`) still applies. Default:
    /// off.
    ///
    /// librados itself applies the other options of CEPH_ARGS, and CEPH_KEYRING, when it reads a
    /// configuration file. Options of this builder take precedence over them.
    pub fn ignore_environment(mut self, ignore_environment: bool) -> Self {
        self.ignore_environment = ignore_environment;
        self
    }

    /// Sets the monitors, in the format of the option `mon_host`: `10.0.0.1,10.0.0.2:6789`.
    pub fn monitors(self, monitors: impl Into<String>) -> Self {
        self.option("mon_host", monitors)
    }

    /// Sets the keyring file that holds the user's key.
    pub fn keyring(self, path: impl AsRef<Path>) -> Self {
        self.option("keyring", path.as_ref().to_string_lossy())
    }

    /// Sets the user's key, in base64 as `ceph auth get-key` prints it. Surrounding white space,
    /// such as the newline at the end of a Kubernetes Secret, is ignored.
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the file that holds only the user's key, in base64.
    pub fn key_file(self, path: impl AsRef<Path>) -> Self {
        self.option("keyfile", path.as_ref().to_string_lossy())
    }

    /// Sets a configuration option of Ceph, by its name with underscores. The last value wins. A
    /// connection changes a few options that would endanger data: see
    /// [`guide::durability`](crate::guide::durability).
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Connects to the cluster. Blocks until the cluster answers. An attempt without an answer ends
    /// after about the [connect timeout](Self::connect_timeout), or is given up after twice this
    /// time and 10 s.
    ///
    /// Implements: `rados_create2`, `rados_conf_read_file`, `rados_conf_parse_env`,
    /// `rados_conf_set`, `rados_connect`, `rados_cluster_fsid`.
    #[doc(alias = "rados_connect")]
    #[doc(alias = "rados_create2")]
    #[doc(alias = "rados_conf_read_file")]
    #[doc(alias = "rados_conf_parse_env")]
    pub fn connect(self) -> Result<Cluster> {
        let early = if self.ignore_environment { EarlyArgs::default() } else { EarlyArgs::from_env() };
        let user = entity(self.user.clone().or(early.user.clone()).unwrap_or_else(|| "admin".into()))?;
        let cluster_name =
            self.cluster_name.clone().or(early.cluster_name.clone()).unwrap_or_else(|| "ceph".into());

        let object = || Object::new(ObjectKind::Cluster, cluster_name.as_str());
        let (c_name, c_user) = (c_string(CONNECT, object, &cluster_name)?, c_string(CONNECT, object, &user)?);
        let call_timeout = self.call_timeout.unwrap_or(Some(CALL_TIMEOUT));
        if call_timeout == Some(Duration::ZERO) {
            return Err(Error::invalid(
                CONNECT,
                object(),
                "a call timeout of zero would fail every call; use None for no timeout",
            ));
        }
        // librados applies CEPH_ARGS whenever it reads a configuration file.
        if let Some(keyring) = &EarlyArgs::from_env().keyring {
            files::check_keyring(&files::expand(keyring, &cluster_name, &user))?;
        }
        let mut raw =
            RawCluster::create(&c_name, &c_user).map_err(|errno| Error::new(CONNECT, object(), errno))?;

        raw.set_call_timeout(call_timeout);
        let have_file = self.read_file(&raw, &cluster_name, &user, early.conf_file)?;
        if !self.ignore_environment {
            raw.conf_parse_env().map_err(|errno| Error::new("apply CEPH_ARGS for", object(), errno))?;
        }
        for (option, value) in &self.options {
            if option == "keyring" {
                files::check_keyring(value)?;
            }
            set(&raw, option, value)?;
        }
        if let Some(key) = &self.key {
            key.check(&user)?;
            set(&raw, "key", key.expose())?;
        }
        login::check_key_files(&raw, &user)?;
        self.set_timeouts(&raw)?;
        turn_scheduler_off(&raw)?;
        split_journal_between_blocks(&raw)?;
        let secrets = Secrets::check(|option| get(&raw, option), &user)?;
        let log = attach_log(&raw);

        let mark = log.as_ref().map_or(0, Log::mark);
        let raw = Arc::new(raw);
        let given_up = connect(&raw).map_err(|errno| {
            let lines = log.as_ref().map_or_else(Vec::new, |log| secrets.redact(log.since(mark)));
            if let Some(error) = login::monitor_without_address(&raw, CONNECT, errno) {
                return error.with_log(lines);
            }
            let error = Error::new(CONNECT, object(), errno);
            let explained = match (login::newer_key(&raw, errno, &user), &self.conf_file) {
                (Some(kind), _) => login::unknown_key(error, kind, &user),
                (None, ConfFile::At(path)) if files::is_empty(path) => {
                    let file = Object::new(ObjectKind::File, path.to_string_lossy());
                    let why = "the configuration file is empty and nothing else names the \
                               monitors; name them in the file or on the builder";
                    Error::new("connect with", file, errno).with_detail(why)
                }
                _ => login::explain(&raw, error, errno, &user, have_file),
            };
            explained.with_log(lines)
        })?;
        if let Some(limit) = given_up {
            return Err(Error::new(CONNECT, object(), Errno::ETIMEDOUT).timed_out(limit, false));
        }
        if let Some(timeout) = fix_osd_timeout(&raw)? {
            raw.set_osd_timeout(timeout);
        }
        refuse_forgetful_cache(&raw)?;
        let fsid = raw.fsid().unwrap_or_default();
        let instance_id = raw.instance_id();
        Ok(Cluster(Arc::new(Inner { raw, log, user, fsid, instance_id })))
    }

    /// Reads the configuration file. Returns `false` if none was named and none was found.
    fn read_file(
        &self,
        raw: &RawCluster,
        cluster_name: &str,
        user: &str,
        from_args: Option<String>,
    ) -> Result<bool> {
        // Each path with what names it.
        let named = match &self.conf_file {
            ConfFile::None => return Ok(false),
            ConfFile::At(path) => Some((path.clone(), "`ClusterBuilder::conf_file`")),
            ConfFile::Search if self.ignore_environment => None,
            ConfFile::Search => from_args.map(|path| (path.into(), "`-c` in CEPH_ARGS")).or_else(|| {
                let path = std::env::var("CEPH_CONF").ok().filter(|path| !path.is_empty());
                path.map(|path| (path.into(), "CEPH_CONF"))
            }),
        };
        // librados would find the same file itself, but the file must be checked first.
        let found = || files::default_conf(cluster_name).map(|path| (path, "the default search path"));
        match named.or_else(found) {
            Some((path, by)) => files::read_conf(raw, &path, by, cluster_name, user).map(|()| true),
            // librados also reads CEPH_CONF itself.
            None if self.ignore_environment => Ok(false),
            None => match raw.conf_read_file(None) {
                Ok(()) => Ok(true),
                Err(Errno::ENOENT) => Ok(false),
                Err(errno) => {
                    Err(Error::new("read the configuration of", Object::new(ObjectKind::Cluster, ""), errno))
                }
            },
        }
    }
}

/// Shows the names of the options, but not their values: any value may be a key.
impl fmt::Debug for ClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<_> = self.options.iter().map(|(name, _)| option_name(name)).collect();
        f.debug_struct("ClusterBuilder")
            .field("user", &self.user.as_deref().map(without_keys))
            .field("cluster_name", &self.cluster_name)
            .field("conf_file", &self.conf_file)
            .field("key", &self.key)
            .field("options", &options)
            .finish_non_exhaustive()
    }
}

/// Returns `client.admin` for `admin` or `client.admin`.
fn entity(user: String) -> Result<String> {
    const EMPTY: &str = "the user's id is empty; name a user, such as client.admin";
    let object = || Object::new(ObjectKind::User, user.as_str());
    match user.split_once('.') {
        Some(("client", "")) => Err(Error::invalid("connect as", object(), EMPTY)),
        Some(("client", _)) => Ok(user),
        Some(("mon" | "osd" | "mgr" | "mds" | "auth", _)) => Err(Error::invalid(
            "connect as",
            object(),
            "only users of type client can use images; name one, such as client.admin",
        )),
        None if user.is_empty() => Err(Error::invalid("connect as", object(), EMPTY)),
        _ => Ok(format!("client.{user}")),
    }
}

pub(super) fn set(raw: &RawCluster, option: &str, value: &str) -> Result<()> {
    let object = || Object::new(ObjectKind::ConfigOption, option);
    let name = c_string("set", object, option)?;
    let value = c_value("set", object, value)?;
    raw.conf_set(&name, &value).map_err(|errno| match errno {
        Errno::ENOENT => Error::new("set", object(), errno),
        errno => Error::new("set", object(), errno).with_kind(ErrorKind::InvalidInput).with_detail(BAD_VALUE),
    })
}

pub(super) const BAD_VALUE: &str =
    "Ceph does not accept this value; `ceph config help` shows the option's type and range";

pub(super) fn get(raw: &RawCluster, option: &str) -> Option<String> {
    raw.conf_get(&CString::new(option).ok()?).ok()
}

/// Collects the client's log in memory, unless the configuration sends it elsewhere.
fn attach_log(raw: &RawCluster) -> Option<Log> {
    let wanted = |option| get(raw, option).is_some_and(|value| value == "true");
    if get(raw, "log_file").is_some_and(|path| !path.is_empty())
        || wanted("log_to_stderr")
        || wanted("log_to_syslog")
    {
        return None;
    }
    let log = Log::new().ok()?;
    raw.keep_log(log.clone());
    set(raw, "log_file", &log.path()).ok()?;
    Some(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_get_their_type() {
        assert_eq!(entity("admin".into()).unwrap(), "client.admin");
        assert_eq!(entity("client.admin".into()).unwrap(), "client.admin");
        assert_eq!(entity("csi.node".into()).unwrap(), "client.csi.node");
        for bad in ["", "client.", "osd.0"] {
            assert_eq!(*entity(bad.into()).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn a_bad_option_is_named_and_a_key_is_never_shown() {
        let error = Cluster::builder()
            .no_conf_file(true)
            .ignore_environment(true)
            .option("no_such_option", "1")
            .connect();
        assert_eq!(*error.unwrap_err().kind(), ErrorKind::NotFound { what: ObjectKind::ConfigOption });
        let builder = Cluster::builder().key("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==");
        assert!(!format!("{builder:?}").contains("AQBi"));
    }

    #[test]
    fn an_ignored_environment_is_ignored_by_librados_too() {
        // Runs in its own process, because all tests of this process share the environment.
        if std::env::var_os("CEPH_CONF").is_none_or(|path| path != "/nonexistent/ceph.conf") {
            let alone = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["an_ignored_environment_is_ignored_by_librados_too", "--nocapture"])
                .env("CEPH_CONF", "/nonexistent/ceph.conf")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&alone.stdout);
            assert!(alone.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let missing = Cluster::builder().connect().unwrap_err();
        assert_eq!(*missing.kind(), ErrorKind::NotFound { what: ObjectKind::File }, "{missing}");
        assert!(missing.to_string().contains("CEPH_CONF names this configuration file"), "{missing}");
        // No monitor answers there, but the attempt shows that this file was not read.
        let builder = Cluster::builder()
            .ignore_environment(true)
            .cluster_name("no-such-cluster")
            .key("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==")
            .monitors("127.0.0.1:1");
        let error = builder.connect_timeout(Duration::from_secs(1)).connect().unwrap_err();
        assert!(
            error.object_kind() == ObjectKind::Cluster && !error.to_string().contains("/nonexistent"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_file_and_a_zero_timeout_are_refused() {
        let named = Cluster::builder().conf_file("/nonexistent/ceph.conf").no_conf_file(false);
        let error = named.connect().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::File });
        assert!(error.to_string().contains("`ClusterBuilder::conf_file` names this configuration file"));
        let error = Cluster::builder().no_conf_file(true).key("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==");
        let error = error.osd_timeout(Duration::ZERO).connect().unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
    }
}
