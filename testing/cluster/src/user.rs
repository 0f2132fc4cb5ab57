//! More users, with fewer capabilities than `client.admin`.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::keyring::{key_only, write_secret};
use crate::{Access, Error, Result};

/// A user of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// The id: the argument of `--id`, and the part of the name after `client.`.
    pub id: String,
    /// Its secret, in base64.
    pub key: String,
    /// The file with the secret. The cluster's configuration file names it, so the id is enough to
    /// connect.
    pub keyring: PathBuf,
}

impl Access {
    /// Creates the user `client.NAME`, or changes its capabilities if it exists, and writes its
    /// keyring file beside the configuration file.
    ///
    /// `caps` are pairs of service and capability: `[("mon", "profile rbd"), ("osd", "profile
    /// rbd-read-only")]`.
    pub fn user(&self, name: &str, caps: &[(&str, &str)]) -> Result<User> {
        let id = name.strip_prefix("client.").unwrap_or(name);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || !id.chars().all(plain) {
            return Err(Error::Invalid(format!(
                "{name:?} is no usable user name: letters, digits, `-`, `_` and `.` only"
            )));
        }
        let entity = format!("client.{id}");
        let caps: Vec<_> = caps.iter().flat_map(|(service, cap)| [*service, *cap]).collect();
        let arguments = json!({ "entity": entity, "caps": caps });
        let answer = match self.mon_query("auth get-or-create", arguments.clone()) {
            // The user exists with other capabilities.
            Err(Error::MonCommand { errno: 22, message, .. }) if message.contains("exist") => {
                self.mon_query("auth caps", arguments)?;
                self.mon_query("auth get", json!({ "entity": entity }))?
            }
            other => other?,
        };
        // For some milliseconds after it has confirmed a new user, the monitor of Ceph 20.2 refuses
        // the key. It answers this question from the data by which it authenticates, later.
        self.mon_query("auth get", json!({ "entity": entity }))?;
        let Some(key) = answer[0]["key"].as_str().map(str::to_owned) else {
            return Err(Error::Invalid(format!("the monitors sent no key for {entity}")));
        };
        let beside = self.conf().parent().unwrap_or(self.conf());
        let keyring = beside.join(format!("ceph.{entity}.keyring"));
        write_secret(&keyring, &key_only(&entity, &key))?;
        Ok(User { id: id.to_owned(), key, keyring })
    }

    /// Returns the secret of the user `client.NAME`, in base64.
    pub fn key(&self, name: &str) -> Result<String> {
        let id = name.strip_prefix("client.").unwrap_or(name);
        let answer = self.mon_query("auth get", json!({ "entity": format!("client.{id}") }))?;
        match &answer[0]["key"] {
            Value::String(key) => Ok(key.clone()),
            _ => Err(Error::Invalid(format!("the monitors sent no key for client.{id}"))),
        }
    }
}
