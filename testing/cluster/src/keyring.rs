//! Keys and keyring files.
//!
//! All first keys are made here and given to the monitor when it is created. So every daemon can be
//! started at once, without an `auth get-or-create` for each.

use std::fmt::Write as _;
use std::path::Path;

use crate::daemon::Daemon;
use crate::error::IoContext as _;
use crate::program::{self, Tool};
use crate::{Error, Result};

/// The capabilities of a user: pairs of service and capability.
pub(crate) type Caps = &'static [(&'static str, &'static str)];

const ADMIN: Caps = &[("mon", "allow *"), ("mgr", "allow *"), ("osd", "allow *"), ("mds", "allow *")];

/// The name, key and capabilities of a user or daemon.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) entity: String,
    pub(crate) key: String,
    caps: Caps,
}

impl Entry {
    /// Returns the entry in a keyring file, with capabilities.
    fn with_caps(&self) -> String {
        let mut text = key_only(&self.entity, &self.key);
        for (service, cap) in self.caps {
            let _ = writeln!(text, "\tcaps {service} = \"{cap}\""); // Writing to a String does not fail.
        }
        text
    }
}

/// Returns a keyring file with one key.
pub(crate) fn key_only(entity: &str, key: &str) -> String {
    format!("[{entity}]\n\tkey = {key}\n")
}

/// Writes the keyrings of a new cluster: one with all keys for the monitor's creation, one for
/// every other daemon, one for `client.admin`.
pub(crate) fn create(directory: &Path, osds: u32, with_mgr: bool, key_type: &str) -> Result<()> {
    let mut wanted = vec![("mon.".to_owned(), &[("mon", "allow *")][..])];
    wanted.push(("client.admin".to_owned(), ADMIN));
    if with_mgr {
        let caps = &[("mon", "allow profile mgr"), ("osd", "allow *"), ("mds", "allow *")];
        wanted.push((Daemon::Mgr.to_string(), &caps[..]));
    }
    for number in 0..osds {
        let caps = &[("mon", "allow profile osd"), ("mgr", "allow profile osd"), ("osd", "allow *")];
        wanted.push((Daemon::Osd(number).to_string(), &caps[..]));
    }
    let keys = generate(wanted.len(), key_type)?;
    let entries: Vec<_> =
        wanted.into_iter().zip(keys).map(|((entity, caps), key)| Entry { entity, key, caps }).collect();

    let all: String = entries.iter().map(Entry::with_caps).collect();
    write_secret(&directory.join("initial.keyring"), &all)?;
    for entry in &entries {
        let path = match entry.entity.as_str() {
            "mon." => continue,
            "client.admin" => directory.join("ceph.client.admin.keyring"),
            daemon => directory.join(daemon).join("keyring"),
        };
        write_secret(&path, &key_only(&entry.entity, &entry.key))?;
    }
    Ok(())
}

/// Makes `count` keys concurrently, because each needs a run of a program.
fn generate(count: usize, key_type: &str) -> Result<Vec<String>> {
    const TOOL: &str = "ceph-authtool";
    // Ceph 20 has several types. Older clients and kernels do not know its default type.
    let knows_types = program::knows(TOOL, "--key-type")?;
    if !knows_types && key_type != "aes" {
        let reason = format!("the installed {TOOL} makes keys of type aes only, not {key_type}");
        return Err(Error::Invalid(reason));
    }
    let tools = (0..count).map(|_| {
        let mut command = program::command(TOOL)?;
        command.arg("--gen-print-key");
        if knows_types {
            command.args(["--key-type", key_type]);
        }
        Tool::start(command)
    });
    let tools: Vec<_> = tools.collect::<Result<_>>()?;
    tools.into_iter().map(|tool| Ok(tool.finish()?.trim().to_owned())).collect()
}

/// Writes a file that only its owner can read at any time.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = std::fs::File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(path).context("creating", path)?;
    file.write_all(text.as_bytes()).context("writing", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_lists_its_caps() {
        let caps = &[("mon", "allow *")];
        let entry = Entry { entity: "mon.".into(), key: "AQ==".into(), caps };
        assert_eq!(entry.with_caps(), "[mon.]\n\tkey = AQ==\n\tcaps mon = \"allow *\"\n");
    }

    #[test]
    fn keys_are_all_different() {
        let keys = generate(3, "aes").unwrap();
        assert!(keys.iter().all(|key| key.len() == 40 && key.ends_with("==")), "{keys:?}");
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
    }
}
