//! The monitor map: the addresses of the monitor, and the ciphers of the cluster's keys.

use std::path::Path;

use serde_json::json;

use crate::daemon::Daemon;
use crate::{Access, Result, program};

/// Whether the cluster uses a cipher that its release calls insecure. Ceph 20 has a new one, which
/// older clients and kernels do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ciphers {
    Approved,
    Old,
}

/// Writes the file `monmap` into `directory`.
pub(crate) fn create(directory: &Path, fsid: &str, monitors: &str, key_type: &str) -> Result<Ciphers> {
    const TOOL: &str = "monmaptool";
    let knows_ciphers = program::knows(TOOL, "--auth-service-cipher")?;
    let mut command = program::command(TOOL)?;
    command.args(["--create", "--fsid", fsid, "--addv", &Daemon::Mon.id(), monitors]);
    if knows_ciphers {
        let allowed = if key_type == "aes" { "aes,aes256k" } else { key_type };
        command.args(["--auth-service-cipher", key_type, "--auth-preferred-cipher", key_type]);
        command.args(["--auth-allowed-ciphers", allowed]);
    }
    command.arg(directory.join("monmap"));
    program::run(command)?;
    Ok(if knows_ciphers && key_type == "aes" { Ciphers::Old } else { Ciphers::Approved })
}

impl Ciphers {
    /// Mutes the warning about the old cipher, which is used on purpose.
    pub(crate) fn mute_warnings(self, access: &Access) -> Result<()> {
        if self == Ciphers::Approved {
            return Ok(());
        }
        for subject in [
            "CLIENT_KEY_TYPE",
            "KEYS_ALLOWED",
            "KEYS_CREATABLE",
            "ROTATING_SERVICE_KEY_TYPE",
            "SERVICE_KEY_TYPE",
            "SERVICE_TICKETS",
        ] {
            let code = format!("AUTH_INSECURE_{subject}");
            access.mon_query("health mute", json!({ "code": code, "sticky": true }))?;
        }
        Ok(())
    }
}
