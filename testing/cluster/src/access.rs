//! How to reach a running cluster that any process started: its configuration file and a connection
//! to its monitors.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::raw::Rados;
use crate::status::{OsdTree, Status};
use crate::{Error, Result};

/// The seconds after which an operation of this crate's own connection gives up. Ceph's defaults
/// are 300 s for a dead monitor and for ever for a dead OSD.
const TIMEOUTS: [(&str, &str); 3] =
    [("client_mount_timeout", "30"), ("rados_mon_op_timeout", "30"), ("rados_osd_op_timeout", "60")];

/// A running cluster as its clients see it.
///
/// Every blocking call gives up with an error when the monitors do not answer for 30 s.
#[derive(Debug)]
pub struct Access {
    conf: PathBuf,
    /// Connected at the first use.
    connection: Mutex<Option<Arc<Rados>>>,
}

impl Access {
    /// The cluster that the configuration file `conf` describes. Nothing is contacted yet; commands
    /// are sent as `client.admin`, whose keyring the file must name.
    pub fn new(conf: impl Into<PathBuf>) -> Self {
        Self { conf: conf.into(), connection: Mutex::new(None) }
    }

    /// The configuration file: what `CEPH_CONF` must name.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// Sends a command to the monitors and returns what they answer.
    ///
    /// `command` is the JSON form of what the `ceph` program takes: `{"prefix": "osd pool ls",
    /// "format": "json"}`.
    pub fn mon_command(&self, command: &Value, input: &[u8]) -> Result<Vec<u8>> {
        self.connection()?.mon_command(&command.to_string(), input).map_err(|(errno, message)| {
            Error::MonCommand {
                command: command["prefix"].as_str().unwrap_or_default().to_owned(),
                errno,
                message: if message.is_empty() { errno_text(errno) } else { message },
            }
        })
    }

    /// Sends the command `prefix` with `arguments`, a JSON object, and returns the JSON that the
    /// monitors answer.
    pub fn mon_query(&self, prefix: &str, arguments: Value) -> Result<Value> {
        let mut command = match arguments {
            Value::Object(arguments) => arguments,
            Value::Null => Map::new(),
            other => return Err(Error::Invalid(format!("{other} is not a JSON object"))),
        };
        command.insert("prefix".into(), prefix.into());
        command.insert("format".into(), "json".into());
        let answer = self.mon_command(&Value::Object(command), &[])?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).map_err(|source| Error::Answer { command: prefix.to_owned(), source })
    }

    /// What `ceph -s` tells.
    pub fn status(&self) -> Result<Status> {
        self.typed("status")
    }

    /// What `ceph osd tree` tells.
    pub fn osd_tree(&self) -> Result<OsdTree> {
        self.typed("osd tree")
    }

    /// Creates a pool and prepares it for RBD. It is usable when this returns, provided that its
    /// OSDs are up.
    pub fn create_pool(&self, name: &str) -> Result<()> {
        self.mon_query("osd pool create", serde_json::json!({ "pool": name }))?;
        self.connection()?.init_pool(name)
    }

    pub(crate) fn init_pool(&self, name: &str) -> Result<()> {
        self.connection()?.init_pool(name)
    }

    fn typed<T: serde::de::DeserializeOwned>(&self, prefix: &str) -> Result<T> {
        serde_json::from_value(self.mon_query(prefix, Value::Null)?)
            .map_err(|source| Error::Answer { command: prefix.to_owned(), source })
    }

    fn connection(&self) -> Result<Arc<Rados>> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rados) = &*connection {
            return Ok(rados.clone());
        }
        let rados = Arc::new(Rados::connect(&self.conf, "client.admin", &TIMEOUTS)?);
        Ok(connection.insert(rados).clone())
    }
}

fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
