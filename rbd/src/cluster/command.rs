//! Commands to the daemons: JSON in, bytes out.

use serde_json::Value;

use super::Cluster;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::names::{c_string, c_value};
use crate::raw::cluster::{Cluster as RawCluster, Target};

const SEND: &str = "send a command to";

impl Cluster {
    /// Sends a command to the monitors: what the `ceph` command sends. Blocks up to the mon
    /// timeout.
    ///
    /// `command` is one JSON object such as `{"prefix": "osd tree", "format": "json"}`; `input` is
    /// what the `ceph` command takes by `-i`. The answer is the command's output. Where the cluster
    /// refuses, its own words are in the error; a command that it does not know or understand is
    /// [`ErrorKind::InvalidInput`].
    ///
    /// Implements: `rados_mon_command`.
    #[doc(alias = "rados_mon_command")]
    pub fn mon_command(&self, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        self.command(Target::Monitors, "send a command to the monitors of", || self.object(), command, input)
    }

    /// Sends a command to the active manager. Blocks up to the mon timeout; without a manager it
    /// fails after that.
    ///
    /// Implements: `rados_mgr_command`.
    #[doc(alias = "rados_mgr_command")]
    pub fn mgr_command(&self, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        self.command(Target::Manager, "send a command to the manager of", || self.object(), command, input)
    }

    /// Sends a command to one monitor by its name, `a` for `mon.a`: what is asked of itself, such
    /// as `mon_status`.
    ///
    /// Implements: `rados_mon_command_target`.
    #[doc(alias = "rados_mon_command_target")]
    pub fn mon_command_to(&self, monitor: &str, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::Monitor, monitor);
        let name = c_string(SEND, object, monitor)?;
        self.command(Target::Monitor(name), SEND, object, command, input)
    }

    /// Sends a command to one manager by its name, `x` for `mgr.x`. It must be the active one.
    ///
    /// Implements: `rados_mgr_command_target`.
    #[doc(alias = "rados_mgr_command_target")]
    pub fn mgr_command_to(&self, manager: &str, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::Manager, manager);
        let name = c_string(SEND, object, manager)?;
        self.command(Target::NamedManager(name), SEND, object, command, input)
    }

    /// Sends a command to an OSD by its number, such as `{"prefix": "version"}`. Blocks up to the
    /// OSD timeout.
    ///
    /// Implements: `rados_osd_command`.
    #[doc(alias = "rados_osd_command")]
    pub fn osd_command(&self, osd: u32, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::Osd, osd.to_string());
        let Ok(number) = i32::try_from(osd) else {
            return Err(Error::invalid(SEND, object(), "no OSD has a number as large as that"));
        };
        self.command(Target::Osd(number), SEND, object, command, input)
    }

    /// Sends a command about a placement group, `1.3f` for instance, to the OSD that is responsible
    /// for it: `{"prefix": "query", "pgid": "1.3f"}`. Blocks up to the OSD timeout.
    ///
    /// Implements: `rados_pg_command`.
    #[doc(alias = "rados_pg_command")]
    pub fn pg_command(&self, placement_group: &str, command: &str, input: &[u8]) -> Result<Vec<u8>> {
        let object = || Object::new(ObjectKind::PlacementGroup, placement_group);
        let id = c_string(SEND, object, placement_group)?;
        self.command(Target::PlacementGroup(id), SEND, object, command, input)
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
        let json = c_value(operation, &object, command)?;
        let input = input.to_vec();
        // What the daemon says comes back beside the errno.
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
            // A daemon that does not know or understand the command says this before it does
            // anything.
            let error = if errno == Errno::EINVAL { error.with_kind(ErrorKind::InvalidInput) } else { error };
            if said.is_empty() { error } else { error.with_detail(said) }
        })
    }
}
