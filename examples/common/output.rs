//! Plain text or JSON on standard output.

use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

use chrono::{DateTime, Local};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use super::failure::{EINVAL, Failure};

/// How to print.
#[derive(Debug, Clone, clap::Args)]
pub struct OutputFlags {
    /// output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// pretty formatting (json)
    #[arg(long)]
    pretty_format: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Plain,
    Json,
}

impl OutputFlags {
    /// Prints a value: its `Display` form, or its fields as JSON.
    pub fn print<T: Display + Serialize>(&self, value: &T) -> Result<(), Failure> {
        match self.format {
            Format::Plain => print(&value.to_string()),
            Format::Json => print(&self.json(value)),
        }
    }

    /// Refuses flags that exclude each other. Call this first.
    pub fn check(&self) -> Result<(), Failure> {
        match (self.format, self.pretty_format) {
            (Format::Plain, true) => {
                Err(Failure::new(EINVAL, "--pretty-format only works when --format is json or xml"))
            }
            _ => Ok(()),
        }
    }

    fn json<T: Serialize>(&self, value: &T) -> String {
        let mut text = Vec::new();
        let result = if self.pretty_format {
            let formatter = PrettyFormatter::with_indent(b"    ");
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        } else {
            value.serialize(&mut serde_json::Serializer::new(&mut text))
        };
        result.expect("structs of strings and numbers become JSON in memory");
        text.push(b'\n');
        String::from_utf8(text).expect("JSON is UTF-8")
    }
}

/// Writes to standard output. Unlike `print!`, it does not panic if the pipe is closed, as in `ls |
/// head -1`.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| {
        let status = error.raw_os_error().unwrap_or(1);
        Failure::new(status, format_args!("writing the output failed: {error}"))
    })
}

/// Formats a time like C's `ctime`, in the local time zone: `Mon Nov 23 09:04:04 2026`.
pub fn ctime(time: SystemTime) -> String {
    DateTime::<Local>::from(time).format("%a %b %e %H:%M:%S %Y").to_string()
}
