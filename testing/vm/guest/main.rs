//! The agent in the guest: runs the commands that the host sends over a virtio-serial port, and
//! returns their output.
//!
//! `/init` starts it with the port's device as the only argument, and powers the machine off when
//! it ends. It ends when the host tells it to or disappears. Its own messages go to the console.

#[path = "../src/protocol.rs"]
mod protocol;

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use protocol::{Message, Request};

/// How long after a command's end its output is still awaited if a process that it left behind
/// keeps it open.
const GRACE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testvm agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Box<dyn Error>> {
    let port = std::env::args_os().nth(1).ok_or("the port's device is missing")?;
    let mut port = File::options().read(true).write(true).open(port)?;
    let host = Host { port: Arc::new(Mutex::new(port.try_clone()?)), running: Arc::default() };
    // Blocks until the host has its end open.
    host.say(0, &Message::Ready(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()));
    while let Some((id, message)) = protocol::receive(&mut port)? {
        match message {
            Message::Exec(request) => host.start(id, request),
            Message::Kill => host.kill(id),
            Message::Shutdown => break,
            other => return Err(format!("the host sent {other:?}").into()),
        }
    }
    Ok(())
}

#[derive(Clone)]
struct Host {
    port: Arc<Mutex<File>>,
    /// Process group of each running command.
    running: Arc<Mutex<HashMap<u32, u32>>>,
}

impl Host {
    /// Errors are ignored: the reading side notices that the host is gone.
    fn say(&self, id: u32, message: &Message) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = protocol::send(&mut *port, id, message);
    }

    fn start(&self, id: u32, request: Request) {
        let host = self.clone();
        thread::spawn(move || {
            let last = match host.run(id, request) {
                Ok(status) => Message::Exited(status),
                Err(reason) => Message::Refused(reason.to_string()),
            };
            host.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            host.say(id, &last);
        });
    }

    fn run(&self, id: u32, request: Request) -> Result<i32, Box<dyn Error>> {
        let mut words = request.argv.into_iter().map(OsString::from_vec);
        let mut command = Command::new(words.next().ok_or("the command is empty")?);
        command.args(words).process_group(0);
        command.current_dir(if request.dir.is_empty() {
            "/".into()
        } else {
            OsString::from_vec(request.dir)
        });
        for pair in request.env {
            let split =
                pair.iter().position(|&byte| byte == b'=').ok_or("an environment entry without `=`")?;
            let value = OsString::from_vec(pair[split + 1..].to_vec());
            command.env(OsString::from_vec(pair[..split].to_vec()), value);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id, child.id());

        if let Some(mut stdin) = child.stdin.take() {
            // A command that ends without reading its input is no error.
            thread::spawn(move || stdin.write_all(&request.stdin));
        }
        let (done, wait) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            self.pump(id, stdout, Message::Stdout, done.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            self.pump(id, stderr, Message::Stderr, done);
        }
        let status = child.wait()?;
        // Both pumps drop their end of the channel when they have ended.
        while wait.recv_timeout(GRACE).is_ok() {}
        Ok(status.into_raw())
    }

    /// Passes output on. `alive` gets a token for each piece, so that a slow but steady flow is not
    /// cut off.
    fn pump(
        &self,
        id: u32,
        mut from: impl Read + Send + 'static,
        wrap: fn(Vec<u8>) -> Message,
        alive: mpsc::Sender<()>,
    ) {
        let host = self.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                host.say(id, &wrap(buffer[..length].to_vec()));
                let _ = alive.send(());
            }
        });
    }

    /// Kills the whole process group, through busybox, because the standard library sends signals
    /// to single children only.
    fn kill(&self, id: u32) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = running.get(&id) {
            let target = format!("-{group}");
            if let Err(error) = Command::new("/usr/bin/busybox").args(["kill", "-9", "--", &target]).status()
            {
                eprintln!("testvm agent: kill {target}: {error}");
            }
        }
    }
}
