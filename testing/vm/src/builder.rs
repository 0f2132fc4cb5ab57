//! The description of a virtual machine.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cluster;
use crate::command::Command;
use crate::error::{Context as _, Result};
use crate::host;
use crate::initramfs;
use crate::kernel::Kernel;
use crate::machine::Hardware;
use crate::programs::Program;
use crate::vm::{Finished, TestVm};

/// Memory for the kernel and programs, in MiB, in addition to the files of the guest.
const MEMORY: u64 = 384;

/// State of the kernel's rbd module when the guest is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RbdModule {
    /// Loaded, with its default parameters.
    #[default]
    Loaded,
    /// Installed, but not loaded: `modprobe rbd` loads it.
    Unloaded,
    /// Not installed: `modprobe rbd` fails.
    Absent,
}

/// Describes a virtual machine: see [`TestVm::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing boots before `boot` or `run`"]
pub struct Builder {
    pub(crate) kernel: Kernel,
    pub(crate) kernel_arguments: String,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) cpus: u32,
    pub(crate) rbd: RbdModule,
    pub(crate) modules: Vec<String>,
    pub(crate) udev: bool,
    pub(crate) programs: Vec<Program>,
    pub(crate) files: BTreeMap<PathBuf, PathBuf>,
    pub(crate) texts: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) cluster: Option<PathBuf>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) boot_deadline: Duration,
    pub(crate) deadline: Duration,
}

impl Default for Builder {
    fn default() -> Self {
        let mut env = BTreeMap::new();
        // With this variable, programs built by cargo find their libraries, at the same paths on
        // the host and in the guest.
        for name in ["LD_LIBRARY_PATH", "RUST_BACKTRACE"] {
            if let Ok(value) = env::var(name) {
                env.insert(name.to_owned(), value);
            }
        }
        Self {
            kernel: Kernel::default(),
            kernel_arguments: String::new(),
            memory_mib: None,
            cpus: 1,
            rbd: RbdModule::default(),
            modules: Vec::new(),
            udev: false,
            programs: Vec::new(),
            files: BTreeMap::new(),
            texts: BTreeMap::new(),
            cluster: None,
            env,
            boot_deadline: Duration::from_secs(120),
            deadline: Duration::from_secs(300),
        }
    }
}

impl Builder {
    /// Sets the kernel. Default: the newest of Debian 12.
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Adds arguments to the kernel's command line.
    pub fn kernel_arguments(mut self, arguments: impl Into<String>) -> Self {
        self.kernel_arguments = arguments.into();
        self
    }

    /// Sets the memory in MiB. Default: 384 and three times the size of the guest's files.
    pub fn memory_mib(mut self, memory: u64) -> Self {
        self.memory_mib = Some(memory);
        self
    }

    /// Sets the number of processors. Default: one, which boots fastest.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Sets the state of the rbd module. Default: loaded.
    pub fn rbd_module(mut self, state: RbdModule) -> Self {
        self.rbd = state;
        self
    }

    /// Loads another kernel module at boot.
    pub fn module(mut self, name: impl Into<String>) -> Self {
        self.modules.push(name.into());
        self
    }

    /// Sets whether systemd-udevd runs in the guest, with Debian's rules for block devices and
    /// Ceph's for rbd. Default: off, so that the kernel makes device nodes (devtmpfs). Needs the
    /// package `udev` on the host.
    pub fn udev(mut self, udev: bool) -> Self {
        self.udev = udev;
        self
    }

    /// Adds a program of the host, with the libraries that it needs. A name without `/` is searched
    /// in `PATH`.
    ///
    /// A program under `/usr`, `/bin` or `/sbin` keeps its path. Another one, such as a program
    /// built by cargo, goes to `/usr/local/bin`, so that its file name is enough to run it.
    /// Libraries keep their paths. A shared object that is loaded at run time is added in the same
    /// way, with its own libraries.
    pub fn program(mut self, host: impl Into<PathBuf>) -> Self {
        self.programs.push(Program { host: host.into(), guest: None });
        self
    }

    /// Adds a program of the host at this path of the guest.
    pub fn program_as(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.programs.push(Program { host: host.into(), guest: Some(guest.into()) });
        self
    }

    /// Adds a file of the host (mode 0600). Its content is read when the machine boots.
    pub fn file(mut self, host: impl Into<PathBuf>, guest: impl Into<PathBuf>) -> Self {
        self.files.insert(guest.into(), host.into());
        self
    }

    /// Adds a file with this content (mode 0755, so that it may be a script).
    pub fn text(mut self, guest: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.texts.insert(guest.into(), content.into());
        self
    }

    /// Sets an environment variable for every command.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Lets the guest's clients find the cluster of this configuration file, which listens on the
    /// host's loopback.
    ///
    /// The file and the keyrings that it names keep their paths. The file is also at
    /// `/etc/ceph/ceph.conf`, where clients look by default. The cluster's addresses stay the same.
    pub fn cluster(mut self, configuration: impl Into<PathBuf>) -> Self {
        self.cluster = Some(configuration.into());
        self.env("CEPH_CONF", cluster::CONFIGURATION)
    }

    /// Sets the timeout of the boot. Default: 120 s. A boot takes 4 s, longer on a busy machine.
    pub fn boot_deadline(mut self, limit: Duration) -> Self {
        self.boot_deadline = limit;
        self
    }

    /// Sets the timeout of [`run`](Self::run), including the boot. Default: 300 s.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Boots the machine, which then waits for commands. Blocks until it is up, at most for the
    /// boot timeout.
    ///
    /// The first use of a kernel downloads it. The timeout does not include that.
    pub fn boot(self) -> Result<TestVm> {
        host::require_all()?;
        let kernel = self.kernel.fetch()?;
        let (initramfs, length) = initramfs::write(&self, &kernel)?;
        // During the boot, memory contains both the archive and its unpacked content. The root file
        // system may use half of it.
        let memory_mib = self.memory_mib.unwrap_or(MEMORY + 3 * length.div_ceil(1 << 20));
        let hardware = Hardware { memory_mib, cpus: self.cpus, kernel_arguments: self.kernel_arguments };
        TestVm::start(&hardware, &kernel, &initramfs, self.env, self.boot_deadline)
    }

    /// Boots the machine, runs one command and powers off. Blocks for at most the timeout.
    ///
    /// A failed command is no error here: see the status in [`Finished`]. A hanging one is.
    pub fn run(mut self, command: impl Into<Command>) -> Result<Finished> {
        let start = Instant::now();
        let limit = self.deadline;
        self.boot_deadline = self.boot_deadline.min(limit);
        let vm = self.boot()?;
        let output = vm.exec(command, limit.saturating_sub(start.elapsed()))?;
        let console = vm.shutdown()?;
        Ok(Finished { status: output.status, stdout: output.stdout, stderr: output.stderr, console })
    }

    /// Adds the running executable as `/usr/local/bin/self`, so that a cargo test can run itself
    /// inside.
    pub fn current_program(self) -> Result<Self> {
        let path = env::current_exe().and_then(fs::canonicalize);
        Ok(self.program_as(
            path.context(|| "the running executable cannot be found".to_owned())?,
            "/usr/local/bin/self",
        ))
    }
}
