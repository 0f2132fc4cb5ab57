//! Mapping an image: what to map, how, and the steps.

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

/// A mapping to be made, by [`run`](Map::run); from [`krbd::map`](crate::krbd::map) or
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

/// Where monitors, user and key come from.
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

    /// A snapshot of the image; the device is read-only.
    pub fn snapshot(mut self, name: impl Into<String>) -> Map {
        self.spec = self.spec.snapshot(name);
        self
    }

    /// A device that cannot be written to.
    pub fn read_only(mut self, on: bool) -> Map {
        self.options = self.options.read_only(on);
        self
    }

    /// Take the image's exclusive lock and keep it while it is mapped. Refused where somebody else
    /// has the image open for writing, or mapped.
    pub fn exclusive(mut self, on: bool) -> Map {
        self.options = self.options.exclusive(on);
        self
    }

    /// Protocol and encryption of the kernel's connections.
    pub fn ms_mode(mut self, mode: MsMode) -> Map {
        self.options = self.options.ms_mode(mode);
        self
    }

    /// One more option, as `name` or `name=value`.
    pub fn option(mut self, option: impl AsRef<str>) -> Map {
        self.options = self.options.raw(option);
        self
    }

    /// More options; they win over those set before.
    pub fn options(mut self, options: MapOptions) -> Map {
        self.options = self.options.merge(options);
        self
    }

    /// The longest time that the kernel and the wait for the device node may take together (60 s by
    /// default). The looks at the cluster before that have the timeouts of its connection.
    pub fn timeout(mut self, time: Duration) -> Map {
        self.timeout = time;
        self
    }

    /// Load the kernel's rbd module if it is not there (off by default): see [`Host::load_module`].
    pub fn load_module(mut self, on: bool) -> Map {
        self.load_module = on;
        self
    }

    /// Look at the image before the kernel is asked (on by default). Without it, the kernel's
    /// refusal is explained afterwards as far as it can be.
    pub fn preflight(mut self, on: bool) -> Map {
        self.preflight = on;
        self
    }

    /// Map it though it is mapped here already (off by default).
    pub fn allow_second_device(mut self, on: bool) -> Map {
        self.allow_second_device = on;
        self
    }

    /// Disable what this kernel does not support, for good and for everybody (off by default). What
    /// was disabled is said by [`Device::disabled_features`]. Features that cannot be disabled are
    /// an error, and nothing is changed then. Where the kernel refuses the image all the same, what
    /// was disabled stays so; the error says it.
    pub fn fix_features(mut self, on: bool) -> Map {
        self.fix_features = on;
        self
    }

    /// Of a host whose system directories are mounted elsewhere.
    pub fn host(mut self, host: Host) -> Map {
        self.host = host;
        self
    }

    /// Maps it. Blocks until the device's node is there and has been verified to be the device.
    ///
    /// Where anything fails after the kernel has made the device, the device is removed again; the
    /// error says so, and also if that failed. Refused before anything is touched: names and
    /// options that the kernel cannot be told ([`ErrorKind::InvalidInput`]), features that it does
    /// not support ([`ErrorKind::FeaturesUnsupportedByKernel`], with the plan), an image that is
    /// mapped already ([`ErrorKind::Exists`]), or with [`exclusive`](Map::exclusive) is in use
    /// elsewhere ([`ErrorKind::Busy`]). At the deadline: [`ErrorKind::TimedOut`]; should the kernel
    /// succeed after that, the device is removed at once, as long as this process lives.
    pub fn run(mut self) -> Result<Device> {
        if let Source::Live(ioctx) = &self.source {
            let configured: MapOptions = ioctx.cluster().config().get("rbd_default_map_options")?.parse()?;
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
                // Kernels before 5.11 do not know the option; what it would say is their only way.
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
                let stays = format!("the features {disabled} were disabled for it before, and stay so");
                Err(self.look_again(error).and(&stays))
            }
        }
    }

    fn preflight_of<'a>(&'a self, ioctx: &'a IoCtx) -> Preflight<'a> {
        Preflight { host: &self.host, ioctx, spec: &self.spec, options: &self.options }
    }

    /// Before: refuses, or disables what it was told to. Gives the features it disabled.
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
                Ok(plan.disables())
            }
            plan => Err(unsupported(self.spec.object(), plan)),
        }
    }

    /// Afterwards: what the kernel's number left out can be seen in the image.
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

    /// Monitors, user and key as the connection has them, and the mode that its monitors speak.
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

/// The answer to `osd find` of one OSD. None where the cluster has none, or does not tell: then the
/// kernel finds out.
fn some_osd(cluster: &Cluster) -> Option<Vec<u8>> {
    let all = cluster.mon_command(r#"{"prefix": "osd ls", "format": "json"}"#, &[]).ok()?;
    let all: Vec<u32> = serde_json::from_slice(&all).ok()?;
    let find = format!(r#"{{"prefix": "osd find", "id": {}, "format": "json"}}"#, all.first()?);
    cluster.mon_command(&find, &[]).ok()
}
