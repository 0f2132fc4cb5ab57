//! Mapping of images.

use std::time::Duration;

use crate::Features;
use crate::cluster::Cluster;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::ioctx::IoCtx;
use crate::krbd::attach::Attach;
use crate::krbd::deadline::Deadline;
use crate::krbd::device::Device;
use crate::krbd::host::Host;
use crate::krbd::key::Credentials;
use crate::krbd::monmap::Monmap;
use crate::krbd::option_table::MsMode;
use crate::krbd::options::MapOptions;
use crate::krbd::preflight::{Preflight, holders, unsupported};
use crate::spec::ImageSpec;

/// The option of Ceph with the options for all mappings.
const DEFAULT_OPTIONS: &str = "rbd_default_map_options";

/// Maps an image: see [`krbd::map`](crate::krbd::map) and
/// [`krbd::map_with`](crate::krbd::map_with).
#[derive(Debug, Clone)]
#[must_use = "nothing is mapped before run()"]
#[allow(clippy::struct_excessive_bools)] // each is a switch of its own, set by its name
pub struct Map {
    host: Host,
    spec: ImageSpec,
    source: Source,
    options: MapOptions,
    timeout: Duration,
    load_module: bool,
    preflight: bool,
    allow_second_device: bool,
    fix_features: bool,
}

/// The source of monitors, user and key.
#[derive(Debug, Clone)]
enum Source {
    Live(IoCtx),
    Given(Credentials),
}

impl Map {
    pub(crate) fn live(ioctx: &IoCtx, image: &str) -> Map {
        let spec = ImageSpec::new(ioctx.pool(), image).namespace(ioctx.namespace());
        Map::new(Source::Live(ioctx.clone()), spec)
    }

    pub(crate) fn given(credentials: Credentials, spec: ImageSpec) -> Map {
        Map::new(Source::Given(credentials), spec)
    }

    fn new(source: Source, spec: ImageSpec) -> Map {
        Map {
            host: Host::default(),
            spec,
            source,
            options: MapOptions::new(),
            timeout: Duration::from_secs(60),
            load_module: false,
            preflight: true,
            allow_second_device: false,
            fix_features: false,
        }
    }

    /// Sets the snapshot to map. The device is then read-only.
    pub fn snapshot(mut self, name: impl Into<String>) -> Map {
        self.spec = self.spec.snapshot(name);
        self
    }

    /// Sets whether the device is read-only. Default: off.
    pub fn read_only(mut self, read_only: bool) -> Map {
        self.options = self.options.read_only(read_only);
        self
    }

    /// Sets whether to acquire the image's exclusive lock and keep it while it is mapped. The
    /// [check](Map::preflight) before mapping refuses it if another client has the image mapped or
    /// open for writing. Without the check, the kernel waits for the lock of another client, or
    /// fails. Default: off. Needs Linux 4.12.
    pub fn exclusive(mut self, exclusive: bool) -> Map {
        self.options = self.options.exclusive(exclusive);
        self
    }

    /// Sets the protocol and encryption of the kernel's connections.
    pub fn ms_mode(mut self, mode: MsMode) -> Map {
        self.options = self.options.ms_mode(mode);
        self
    }

    /// Adds an option, as `name` or `name=value`.
    pub fn option(mut self, option: impl AsRef<str>) -> Map {
        self.options = self.options.raw(option);
        self
    }

    /// Adds options, which replace earlier ones.
    pub fn options(mut self, options: MapOptions) -> Map {
        self.options = self.options.merge(options);
        self
    }

    /// Sets how long the kernel and the wait for the device node may take together. Default: 60 s.
    /// The timeouts of the connection apply to the checks before that.
    pub fn timeout(mut self, timeout: Duration) -> Map {
        self.timeout = timeout;
        self
    }

    /// Sets whether to load the kernel's rbd module if needed: see [`Host::load_module`]. Default:
    /// off.
    pub fn load_module(mut self, load_module: bool) -> Map {
        self.load_module = load_module;
        self
    }

    /// Sets whether to check the image before calling the kernel. Without the check, a refusal of
    /// the kernel is explained afterwards as far as possible. Default: on.
    pub fn preflight(mut self, preflight: bool) -> Map {
        self.preflight = preflight;
        self
    }

    /// Sets whether to map an image that is already mapped on this machine. Default: off.
    pub fn allow_second_device(mut self, allow_second_device: bool) -> Map {
        self.allow_second_device = allow_second_device;
        self
    }

    /// Sets whether to disable the features that this kernel does not support, permanently and for
    /// all clients. Default: off. [`Device::disabled_features`] returns the disabled features. If a
    /// feature cannot be disabled, the call fails and changes nothing. If the kernel then still
    /// refuses the image, the features stay disabled, and the error says so.
    ///
    /// If another client keeps the exclusive lock, that client makes the change. A kernel that has
    /// the image mapped exclusively refuses it ([`ErrorKind::Busy`]). After exclusive-lock was
    /// disabled, handles that had acquired the lock fail with [`ErrorKind::LockLost`], and the
    /// other clients and this kernel can write at the same time. So check
    /// [`other_watchers`](crate::Image::other_watchers) first, or map
    /// [exclusively](Map::exclusive), which refuses an image that is in use.
    pub fn fix_features(mut self, fix_features: bool) -> Map {
        self.fix_features = fix_features;
        self
    }

    /// Sets the host whose system directories to use.
    pub fn host(mut self, host: Host) -> Map {
        self.host = host;
        self
    }

    /// Maps the image. Blocks until the device's node exists and is verified to be the device.
    ///
    /// If a step fails after the kernel has created the device, the device is removed again. The
    /// error says so, and also if the removal failed.
    ///
    /// Refused before anything is touched: names and options that the kernel cannot parse
    /// ([`ErrorKind::InvalidInput`]), features that the kernel does not support
    /// ([`ErrorKind::FeaturesUnsupportedByKernel`], with the plan), an image that is already mapped
    /// ([`ErrorKind::AlreadyExists`]), and with [`exclusive`](Map::exclusive) an image that is in use
    /// elsewhere ([`ErrorKind::Busy`]).
    ///
    /// Fails with [`ErrorKind::TimedOut`] after the timeout. If the kernel succeeds later, the
    /// device is removed at once while this process lives.
    pub fn run(mut self) -> Result<Device> {
        if let Source::Live(ioctx) = &self.source {
            let configured = ioctx.cluster().config().get(DEFAULT_OPTIONS)?;
            let configured: MapOptions = configured.parse().map_err(|error: Error| {
                error.and(&format!("it comes from {DEFAULT_OPTIONS} in Ceph's configuration"))
            })?;
            self.options = configured.merge(self.options);
        }
        self.spec.check()?;
        self.options.check()?;
        if let Source::Given(credentials) = &self.source {
            credentials.check()?;
        }
        if self.load_module {
            self.host.load_module()?;
        }
        self.host.require_module("map", self.spec.object())?;

        let credentials = match &self.source {
            Source::Given(credentials) => credentials.clone(),
            Source::Live(ioctx) => {
                let (credentials, mode) = self.ask(ioctx)?;
                // Kernels before 5.11 do not know the option, and support only this mode.
                if mode != MsMode::Legacy {
                    self.options = self.options.ms_mode(mode);
                }
                credentials
            }
        };
        let secret = credentials.check()?;
        let disabled = match &self.source {
            Source::Live(ioctx) if self.preflight => self.look(ioctx)?,
            _ => Features::empty(),
        };
        let attach = Attach {
            host: self.host.clone(),
            spec: self.spec.clone(),
            monitors: credentials.monitors,
            user: credentials.user,
            secret,
            udev: self.options.udev() != Some(false),
            options: self.options.clone(),
        };
        match attach.run(Deadline::after(self.timeout)) {
            Ok(device) => Ok(device.with_disabled(disabled)),
            Err(error) if disabled.is_empty() => Err(self.look_again(error)),
            Err(error) => {
                let stays = format!("the features {disabled} were disabled for it and stay disabled");
                Err(self.look_again(error).and(&stays))
            }
        }
    }

    fn preflight_of<'a>(&'a self, ioctx: &'a IoCtx) -> Preflight<'a> {
        Preflight { host: &self.host, ioctx, spec: &self.spec, options: &self.options }
    }

    /// Checks the image before mapping, and disables features if requested. Returns the disabled
    /// features.
    fn look(&self, ioctx: &IoCtx) -> Result<Features> {
        let preflight = self.preflight_of(ioctx);
        if !self.allow_second_device {
            preflight.check_not_mapped()?;
        }
        let image = preflight.open()?;
        preflight.check_layout(&image)?;
        preflight.check_family(&image)?;
        preflight.check_exclusive(&image)?;
        let plan = preflight.plan(&image)?;
        image.close()?;
        match plan {
            Ok(plan) if plan.is_empty() => Ok(Features::empty()),
            Ok(plan) if self.fix_features => {
                let image = ioctx.open(&self.spec.image).run()?;
                image.apply(&plan)?;
                image.close()?;
                Ok(plan.disabled())
            }
            plan => Err(unsupported(self.spec.object(), plan)),
        }
    }

    /// Checks the image after a failure, to explain the kernel's errno.
    fn look_again(&self, error: Error) -> Error {
        let Source::Live(ioctx) = &self.source else { return error };
        let preflight = self.preflight_of(ioctx);
        match error.errno() {
            Some(Errno::ENXIO) => match preflight.open().and_then(|image| preflight.plan(&image)) {
                Ok(Ok(plan)) if plan.is_empty() => error,
                Ok(plan) => {
                    let log = error.log().to_vec();
                    unsupported(self.spec.object(), plan).with_log(log)
                }
                Err(_) => error,
            },
            Some(Errno::ENOENT) => preflight.open().err().unwrap_or(error),
            Some(Errno::EROFS | Errno::EBUSY) => {
                let holders = preflight.open().map(|image| holders(&image)).unwrap_or_default();
                error.with_kind(ErrorKind::Busy { holders })
            }
            _ => error,
        }
    }

    /// Returns the monitors, user and key of the connection, and the mode that the monitors
    /// support.
    fn ask(&self, ioctx: &IoCtx) -> Result<(Credentials, MsMode)> {
        let cluster = ioctx.cluster();
        let dump = cluster.mon_command(r#"{"prefix": "mon dump", "format": "json"}"#, &[])?;
        let mut monmap = Monmap::parse(&dump)?;
        if let Some(osd) = some_osd(cluster) {
            monmap = monmap.with_osd(&osd);
        }
        let (mode, monitors) = monmap.choose(self.options.mode())?;
        let key = match cluster.key() {
            Ok(key) => Some(key),
            Err(error) if error.is_not_found() => {
                let accepted = cluster.config().get("auth_client_required")?;
                let no_key_needed = accepted.split([',', ' ', ';']).any(|method| method == "none");
                if !no_key_needed {
                    return Err(error);
                }
                None
            }
            Err(error) => return Err(error),
        };
        let user = cluster.user();
        let user = user.strip_prefix("client.").unwrap_or(user).to_owned();
        Ok((Credentials { monitors, user, key }, mode))
    }
}

/// The answer to `osd find` for one OSD. `None` if the cluster has no OSD or gives no answer: then
/// the kernel finds out.
fn some_osd(cluster: &Cluster) -> Option<Vec<u8>> {
    let all = cluster.mon_command(r#"{"prefix": "osd ls", "format": "json"}"#, &[]).ok()?;
    let all: Vec<u32> = serde_json::from_slice(&all).ok()?;
    let find = format!(r#"{{"prefix": "osd find", "id": {}, "format": "json"}}"#, all.first()?);
    cluster.mon_command(&find, &[]).ok()
}
