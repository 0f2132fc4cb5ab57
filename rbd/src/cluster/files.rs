//! Checks of configuration files and keyrings before librados reads them.
//!
//! librados 16.2 aborts the process at a byte-order mark and at most non-ASCII characters. It also
//! does not name the file that it cannot use.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::names::c_string;
use crate::raw::cluster::Cluster as RawCluster;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a file that the caller named.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path).map(Zeroizing::new).map_err(|error| {
        let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EIO));
        Error::new("read", file(path), errno)
    })
}

fn file(path: &Path) -> Object {
    Object::new(ObjectKind::File, path.to_string_lossy())
}

/// Returns the first existing file of Ceph's default search path.
pub(super) fn default_conf(cluster: &str) -> Option<PathBuf> {
    let name = format!("{cluster}.conf");
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".ceph").join(&name));
    [Some(Path::new("/etc/ceph").join(&name)), home, Some(PathBuf::from(&name))]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
}

/// Reads a configuration file, or a list of them. `by` is what names it: a user does not always
/// know that this is the configuration file, and where its path comes from.
pub(super) fn read_conf(raw: &RawCluster, path: &Path, by: &str, cluster: &str, user: &str) -> Result<()> {
    let c_path = c_string("read", || file(path), &path.to_string_lossy())?;
    check_conf(path, cluster, user).map_err(|error| match error.errno() {
        Some(Errno::EACCES) => error.with_detail(format!(
            "{by} names this configuration file, but this process may not read it; check its owner and mode"
        )),
        _ => error,
    })?;
    raw.conf_read_file(Some(&c_path)).map_err(|errno| match errno {
        Errno::EINVAL => {
            let why = "it is not a valid Ceph configuration file, which has sections such as \
                       [global] and lines such as `mon_host = 10.0.0.1`; correct it, or name another";
            Error::invalid("read", file(path), why)
        }
        Errno::ENOENT => Error::new("read", file(path), errno).with_detail(format!(
            "{by} names this configuration file, but it does not exist; correct the name, or create the file"
        )),
        errno => Error::new("read", file(path), errno),
    })
}

/// Refuses a configuration file (or one of a list) that librados could not read, or that would
/// abort the process. librados itself handles a missing file and a path that is no regular file
/// (`/dev/null`). An empty file is valid if the settings come from elsewhere.
fn check_conf(list: &Path, cluster: &str, user: &str) -> Result<()> {
    let list = list.to_string_lossy();
    for path in list.split([',', ';']).map(|path| Path::new(path.trim())) {
        if path.is_file() {
            let text = read(path)?;
            if !text.is_empty() {
                check_text(path, &text)?;
            }
            for keyring in keyrings(&String::from_utf8_lossy(&text), user) {
                check_keyring(&expand(keyring, cluster, user))?;
            }
        }
    }
    Ok(())
}

pub(super) fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
}

/// Refuses the text of a configuration file or keyring that librados could not read, or that would
/// abort the process.
pub(super) fn check_text(path: &Path, text: &[u8]) -> Result<()> {
    fault(text).map_or(Ok(()), |why| Err(Error::invalid("read", file(path), why)))
}

fn fault(text: &[u8]) -> Option<String> {
    if text.is_empty() {
        return Some("it is empty; write the user's key into it, or name another keyring".to_owned());
    }
    let unfinished = text.last() != Some(&b'\n');
    deadly(text).or_else(|| {
        unfinished.then(|| "it does not end in a newline, which Ceph requires; add one".to_owned())
    })
}

/// Refuses the keyring that librados would use from a list if reading it would abort the process.
/// librados reads it as soon as the option is set.
pub(super) fn check_keyring(list: &str) -> Result<()> {
    let Some(path) = first_keyring(list) else { return Ok(()) };
    deadly(&read(path)?).map_or(Ok(()), |why| Err(Error::invalid("read", file(path), why)))
}

/// Replaces the variables that Ceph knows in the path of a keyring.
pub(super) fn expand(keyring: &str, cluster: &str, user: &str) -> String {
    let id = user.split_once('.').map_or(user, |(_, id)| id);
    keyring.replace("$cluster", cluster).replace("$name", user).replace("$id", id)
}

/// Returns the keyrings that a configuration file names for a user.
fn keyrings<'a>(conf: &'a str, user: &str) -> Vec<&'a str> {
    let (mut mine, mut keyrings) = (false, Vec::new());
    for line in conf.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            mine = ["global", "client", user].contains(&section.trim());
        } else if let (true, Some(("keyring", value))) =
            (mine, line.split_once('=').map(|(k, v)| (k.trim(), v)))
        {
            keyrings.push(value.split(['#', ';']).next().unwrap_or_default().trim().trim_matches('"'));
        }
    }
    keyrings
}

/// Returns the fault that would abort the process, if any.
fn deadly(text: &[u8]) -> Option<String> {
    if text.starts_with(BYTE_ORDER_MARK) {
        return Some("it starts with a byte-order mark; save it as UTF-8 without one".to_owned());
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Some("it is UTF-16; save it as UTF-8 without a byte-order mark".to_owned());
    }
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if !is_plain(line) {
            let line = at + 1;
            return Some(format!("line {line} has a character that is not ASCII; put the value in quotes"));
        }
    }
    None
}

/// Returns whether a line is ASCII outside comments and quotes, where librados accepts nothing
/// else.
fn is_plain(line: &[u8]) -> bool {
    let (mut quote, mut escaped) = (None, false);
    for byte in line {
        match (byte, quote) {
            _ if escaped => escaped = false,
            (b'\\', _) => escaped = true,
            (b'#' | b';', None) => return true,
            (b'"' | b'\'', None) => quote = Some(*byte),
            (end, Some(begin)) if *end == begin => quote = None,
            (0x80.., None) => return false,
            _ => {}
        }
    }
    true
}

/// Returns the keyring that librados uses from a list: the first that can be opened. `None` if none
/// can.
pub(super) fn first_keyring(list: &str) -> Option<&Path> {
    keyrings_in(list).map(Path::new).find(|path| std::fs::File::open(path).is_ok())
}

/// Returns the paths in a list of keyrings.
pub(super) fn keyrings_in(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ';'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_librados_can_read_is_accepted() {
        for good in [
            "[global]\nmon_host = 10.0.0.1\n",
            "# f\u{fc}r\n[global]\n\tmon_host = 10.0.0.1 ; f\u{fc}r\n",
            "[client]\nadmin_socket = \"/tmp/\u{fc}\"\n",
            "[client]\nadmin_socket = '/tmp/\u{fc}' # \u{fc}\n",
        ] {
            assert_eq!(fault(good.as_bytes()), None, "{good}");
        }
        for (bad, word) in [
            ("", "empty"),
            ("\u{feff}[global]\n", "byte-order mark"),
            ("[global]\na = 1", "newline"),
            ("[global]\n\na = /tmp/\u{fc}\n", "line 3"),
            ("[\u{fc}]\n", "line 1"),
            ("[global]\n\u{fc} = 1\n", "line 2"),
        ] {
            assert!(fault(bad.as_bytes()).is_some_and(|why| why.contains(word)), "{bad}");
        }
    }
}
