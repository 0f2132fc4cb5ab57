//! Requests to a daemon of the cluster over its admin socket.
//!
//! librados could send the same command, but loses it if the OSD was just restarted, and crashes
//! some time after the command has timed out (seen with 16.2.15).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Daemon;

/// The state of a placement group, reported by its OSD.
#[derive(Debug, Deserialize)]
pub(crate) struct Pg {
    /// The epoch of the map that it has processed.
    pub(crate) epoch: u64,
    /// Such as `active+clean`.
    pub(crate) state: String,
}

/// Asks the OSD number `osd`, whose socket is in `directory`, about the placement group `pg`, of
/// which it is the primary.
pub(crate) fn pg(directory: &Path, osd: u32, pg: &str) -> io::Result<Pg> {
    let command = json!({ "prefix": "pg", "pgid": pg, "cmd": "query", "format": "json" });
    ask(directory, Daemon::Osd(osd), &command)
}

/// Asks the monitor, whose socket is in `directory`, for its state: `leader` once it serves.
pub(crate) fn monitor_state(directory: &Path) -> io::Result<String> {
    let status: Value = ask(directory, Daemon::Mon, &json!({ "prefix": "mon_status", "format": "json" }))?;
    Ok(status["state"].as_str().unwrap_or("without a state").to_owned())
}

fn ask<T: DeserializeOwned>(directory: &Path, daemon: Daemon, command: &Value) -> io::Result<T> {
    let mut socket = UnixStream::connect(directory.join(format!("{daemon}.asok")))?;
    // A paused daemon accepts connections and never answers.
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.write_all(format!("{command}\0").as_bytes())?;
    // The answer begins with its length, in four bytes, big endian.
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut answer = Vec::new();
    socket.take(u32::from_be_bytes(length).into()).read_to_end(&mut answer)?;
    // Refusals are text.
    serde_json::from_slice(&answer).map_err(|_| {
        let said = String::from_utf8_lossy(&answer);
        io::Error::other(format!("{daemon} says: {}", said.trim().replace('\n', " ")))
    })
}
