//! Commands to the daemons: JSON in, bytes out.

use serde_json::Value;

use super::Cluster;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, c_value, json_object};
use crate::raw::cluster::{Cluster as RawCluster, CommandTarget};

const SEND: &str = "send a command to";

impl Cluster {
    /// Sends a command to the monitors, as the `ceph` command does. Blocks for at most the mon
    /// timeout.
    ///
    /// `command` is one JSON object such as `{"prefix": "osd tree", "format": "json"}`. `input` is
    /// the data that the `ceph` command reads with `-i`. The call returns the command's output. If
    /// the cluster refuses, the error contains the cluster's message. A command that is no JSON
    /// object, or that the cluster does not know, fails with [`ErrorKind::InvalidInput`].
    ///
    /// Implements: `rados_mon_command`.
    #[doc(alias = "rados_mon_command")]
    pub fn mon_command(&self, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        self.command(
            CommandTarget::Monitors,
            "send a command to the monitors of",
            || self.object(),
            command,
            input,
        )
    }

    /// Sends a command to the active manager. Blocks for at most the mon timeout. Fails after this
    /// time if no manager is active.
    ///
    /// Implements: `rados_mgr_command`.
    #[doc(alias = "rados_mgr_command")]
    pub fn mgr_command(&self, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        self.command(
            CommandTarget::Manager,
            "send a command to the manager of",
            || self.object(),
            command,
            input,
        )
    }

    /// Sends a command to one monitor by its name (`a` for `mon.a`), for commands about that
    /// monitor such as `mon_status`. Blocks for at most the mon timeout.
    ///
    /// Implements: `rados_mon_command_target`.
    #[doc(alias = "rados_mon_command_target")]
    pub fn mon_command_to(&self, monitor: &str, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::Monitor, monitor);
        let name = c_string(SEND, object, monitor)?;
        self.command(CommandTarget::Monitor(name), SEND, object, command, input)
    }

    /// Sends a command to one manager by its name (`x` for `mgr.x`), which must be the active one.
    /// Blocks for at most the mon timeout.
    ///
    /// Implements: `rados_mgr_command_target`.
    #[doc(alias = "rados_mgr_command_target")]
    pub fn mgr_command_to(&self, manager: &str, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::Manager, manager);
        let name = c_string(SEND, object, manager)?;
        self.command(CommandTarget::NamedManager(name), SEND, object, command, input)
    }

    /// Sends a command such as `{"prefix": "version"}` to an OSD by its number. Blocks for at most
    /// the [call timeout](crate::ClusterBuilder::call_timeout).
    ///
    /// Implements: `rados_osd_command`.
    #[doc(alias = "rados_osd_command")]
    pub fn osd_command(&self, osd: u32, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::Osd, osd.to_string());
        let Ok(number) = i32::try_from(osd) else {
            return Err(Error::invalid(
                SEND,
                object(),
                "no OSD has such a large number; `ceph osd ls` lists them",
            ));
        };
        self.command(CommandTarget::Osd(number), SEND, object, command, input)
    }

    /// Sends a command about a placement group (such as `1.3f`) to its primary OSD: `{"prefix":
    /// "query", "pgid": "1.3f"}`. Blocks for at most the [call
    /// timeout](crate::ClusterBuilder::call_timeout).
    ///
    /// Implements: `rados_pg_command`.
    #[doc(alias = "rados_pg_command")]
    pub fn pg_command(&self, placement_group: &str, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::PlacementGroup, placement_group);
        let id = c_string(SEND, object, placement_group)?;
        self.command(CommandTarget::PlacementGroup(id), SEND, object, command, input)
    }

    /// Sends a command on behalf of another call, whose operation the error names.
    pub(crate) fn command_on(
        &self,
        operation: &'static str,
        object: impl Fn() -> Object,
        command: &Value,
    ) -> Result<Vec<u8>> {
        self.command(CommandTarget::Monitors, operation, object, &command.to_string(), &[])
    }

    fn command(
        &self,
        to: CommandTarget,
        operation: &'static str,
        object: impl Fn() -> Object,
        command: &str,
        input: &[u8],
    ) -> Result<Vec<u8>> {
        json_object("command", command).map_err(|why| Error::invalid(operation, object(), why))?;
        let json = c_value(operation, &object, command)?;
        let input = input.to_vec();
        // The daemon's message arrives beside the errno.
        let (said, words) = std::sync::mpsc::channel();
        let send = move |raw: &RawCluster| {
            raw.command(&to, &json, &input).map_err(|(errno, words)| {
                let _ = said.send(words);
                errno
            })
        };
        self.bounded(operation, &object, send).map_err(|error| {
            let errno = error.errno().unwrap_or(Errno::EIO);
            let Ok(said) = words.try_recv() else { return error };
            // A daemon that does not know or cannot parse the command answers with this errno and
            // does nothing.
            let error = if errno == Errno::EINVAL { error.with_kind(ErrorKind::InvalidInput) } else { error };
            if said.is_empty() { error } else { error.with_detail(said) }
        })
    }
}
