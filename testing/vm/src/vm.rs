//! A running virtual machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::builder::Builder;
use crate::command::Command;
use crate::error::{Error, Result};
use crate::kernel::KernelImage;
use crate::machine::{Hardware, Machine, left};
use crate::protocol::Message;

/// The timeout for powering off.
const POWER_OFF: Duration = Duration::from_secs(30);

/// How long QEMU may take to end after its guest is gone.
const FUNERAL: Duration = Duration::from_secs(5);

/// A running virtual machine. Several commands can run in it at the same time.
///
/// Dropping it, or the end of its process, ends it at once, like a power cut.
/// [`shutdown`](Self::shutdown) powers it off.
#[derive(Debug)]
pub struct TestVm {
    agent: Agent,
    machine: Mutex<Machine>,
    env: BTreeMap<String, String>,
    release: String,
}

/// The result of [`Builder::run`].
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit status of the command.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// The console: kernel messages and those of the guest's first process.
    pub console: String,
}

/// The stream of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl TestVm {
    /// Returns a builder of a machine.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(
        hardware: &Hardware,
        kernel: &KernelImage,
        initramfs: &File,
        env: BTreeMap<String, String>,
        limit: Duration,
    ) -> Result<Self> {
        let (mut machine, port) = Machine::start(hardware, kernel, initramfs)?;
        let (agent, own) = Agent::attach(port)?;
        match own.recv_timeout(limit) {
            Ok(Message::Ready(release)) => Ok(Self { agent, machine: machine.into(), env, release }),
            Err(RecvTimeoutError::Timeout) => {
                machine.kill();
                Err(Error::BootTimedOut { limit, console: machine.console() })
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => {
                let reason = machine.end_within(FUNERAL);
                Err(Error::Died { during: "booting".into(), reason, console: machine.console() })
            }
        }
    }

    /// Returns the release of the running kernel, as `uname -r` prints it.
    pub fn kernel_release(&self) -> &str {
        &self.release
    }

    /// Returns the output of the console so far.
    pub fn console(&self) -> String {
        self.machine().console()
    }

    /// Runs a command. Blocks for at most `limit`, and then kills the command.
    ///
    /// A failed command is no error here. Output of processes that it leaves behind is not waited
    /// for.
    pub fn exec(&self, command: impl Into<Command>, limit: Duration) -> Result<Output> {
        self.spawn(command)?.wait(limit)
    }

    /// Runs a command that must succeed, and returns its standard output. Blocks for at most
    /// `limit`.
    pub fn check(&self, command: impl Into<Command>, limit: Duration) -> Result<String> {
        let command = command.into();
        let line = command.to_string();
        let Output { status, stdout, stderr } = self.exec(command, limit)?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        Err(Error::Failed { command: line, status, stdout, stderr })
    }

    /// Starts a command and does not wait for it. Dropping the result kills it.
    pub fn spawn(&self, command: impl Into<Command>) -> Result<Running<'_>> {
        let command = command.into();
        let mut request = command.0.clone();
        let own = self.env.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
        request.env = own.chain(request.env).collect();
        let line = command.to_string();
        match self.agent.open(&Message::Exec(request)) {
            Ok((id, messages)) => Ok(Running { vm: self, id, line, messages, done: false }),
            Err(_) => Err(self.died(&line)),
        }
    }

    /// Powers the machine off and returns the output of its console. Blocks for at most 30 s, and
    /// then fails.
    pub fn shutdown(self) -> Result<String> {
        let asked = self.agent.send(0, &Message::Shutdown);
        let limit = if asked.is_ok() { POWER_OFF } else { FUNERAL };
        let mut machine = self.machine();
        let reason = machine.end_within(limit);
        let console = machine.console();
        if console.contains("reboot: Power down") {
            return Ok(console);
        }
        Err(Error::Died { during: "powering off".into(), reason, console })
    }

    fn died(&self, line: &str) -> Error {
        let mut machine = self.machine();
        let reason = machine.end_within(FUNERAL);
        Error::Died { during: format!("running `{line}`"), reason, console: machine.console() }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that runs in a [`TestVm`]. Dropping this kills it and its children.
#[derive(Debug)]
pub struct Running<'vm> {
    vm: &'vm TestVm,
    id: u32,
    line: String,
    messages: Receiver<Message>,
    done: bool,
}

impl Running<'_> {
    /// Waits for its end. Blocks for at most `limit`, and then kills the command.
    pub fn wait(self, limit: Duration) -> Result<Output> {
        self.watch(limit, |_, _| ())
    }

    /// Like [`wait`](Self::wait), and passes on every piece of output as it arrives.
    pub fn watch(mut self, limit: Duration, mut seen: impl FnMut(Stream, &[u8])) -> Result<Output> {
        // A limit that `Instant` cannot express means none.
        let deadline = Instant::now().checked_add(limit);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.messages.recv_timeout(deadline.map_or(Duration::from_secs(u64::from(u32::MAX)), left))
            {
                Ok(Message::Stdout(bytes)) => {
                    seen(Stream::Stdout, &bytes);
                    stdout.extend(bytes);
                }
                Ok(Message::Stderr(bytes)) => {
                    seen(Stream::Stderr, &bytes);
                    stderr.extend(bytes);
                }
                Ok(Message::Exited(status)) => {
                    self.done = true;
                    return Ok(Output { status: ExitStatus::from_raw(status), stdout, stderr });
                }
                Ok(Message::Refused(reason)) => {
                    self.done = true;
                    return Err(Error::NotStarted { command: self.line.clone(), reason });
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    let console = self.vm.console();
                    return Err(Error::TimedOut {
                        command: self.line.clone(),
                        limit,
                        stdout,
                        stderr,
                        console,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.done = true;
                    return Err(self.vm.died(&self.line));
                }
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.vm.agent.send(self.id, &Message::Kill);
        }
    }
}
