//! A command for the guest.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::protocol::Request;

/// A command to run in a virtual machine. An array of words converts into one.
///
/// ```
/// use rbd_testvm::Command;
/// let plain: Command = ["echo", "hello"].into();
/// let more = Command::new("tee").arg("/tmp/copy").stdin("text").env("LC_ALL", "C").dir("/tmp");
/// let script = Command::shell("mount /dev/rbd0 /mnt && ls /mnt");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a command does nothing by itself"]
pub struct Command(pub(crate) Request);

impl Command {
    /// Returns a command that runs a program, by its path in the guest or its name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self(Request::default()).arg(program)
    }

    /// Returns a command that runs a line in the guest's shell (busybox), which ends at the first
    /// failure.
    pub fn shell(line: impl AsRef<OsStr>) -> Self {
        Self::new("sh").arg("-euc").arg(line)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.argv.push(argument.as_ref().as_bytes().to_vec());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env.push([name.as_bytes(), b"=", value.as_ref().as_bytes()].concat());
        self
    }

    /// Sets the working directory. Default: `/`.
    pub fn dir(mut self, directory: impl AsRef<OsStr>) -> Self {
        self.0.dir = directory.as_ref().as_bytes().to_vec();
        self
    }

    /// Sets its standard input. Default: empty.
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.0.stdin = input.into();
        self
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, word) in self.0.argv.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(&String::from_utf8_lossy(word))?;
        }
        Ok(())
    }
}

impl<I: IntoIterator<Item = S>, S: AsRef<OsStr>> From<I> for Command {
    fn from(words: I) -> Self {
        Self(Request::default()).args(words)
    }
}
