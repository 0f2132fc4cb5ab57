//! Access to a running cluster, whichever process started it: its configuration file and a
//! connection to its monitors.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::raw::Rados;
use crate::status::{OsdTree, Status};
use crate::{Error, Result};

/// The timeouts of this crate's own connection. Ceph's defaults are 300 s for a dead monitor and
/// none for a dead OSD.
const TIMEOUTS: [(&str, &str); 3] =
    [("client_mount_timeout", "120"), ("rados_mon_op_timeout", "120"), ("rados_osd_op_timeout", "120")];

/// A running cluster, from the side of its clients.
///
/// Every blocking call fails if the monitors do not answer within 120 s.
#[derive(Debug)]
pub struct Access {
    conf: PathBuf,
    /// Connected at the first use.
    connection: Mutex<Option<Arc<Rados>>>,
}

impl Access {
    /// Returns the cluster that the configuration file `conf` describes. Does not connect yet.
    /// Commands are sent as `client.admin`, whose keyring the file must name.
    pub fn new(conf: impl Into<PathBuf>) -> Self {
        Self { conf: conf.into(), connection: Mutex::new(None) }
    }

    /// Returns the path of the configuration file, for `CEPH_CONF`.
    pub fn conf(&self) -> &Path {
        &self.conf
    }

    /// Sends a command to the monitors and returns their answer.
    ///
    /// `command` is a command of the `ceph` program as JSON: `{"prefix": "osd pool ls", "format":
    /// "json"}`.
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

    /// Returns the values of `ceph -s`.
    pub fn status(&self) -> Result<Status> {
        self.typed("status")
    }

    /// Returns the values of `ceph osd tree`.
    pub fn osd_tree(&self) -> Result<OsdTree> {
        self.typed("osd tree")
    }

    /// Creates a pool and initialises it for RBD. The pool can be used when this returns, if its
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
