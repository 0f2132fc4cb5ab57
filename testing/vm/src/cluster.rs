//! A cluster's configuration and keyrings, for the guest's clients.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Result};
use crate::pattern::fits;
use crate::tree::Tree;

/// Where clients look for the configuration by default.
pub(crate) const CONFIGURATION: &str = "/etc/ceph/ceph.conf";

/// Adds the configuration, at the default path and at its own path, and the keyrings that it names.
pub(crate) fn add(tree: &mut Tree, configuration: &Path) -> Result<()> {
    let reading = || format!("cannot read {}", configuration.display());
    let configuration = std::path::absolute(configuration).context(reading)?;
    let text = fs::read_to_string(&configuration).context(reading)?;
    for place in [Path::new(CONFIGURATION), &configuration] {
        tree.copy(place, &configuration, 0o644);
    }
    let keyrings = keyrings(&text);
    if keyrings.is_empty() {
        let reason =
            "it names no keyring that exists (`keyring = PATH`), so clients could not log in".to_owned();
        return Err(Error::Unpackable { path: configuration, reason });
    }
    for keyring in keyrings {
        tree.copy(&keyring, &keyring, 0o600);
    }
    Ok(())
}

/// Returns the files that values of the key `keyring` name. Ceph's variables in a file name, as in
/// `ceph.$name.keyring`, match any text, so all users with such a keyring can also log in from the
/// guest.
fn keyrings(text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let settings =
        text.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim() == "keyring");
    for path in settings.flat_map(|(_, value)| value.split(',')).map(|path| Path::new(path.trim())) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let pattern = any_for_variables(name);
        let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let named = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| fits(&pattern, name))
        };
        found.extend(files.filter(|path| named(path) && path.is_file()));
    }
    found
}

/// `ceph.$name.keyring` → `ceph.*.keyring`
fn any_for_variables(name: &str) -> String {
    let mut parts = name.split('$');
    let head = parts.next().unwrap_or_default().to_owned();
    parts.fold(head, |pattern, part| {
        pattern + "*" + part.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyrings_of_all_users_are_found() {
        let home = tempfile::tempdir().unwrap();
        for name in ["ceph.client.admin.keyring", "ceph.client.reader.keyring", "initial", "plain"] {
            fs::write(home.path().join(name), "").unwrap();
        }
        let dir = home.path().display();
        let mut found = keyrings(&format!(
            "[global]\n# keyring = {dir}/initial\nkeyring={dir}/plain\n[client]\n keyring = \
             /none, {dir}/$cluster.$name.keyring\n"
        ));
        found.sort();
        let expected = ["ceph.client.admin.keyring", "ceph.client.reader.keyring", "plain"];
        assert_eq!(found, expected.map(|name| home.path().join(name)));
    }

    #[test]
    fn a_configuration_without_a_keyring_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "[global]\nkeyring = /no/such/$cluster.keyring\n").unwrap();
        let text = add(&mut Tree::default(), file.path()).unwrap_err().to_string();
        assert!(text.contains("names no keyring that exists"), "{text}");
    }
}
