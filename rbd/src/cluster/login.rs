//! Checks of a client's key files, and the reasons why a connection fails.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::builder::get;
use super::files;
use super::key::{self, key_in};
use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::raw::cluster::Cluster as RawCluster;

/// Refuses a key file that librados could not use: librados would not name the file. A key that is
/// given directly needs no file.
pub(super) fn check_key_files(raw: &RawCluster, user: &str) -> Result<()> {
    let option = |name: &str| get(raw, name).map(Zeroizing::new).filter(|value| !value.is_empty());
    if option("auth_client_required").is_some_and(|methods| methods.trim() == "none") {
        return Ok(());
    }
    let keyring = option("keyring").unwrap_or_default();
    // librados reads the keyring first, even if a key is given.
    let found = match files::first_keyring(&keyring) {
        Some(path) => {
            files::check_text(path, &files::read(path)?)?;
            Some(path)
        }
        None => None,
    };
    if option("key").is_some() {
        return Ok(());
    }
    if let Some(path) = option("keyfile") {
        if files::read(Path::new(&*path))?.is_empty() {
            let object = Object::new(ObjectKind::File, path.as_str());
            return Err(Error::invalid(
                "read",
                object,
                format!("it is empty; it must hold the key of {user}"),
            ));
        }
        return Ok(());
    }
    let Some(path) = found else {
        // The first keyring that was named, or that Ceph looks for by default.
        let first = keyring.split([',', ';']).next().unwrap_or_default().trim();
        let object = Object::new(ObjectKind::File, first);
        let why = format!(
            "no keyring can be read (looked for: {}); name the keyring or the key of {user}",
            &*keyring
        );
        return Err(Error::new("read", object, Errno::ENOENT).with_detail(why));
    };
    if key_in(path, user)?.is_none() {
        let why = format!("it has no key for {user}; name another keyring, another user, or the key");
        let error = Error::new("read", Object::new(ObjectKind::File, path.to_string_lossy()), Errno::ENOENT);
        return Err(error.with_kind(ErrorKind::NotFound { what: ObjectKind::User }).with_detail(why));
    }
    Ok(())
}

/// Explains why librados could not connect. The checks before have found a key, or none is needed.
pub(super) fn explain(raw: &RawCluster, error: Error, errno: Errno, user: &str, have_file: bool) -> Error {
    let names_monitors = get(raw, "mon_host").is_some_and(|monitors| !monitors.trim().is_empty());
    match errno {
        Errno::ENOENT if !have_file => error.with_detail(
            "no configuration file was found and no monitor or keyring is named; set CEPH_CONF, \
             or name monitors and key",
        ),
        Errno::ENOENT if !names_monitors => {
            error.with_kind(ErrorKind::NotFound { what: ObjectKind::Monitor }).with_detail(
                "the configuration names no monitor; set mon_host in the configuration file, or name \
                 the monitors on the builder",
            )
        }
        Errno::ENOENT => error
            .with_kind(ErrorKind::NotFound { what: ObjectKind::User })
            .with_detail(format!("no keyring with a key for {user} was found; name a keyring or key")),
        Errno::EACCES | Errno::EPERM => error.with_kind(ErrorKind::PermissionDenied).with_detail(format!(
            "the cluster did not accept the key of {user}; compare the key \
                                  with `ceph auth get {user}`"
        )),
        Errno::ETIMEDOUT => error.with_detail(
            "no monitor answered in time; check mon_host and that the monitors are up and \
             reachable from here",
        ),
        _ => error,
    }
}

/// Looks for a monitor whose name has no address, after librados has found no monitor.
pub(super) fn monitor_without_address(
    raw: &RawCluster,
    operation: &'static str,
    errno: Errno,
) -> Option<Error> {
    if !matches!(errno, Errno::EINVAL | Errno::ENOENT) {
        return None;
    }
    let monitors = get(raw, "mon_host")?;
    let name = names_in(&monitors).find(|name| (*name, 0).to_socket_addrs().is_err())?;
    let error = Error::new(operation, Object::new(ObjectKind::Monitor, name), Errno::ENOENT);
    Some(error.with_detail("this name has no address; check mon_host and the name service of this machine"))
}

/// Returns the hosts in the option `mon_host` that are names. Entries have the form
/// `v2:HOST:PORT/NONCE`, of which only the host is required, in lists and nested lists.
fn names_in(monitors: &str) -> impl Iterator<Item = &str> {
    let words = monitors.split([',', ';', ' ', '\t', '[', ']']).filter(|word| !word.is_empty());
    words.filter_map(|word| {
        let word = ["v1:", "v2:", "any:"].iter().find_map(|kind| word.strip_prefix(kind)).unwrap_or(word);
        let word = word.split_once('/').map_or(word, |(place, _)| place);
        // More than one colon: an address of version 6.
        let host = match word.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            Some(_) => return None,
            None => word,
        };
        // A number is the port that followed an address in brackets.
        let is_name = !host.is_empty() && host.parse::<IpAddr>().is_err() && host.parse::<u16>().is_err();
        is_name.then_some(host)
    })
}

/// Returns the type of the user's key if librados refused the key because it does not know that
/// type.
pub(super) fn newer_key(raw: &RawCluster, errno: Errno, user: &str) -> Option<u16> {
    const AES: u16 = 1;
    if !matches!(errno, Errno::EIO | Errno::EINVAL | Errno::ENOENT) {
        return None;
    }
    let key = key::configured(user, |option| Ok(get(raw, option).unwrap_or_default()));
    key.ok()?.kind().filter(|kind| *kind > AES)
}

pub(super) fn unknown_key(error: Error, kind: u16, user: &str) -> Error {
    let version = super::Cluster::librados_version();
    error.with_kind(ErrorKind::NotSupported).with_detail(format!(
        "the key of {user} is of the newer type {kind}, which librados {version} does not know: \
         use the libraries of Ceph 20.2 or newer, or make a key with `ceph-authtool --key-type aes`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_names_are_found() {
        for (monitors, names) in [
            ("10.0.0.1,10.0.0.2:6789", &[][..]),
            ("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0],mon-b", &["mon-b"]),
            ("v2:mon-a:3300/0; mon-b.example:6789 mon-c", &["mon-a", "mon-b.example", "mon-c"]),
            ("[v2:[fd00::1]:3300,v1:[fd00::1]:6789] fd00::2", &[]),
            ("", &[]),
        ] {
            assert_eq!(names_in(monitors).collect::<Vec<_>>(), names, "{monitors}");
        }
    }
}
