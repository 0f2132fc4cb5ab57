//! The cluster's own log, as `ceph -w` shows it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Cluster;
use crate::error::{ErrorKind, Result};
use crate::raw::cluster::service::{RawLogEntry, RawLogWatch};

/// The least severity of the log lines that a watch reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LogLevel {
    /// All lines.
    Debug,
    /// Events: daemons start and stop, health changes.
    Info,
    /// Security events, warnings and errors.
    Security,
    /// Warnings and errors.
    Warn,
    /// Errors only.
    Error,
}

/// A line of the cluster's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// The log's name: `cluster`, `audit` …
    pub channel: String,
    /// The daemon or client that sent the line, such as `mon.a` or `client.admin`.
    pub sender: String,
    /// The time at which the line was written.
    pub time: SystemTime,
    /// The line's number among those of the same sender.
    pub sequence: u64,
    /// The severity, in Ceph's words: `[DBG]`, `[INF]`, `[SEC]`, `[WRN]`, `[ERR]`.
    pub level: String,
    /// The text.
    pub message: String,
}

/// Calls back with the lines of the cluster's log until it is dropped: see [`Cluster::watch_log`].
#[must_use = "dropping it ends the watch"]
pub struct LogWatch {
    /// Held only because dropping it ends the watch.
    _raw: RawLogWatch,
}

impl Cluster {
    /// Calls back with each new line of the cluster's log of severity `level` or higher. A
    /// connection can have one such watch at a time; a second one fails with [`ErrorKind::Busy`].
    ///
    /// librados holds a lock while the callback runs on its thread: the callback should only pass
    /// the line on, and must not use this connection. A panic in it is caught. The callback may
    /// drop the watch.
    ///
    /// Implements: `rados_monitor_log2`.
    #[doc(alias = "rados_monitor_log")]
    #[doc(alias = "rados_monitor_log2")]
    pub fn watch_log(
        &self,
        level: LogLevel,
        callback: impl Fn(LogEntry) + Send + Sync + 'static,
    ) -> Result<LogWatch> {
        let word = match level {
            LogLevel::Debug => c"debug",
            LogLevel::Info => c"info",
            LogLevel::Security => c"sec",
            LogLevel::Warn => c"warn",
            LogLevel::Error => c"error",
        };
        let cluster = Arc::clone(self.raw());
        let start = move || RawLogWatch::start(&cluster, word, move |raw| callback(LogEntry::from(raw)));
        let watch = self.bounded_call("watch the log of", || self.object(), start);
        let raw = watch.map_err(|error| match error.kind() {
            ErrorKind::Busy { .. } => error.with_detail(
                "this connection already watches it; drop that watch, or open another connection",
            ),
            _ => error,
        })?;
        Ok(LogWatch { _raw: raw })
    }
}

impl fmt::Debug for LogWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWatch").finish_non_exhaustive()
    }
}

impl From<RawLogEntry> for LogEntry {
    fn from(raw: RawLogEntry) -> LogEntry {
        let since = Duration::from_secs(raw.seconds).saturating_add(Duration::from_nanos(raw.nanoseconds));
        LogEntry {
            channel: raw.channel,
            sender: raw.name,
            time: SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH),
            sequence: raw.sequence,
            level: raw.level,
            message: raw.message,
        }
    }
}
