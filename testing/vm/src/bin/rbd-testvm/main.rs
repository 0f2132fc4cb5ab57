//! A command inside a virtual machine whose kernel has the rbd module.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rbd_testvm::{Builder, Command, Error, Kernel, RbdModule, Stream, TestVm};

/// Boots a kernel that has the rbd module, runs one command in it, and ends with the command's exit
/// code.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The kernel's Debian package, by name or pattern, and its suite [default: Debian 12's cloud
    /// kernel]
    #[arg(long, value_name = "PACKAGE[@SUITE]")]
    kernel: Option<Kernel>,
    /// The configuration file of a cluster on this host's loopback, for the clients in the guest
    #[arg(short, long, env = "CEPH_CONF", value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Another program of the host to include, with its libraries
    #[arg(long, value_name = "PROGRAM")]
    program: Vec<PathBuf>,
    /// A file of the host to include, and its path in the guest if it differs
    #[arg(long, value_name = "HOST[:GUEST]")]
    file: Vec<String>,
    /// State of the rbd module
    #[arg(long, value_name = "STATE", default_value = "loaded")]
    rbd: Module,
    /// Run systemd-udevd in the guest
    #[arg(long)]
    udev: bool,
    /// Memory in MiB [default: 384 and three times the size of the files]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    /// Processors
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Seconds that the command may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    deadline: u64,
    /// Show the console at the end
    #[arg(long)]
    console: bool,
    /// The command and its arguments; a program that the guest lacks is included
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Module {
    Loaded,
    Unloaded,
    Absent,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("rbd-testvm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<u8, Error> {
    let limit = Duration::from_secs(cli.deadline);
    let mut words = cli.command.clone();
    let mut builder = machine(cli);
    if let Some(program) = lacking(&words[0]) {
        builder = builder.program(&program);
        // The user's own program goes to a directory of PATH.
        words[0] = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    let vm = builder.boot()?;
    let output = vm.spawn(Command::from(words))?.watch(limit, |stream, piece| {
        // A closed pipe does not stop the command.
        let _ = match stream {
            Stream::Stdout => std::io::stdout().write_all(piece).and_then(|()| std::io::stdout().flush()),
            Stream::Stderr => std::io::stderr().write_all(piece),
        };
    })?;
    let console = vm.shutdown()?;
    if cli.console {
        eprint!("{console}");
    }
    // The exit code of a shell for signals.
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

fn machine(cli: &Cli) -> Builder {
    let mut builder = TestVm::builder().udev(cli.udev).cpus(cli.cpus).rbd_module(match cli.rbd {
        Module::Loaded => RbdModule::Loaded,
        Module::Unloaded => RbdModule::Unloaded,
        Module::Absent => RbdModule::Absent,
    });
    if let Some(kernel) = &cli.kernel {
        builder = builder.kernel(kernel.clone());
    }
    if let Some(memory) = cli.memory {
        builder = builder.memory_mib(memory);
    }
    if let Some(conf) = &cli.conf {
        builder = builder.cluster(conf);
    }
    for program in &cli.program {
        builder = builder.program(program);
    }
    for file in &cli.file {
        let (host, guest) = file.split_once(':').unwrap_or((file, file));
        builder = builder.file(host, guest);
    }
    builder
}

/// Returns the host's file for a command that the guest's busybox does not have.
fn lacking(word: &str) -> Option<PathBuf> {
    if word.contains('/') {
        return Some(PathBuf::from(word)).filter(|path| path.is_file());
    }
    let applets = std::process::Command::new("busybox").arg("--list").output().ok()?;
    if String::from_utf8_lossy(&applets.stdout).lines().any(|applet| applet == word) {
        return None;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(Path::new(word))).find(|path| path.is_file())
}
