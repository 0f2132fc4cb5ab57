//! Errors in the words of the `rbd` command, with the reason that it leaves to log lines.

use std::fmt::Display;
use std::io;
use std::num::ParseIntError;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};

/// The exit status of a request that makes no sense.
pub const EINVAL: i32 = 22;

/// Why a command failed: what it says on standard error, and its exit status.
#[derive(Debug)]
pub struct Failure {
    why: Vec<String>,
    messages: Vec<String>,
    status: i32,
    begun: bool,
}

impl Failure {
    /// A failure with a message of the `rbd` command, without its `rbd: `, and an exit status.
    pub fn new(status: i32, message: impl Display) -> Failure {
        Failure { why: Vec::new(), messages: vec![format!("rbd: {message}")], status, begun: true }
    }

    /// `rbd: <what>: (22) Invalid argument` and the like.
    pub fn errno(status: i32, what: impl Display) -> Failure {
        Failure::new(status, format_args!("{what}: {}", describe(status)))
    }

    /// The same failure, reported in other words.
    pub fn instead(mut self, message: impl Display) -> Failure {
        self.messages = vec![message.to_string()];
        self
    }

    /// The command had not even begun: nothing is said about what the failure means for it.
    pub fn not_begun(mut self) -> Failure {
        self.begun = false;
        self
    }

    /// A further message: what the failure means for the whole command.
    pub fn and(mut self, what: &str) -> Failure {
        if self.begun {
            self.messages.push(format!("rbd: {what}: {}", describe(self.status)));
        }
        self
    }

    /// The reason, for people; of an error of the library with what Ceph logged.
    pub fn because(mut self, why: impl Display) -> Failure {
        self.why.extend(format!("{why:#}").lines().map(str::to_owned));
        self
    }

    /// The positive errno, which is the exit status.
    pub fn status(&self) -> i32 {
        self.status
    }

    /// Says it on standard error.
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
/// The library's own text comes before it: it names object and reason, and carries what librbd
/// logged.
pub fn failed(what: impl Display) -> impl FnOnce(rbd::Error) -> Failure {
    move |error| Failure::errno(status(&error), what).because(error)
}

/// The errno of an error; what the loaded library does not have at all is "not supported".
pub(super) fn status(error: &rbd::Error) -> i32 {
    error.errno().unwrap_or(rbd::Errno::EOPNOTSUPP).code()
}

/// `(2) No such file or directory`
fn describe(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    format!("({errno}) {}", text.split(" (os error").next().unwrap_or_default())
}

/// What clap says, in the words of the `rbd` command, which exits with 1 for it.
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
            // Of an option that takes a plain number, the argument is shown.
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
        // Help goes to standard output; other complaints have no counterpart in the `rbd` command.
        _ => {
            let _ = error.print();
            std::process::exit(i32::from(error.use_stderr()))
        }
    }
}
