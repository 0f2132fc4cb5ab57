//! Errors in the words of the `rbd` command, with the reason that the command only logs.

use std::fmt::Display;
use std::io;
use std::num::ParseIntError;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};

/// The exit status of an invalid request.
pub const EINVAL: i32 = 22;

/// Why a command failed: its text on standard error, and its exit status.
#[derive(Debug)]
pub struct Failure {
    why: Vec<String>,
    messages: Vec<String>,
    status: i32,
    begun: bool,
}

impl Failure {
    /// Returns a failure with a message of the `rbd` command, without its `rbd: `, and an exit
    /// status.
    pub fn new(status: i32, message: impl Display) -> Failure {
        Failure { why: Vec::new(), messages: vec![format!("rbd: {message}")], status, begun: true }
    }

    /// Returns a failure such as `rbd: <what>: (22) Invalid argument`.
    pub fn errno(status: i32, what: impl Display) -> Failure {
        Failure::new(status, format_args!("{what}: {}", describe(status)))
    }

    /// Returns a failure without messages yet.
    pub fn silent(status: i32) -> Failure {
        Failure { why: Vec::new(), messages: Vec::new(), status, begun: true }
    }

    /// Returns the same failure with another message.
    pub fn instead(mut self, message: impl Display) -> Failure {
        self.messages = vec![message.to_string()];
        self
    }

    /// Marks the command as not begun, so that its own message is omitted.
    pub fn not_begun(mut self) -> Failure {
        self.begun = false;
        self
    }

    /// Adds a message: what the failure means for the whole command.
    pub fn and(mut self, what: &str) -> Failure {
        if self.begun {
            self.messages.push(format!("rbd: {what}: {}", describe(self.status)));
        }
        self
    }

    /// Adds the reason; for an error of the library, with Ceph's log lines.
    pub fn because(mut self, why: impl Display) -> Failure {
        self.why.extend(format!("{why:#}").lines().map(str::to_owned));
        self
    }

    /// Returns the same failure with another reason.
    pub fn instead_because(mut self, why: impl Display) -> Failure {
        self.why.clear();
        self.because(why)
    }

    /// Returns the exit status, a positive errno.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// Prints it on standard error and continues.
    pub fn warn(self) {
        let _ = self.report();
    }

    /// Prints it on standard error.
    pub(super) fn report(self) -> ExitCode {
        for line in &self.why {
            eprintln!("why: {line}");
        }
        for line in &self.messages {
            eprintln!("{line}");
        }
        ExitCode::from(u8::try_from(self.status).unwrap_or(u8::MAX))
    }
}

/// Turns an error of the library into `rbd: <what>: (2) No such file or directory`, for `map_err`.
///
/// The library's own text comes before it. It names object and reason, and contains librbd's log
/// lines.
pub fn failed(what: impl Display) -> impl FnOnce(rbd::Error) -> Failure {
    move |error| Failure::errno(status(&error), what).because(error)
}

/// Like `failed`, for a call during which others ran: without Ceph's log lines, because they may
/// belong to another call.
pub fn failed_among_others(what: impl Display) -> impl FnOnce(rbd::Error) -> Failure {
    move |error| Failure::errno(status(&error), what).because(format_args!("{error}"))
}

/// Returns the name of the image in an error, without its pool.
pub fn image_name(error: &rbd::Error) -> String {
    let spec = error.object_name();
    spec.rsplit('/').next().unwrap_or(spec).to_owned()
}

/// Returns the errno of an error. A function that the loaded library lacks is "not supported".
pub(super) fn status(error: &rbd::Error) -> i32 {
    error.errno().unwrap_or(rbd::Errno::EOPNOTSUPP).code()
}

/// `(2) No such file or directory`
fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    format!("({errno}) {}", text.split(" (os error").next().unwrap_or_default())
}

/// Converts an error of clap into the words of the `rbd` command, which exits with 1.
pub(super) fn of_command_line(error: &clap::Error) -> Failure {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let option = context(ContextKind::InvalidArg);
    let option = option.split([' ', '=']).next().unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument if option.starts_with('-') => {
            Failure::new(1, format_args!("unrecognised option '{option}'"))
        }
        ErrorKind::UnknownArgument => Failure::new(1, "too many arguments"),
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            Failure::new(1, format_args!("the required argument for option '{option}' is missing"))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error);
            // For an option that takes a plain number, the argument is shown.
            let argument = match why {
                Some(why) if why.is::<ParseIntError>() => {
                    format!(" ('{}')", context(ContextKind::InvalidValue))
                }
                _ => String::new(),
            };
            let failure =
                Failure::new(1, format_args!("the argument{argument} for option '{option}' is invalid"));
            match why {
                Some(why) => failure.because(why),
                None => failure,
            }
        }
        // Help goes to standard output. Other errors have no counterpart in the `rbd` command.
        _ => {
            let _ = error.print();
            std::process::exit(i32::from(error.use_stderr()))
        }
    }
}
