//! The driver's program as a child of the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Much less than the 30 s for which a request waits for a monitor.
const SOON: Duration = Duration::from_secs(15);

/// A program that ends with its test.
pub struct Program(pub Child);

impl Program {
    /// Starts a controller.
    pub fn controller(config: &Path, socket: &Path, args: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbd-csi"));
        command.arg("--controller").args(args).arg("--clusters").arg(config);
        Program(command.arg("--endpoint").arg(socket).stdin(Stdio::null()).spawn().unwrap())
    }

    /// Asks the program to end.
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    pub fn is_there(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for the end, which must be a success.
    pub fn ends(&mut self, what: &str) {
        let begun = Instant::now();
        while self.is_there() {
            assert!(begun.elapsed() < SOON, "{what}: still there after {SOON:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.0.wait().unwrap().success(), "{what}");
    }

    /// Kills the program, as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
