//! The QEMU process, which ends with its owner, and its console.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context as _, Result};
use crate::host;
use crate::kernel::KernelImage;

/// The name of the agent's virtio-serial port.
pub(crate) const PORT: &str = "org.rbd.testvm";

/// How often the end of QEMU is checked.
const TICK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Machine {
    /// QEMU is killed when this is used or dropped.
    kill: Option<Sender<()>>,
    ended: Receiver<Option<ExitStatus>>,
    console: Log,
    complaints: Log,
}

#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

pub(crate) struct Hardware {
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    pub(crate) kernel_arguments: String,
}

impl Machine {
    /// Starts QEMU. Also returns the host's end of the agent's port.
    pub(crate) fn start(
        hardware: &Hardware,
        kernel: &KernelImage,
        initramfs: &File,
    ) -> Result<(Self, UnixStream)> {
        let (port, far_end) = UnixStream::pair().context(|| "cannot make a pair of sockets".to_owned())?;
        let mut command = qemu(hardware, kernel, initramfs);
        command.stdin(OwnedFd::from(far_end)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (console, complaints) = (Log::default(), Log::default());
        let logs = (console.clone(), complaints.clone());
        let (kill, killed) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (start, started) = mpsc::channel();
        // The kernel sends the parent-death signal when the *thread* that started a process ends.
        // So this thread lives as long as QEMU.
        thread::Builder::new()
            .name("rbd-testvm".into())
            .spawn(move || {
                let spawned = command.spawn();
                // The command keeps QEMU's end of the port open.
                drop(command);
                match spawned {
                    Ok(child) => {
                        let _ = start.send(Ok(()));
                        let _ = end.send(supervise(child, &killed, logs));
                    }
                    Err(error) => drop(start.send(Err(error))),
                }
            })
            .context(|| "cannot start a thread".to_owned())?;
        let outcome =
            started.recv().unwrap_or_else(|_| Err(std::io::Error::other("the supervising thread panicked")));
        outcome.context(|| "cannot start qemu-system-x86_64".to_owned())?;
        Ok((Self { kill: Some(kill), ended, console, complaints }, port))
    }

    /// Returns the output of the console so far.
    pub(crate) fn console(&self) -> String {
        self.console.text()
    }

    /// Waits for QEMU to end, and kills it after the limit. Returns a description of its end.
    pub(crate) fn end_within(&mut self, limit: Duration) -> String {
        if let Ok(status) = self.ended.recv_timeout(limit) {
            return self.epitaph(status);
        }
        self.kill();
        format!("it had to be killed after {limit:?} {}", self.complaints.text()).trim_end().to_owned()
    }

    /// Kills QEMU, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        if self.kill.take().is_some() {
            let _ = self.ended.recv();
        }
    }

    fn epitaph(&self, status: Option<ExitStatus>) -> String {
        let status = status.map_or_else(|| "in an unknown way".to_owned(), |status| format!("with {status}"));
        format!("QEMU ended {status} {}", self.complaints.text().trim()).trim_end().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn fill(&self, mut from: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..length]);
        }
    }
}

fn supervise(
    mut child: Child,
    killed: &Receiver<()>,
    (console, complaints): (Log, Log),
) -> Option<ExitStatus> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        stdout.map(|stdout| scope.spawn(move || console.fill(stdout)));
        stderr.map(|stderr| scope.spawn(move || complaints.fill(stderr)));
        loop {
            match killed.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) => match child.try_wait() {
                    Ok(None) => {}
                    Ok(status) => return status,
                    Err(_) => return None,
                },
                Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                    let _ = child.kill();
                    return child.wait().ok();
                }
            }
        }
    })
}

/// The arguments of every kernel.
///
/// A panic ends QEMU at once, because of -no-reboot. Mitigations cost time and protect nothing
/// here. A busy host can deliver the first timer interrupts so late that the kernel would panic
/// at its check of them. QEMU keeps translated code by its address: with random addresses, it
/// would translate the libraries of each program anew, and a start of `rbd` takes three times as
/// long. Boot messages go to the console: they are the only information about a failed boot.
const ALWAYS: &str = "console=ttyS0 panic=-1 mitigations=off no_timer_check nokaslr norandmaps";

fn qemu(hardware: &Hardware, kernel: &KernelImage, initramfs: &File) -> Command {
    // Emulation works everywhere; KVM does not (no device in containers, broken when nested).
    let accelerator = env::var("RBD_TESTVM_ACCEL").unwrap_or_else(|_| "tcg".into());
    let mut command = host::command("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    // Without cmpxchg16b: kernels use this instruction in the allocator. Under QEMU 7.2, 4 of 12
    // boots of a 6.12 kernel crashed with it, mostly right after it with garbage in the flags
    // register; none of 36 crashed without it. The cause is not known.
    command.args(["-accel", &accelerator, "-machine", "q35", "-cpu", "max,-cx16"]);
    command.args(["-smp", &hardware.cpus.to_string(), "-m", &format!("{}M", hardware.memory_mib)]);
    command.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.arg("-kernel").arg(&kernel.vmlinuz);
    // The file has no name. QEMU opens it through the descriptor of this process.
    command.arg("-initrd").arg(format!("/proc/{}/fd/{}", std::process::id(), initramfs.as_raw_fd()));
    command.arg("-append").arg(format!("{ALWAYS} {}", hardware.kernel_arguments));
    // Console on standard output; the agent's port on standard input, which is a socket.
    command.args(["-chardev", "file,id=console,path=/dev/stdout", "-serial", "chardev:console"]);
    command.args(["-chardev", "socket,id=agent,fd=0", "-device", "virtio-serial-pci"]);
    command.args(["-device", &format!("virtserialport,chardev=agent,name={PORT}")]);
    command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    command
}

/// Returns the time until a deadline.
pub(crate) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
