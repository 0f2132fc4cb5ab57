//! Commands to the monitors and the manager: JSON in, bytes out.

use serde_json::Value;

use super::Cluster;
use crate::error::{Error, Object, Result};
use crate::names::c_string;
use crate::raw::cluster::Target;

impl Cluster {
    /// Sends a command to the monitors: what the `ceph` command sends. Blocks up to the mon timeout.
    ///
    /// `command` is one JSON object such as `{"prefix": "osd tree", "format": "json"}`; `input` is what the `ceph` command
    /// takes by `-i`. The answer is the command's output. Where the cluster refuses, its own words are in the error.
    ///
    /// Implements: `rados_mon_command`.
    #[doc(alias = "rados_mon_command")]
    pub fn mon_command(&self, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        self.command(Target::Monitors, "send a command to the monitors of", || self.object(), command, input)
    }

    /// Sends a command to the active manager. Blocks up to the mon timeout; without a manager it fails after that.
    ///
    /// Implements: `rados_mgr_command`.
    #[doc(alias = "rados_mgr_command")]
    pub fn mgr_command(&self, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        self.command(Target::Manager, "send a command to the manager of", || self.object(), command, input)
    }

    /// A command of ours, whose error speaks of what it is for.
    pub(crate) fn command_on(
        &self,
        operation: &'static str,
        object: impl Fn() -> Object,
        command: &Value,
    ) -> Result<Vec<u8>> {
        self.command(Target::Monitors, operation, object, &command.to_string(), &[])
    }

    fn command(
        &self,
        to: Target,
        operation: &'static str,
        object: impl Fn() -> Object,
        command: &str,
        input: &[u8],
    ) -> Result<Vec<u8>> {
        let json = c_string(operation, &object, command)?;
        let mark = self.log_mark();
        self.raw().command(to, &json, input).map_err(|(errno, said)| {
            let error = Error::new(operation, object(), errno).with_log(self.log_since(mark));
            if said.is_empty() { error } else { error.with_detail(said) }
        })
    }
}
