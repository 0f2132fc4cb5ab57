//! The programs of Ceph: finding them, and running tools.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::IoContext as _;
use crate::log::last_lines;
use crate::{Error, Result, supervisor};

/// The directories of distributions, searched after PATH, because a user's PATH often lacks the
/// sbin directories.
const DIRECTORIES: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin"];

/// Returns a command that runs `program` without the Ceph settings of the caller's environment.
pub(crate) fn command(program: &str) -> Result<Command> {
    let mut command = Command::new(find(program)?);
    for variable in ["CEPH_ARGS", "CEPH_CONF", "CEPH_KEYRING"] {
        command.env_remove(variable);
    }
    command.current_dir("/").stdin(Stdio::null());
    Ok(command)
}

/// Returns the path of `program`, or an error that says how to install it.
pub(crate) fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::MissingProgram { program: program.to_owned() })
}

/// How long a tool may take. Each takes a second; a busy machine delays it.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running tool.
pub(crate) struct Tool {
    child: std::process::Child,
    line: String,
}

impl Tool {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let line = command_line(&command);
        let program = PathBuf::from(command.get_program());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = supervisor::spawn(command).context("starting", &program)?;
        Ok(Self { child, line })
    }

    /// Waits for its end. Returns its standard output.
    pub(crate) fn finish(self) -> Result<String> {
        let line = self.line.clone();
        let (status, output, errors) = self.wait()?;
        if status.success() {
            return Ok(output);
        }
        let output = last_lines(&(output + &errors), 12);
        Err(Error::ToolFailed { command: line, status: status.to_string(), output })
    }

    /// Waits for its end, at most `PATIENCE`. Returns its exit status, standard output and standard
    /// error.
    fn wait(mut self) -> Result<(ExitStatus, String, String)> {
        // Threads read the pipes. Otherwise the tool could wait for us while we wait for it.
        let output = self.child.stdout.take().map(|pipe| thread::spawn(move || read(pipe)));
        let errors = self.child.stderr.take().map(|pipe| thread::spawn(move || read(pipe)));
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().context("waiting for", Path::new(&self.line))? {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let status = format!("it did not end within {PATIENCE:?}, and was killed");
                return Err(Error::ToolFailed { command: self.line.clone(), status, output: String::new() });
            }
            thread::sleep(Duration::from_millis(2));
        };
        let text = |thread: Option<thread::JoinHandle<Vec<u8>>>| {
            let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok((status, text(output), text(errors)))
    }
}

fn read(mut pipe: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    bytes
}

impl Drop for Tool {
    /// Kills a tool that was not waited for: the start has failed elsewhere.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end and returns its standard output.
pub(crate) fn run(command: Command) -> Result<String> {
    Tool::start(command)?.finish()
}

/// Returns whether the help of the installed `program` names `option`. Some programs print it as an
/// error.
pub(crate) fn knows(program: &str, option: &str) -> Result<bool> {
    let mut help = command(program)?;
    help.arg("--help");
    let (_, output, errors) = Tool::start(help)?.wait()?;
    Ok(output.contains(option) || errors.contains(option))
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(OsStr::new("?"));
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_packages() {
        let error = find("ceph-no-such-program").unwrap_err();
        assert_eq!(
            error.to_string(),
            "ceph-no-such-program is not installed; on Debian and Ubuntu: apt-get install \
             --no-install-recommends ceph-mon ceph-osd ceph-mgr ceph-common"
        );
    }

    #[test]
    fn a_failing_tool_is_told_with_its_output() {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo out; echo the reason >&2; exit 3"]);
        let error = run(shell).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("the reason"), "{error}");
    }

    #[test]
    fn the_help_tells_the_options() {
        assert!(knows("ceph-authtool", "--gen-print-key").unwrap());
        assert!(!knows("ceph-authtool", "--no-such-option").unwrap());
    }

    #[test]
    fn much_output_on_both_pipes_does_not_block() {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero"]);
        assert_eq!(run(shell).unwrap().len(), 300_000);
    }
}
