//! Keys of users, which stay out of logs and are wiped when they are dropped.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Cluster, files};
use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};

/// The number of bytes before the secret in a key.
const KEY_HEADER: usize = 12;

/// A user's key in base64. It is never printed, and it is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<String>);

impl Key {
    /// Wraps a key in base64. Removes surrounding white space: a Kubernetes Secret often ends in a
    /// newline.
    pub fn new(text: &str) -> Key {
        Key(Zeroizing::new(text.trim().to_owned()))
    }

    /// Returns the key in base64, so that it can be passed on.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the type of the key: 1 is `aes`, newer clusters have others. `None` if the text is
    /// no key.
    pub(crate) fn kind(&self) -> Option<u16> {
        let start = STANDARD.decode(self.0.get(..4)?).ok()?;
        Some(u16::from_le_bytes([*start.first()?, *start.get(1)?]))
    }

    /// Refuses a text that cannot be a key before it is sent anywhere.
    pub(crate) fn check(&self, user: &str) -> Result<()> {
        let decoded = self.decode();
        decoded.map(drop).map_err(|why| {
            Error::invalid("use the key of", Object::new(ObjectKind::User, user), format!("the key {why}"))
        })
    }

    /// Returns the key as it is sent: its type (2 bytes), creation time (8), length of the secret
    /// (2), and the secret. If the text is no such key, returns the reason, which contains no part
    /// of the text: it may be a real key with a typing error.
    pub(crate) fn decode(&self) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let binary = STANDARD.decode(self.expose()).map(Zeroizing::new).map_err(|_| {
            "is not what `ceph auth get-key` prints (one line of base64); decode the value of a \
              Kubernetes Secret once"
        })?;
        let len = binary
            .get(KEY_HEADER - 2..KEY_HEADER)
            .map(|len| usize::from(u16::from_le_bytes([len[0], len[1]])));
        match len {
            Some(len) if len > 0 && binary.len() == KEY_HEADER + len => Ok(binary),
            _ => Err("is base64, but not of a cephx key; check whether it was encoded twice or cut off"),
        }
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::new(text)
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Key {
        Key::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Key {
        Key::new(&Zeroizing::new(text))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Cluster {
    /// Returns the key of a user such as `client.admin`, as `ceph auth get-key` prints it. Blocks
    /// for at most the mon timeout. Needs the capability to read the auth database.
    pub fn key_of(&self, user: &str) -> Result<Key> {
        let object = || Object::new(ObjectKind::User, user);
        let reply =
            self.command_on("read the key of", object, &json!({ "prefix": "auth get-key", "entity": user }))?;
        let reply = Zeroizing::new(reply);
        Ok(Key::new(&String::from_utf8_lossy(&reply)))
    }

    /// Returns the key that this client authenticates with, from its options `key`, `keyfile` or
    /// `keyring`.
    ///
    /// Reads files on this machine, and sends no request.
    pub fn key(&self) -> Result<Key> {
        configured(self.user(), |option| self.config().get(option))
    }
}

/// Returns the key of a user from the options `key`, `keyfile` or `keyring`.
pub(super) fn configured(user: &str, option: impl Fn(&str) -> Result<String>) -> Result<Key> {
    let configured = option("key")?;
    if !configured.is_empty() {
        return Ok(Key::from(configured));
    }
    let keyfile = option("keyfile")?;
    if !keyfile.is_empty() {
        return Ok(Key::from(read(Path::new(&keyfile))?));
    }
    let keyring = option("keyring")?;
    // Like librados, reads only the first keyring that can be opened.
    if let Some(path) = files::first_keyring(&keyring) {
        if let Some(key) = key_in(path, user)? {
            return Ok(key);
        }
    }
    let why = format!(
        "the first of these keyrings that can be read has no such key: {keyring}; name a keyring or key when \
         connecting"
    );
    Err(Error::new("find the key of", Object::new(ObjectKind::User, user), Errno::ENOENT).with_detail(why))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let errno = Errno::new(error.raw_os_error().unwrap_or(libc::EIO));
        Error::new("read", Object::new(ObjectKind::File, path.to_string_lossy()), errno)
    })
}

/// Returns the key of a user in a keyring.
pub(super) fn key_in(path: &Path, user: &str) -> Result<Option<Key>> {
    Ok(key_of(&Zeroizing::new(read(path)?), user))
}

/// Returns the key in the sections of a user: `[client.admin]`, then a line `key = …`. As in
/// librados, the last one wins.
pub(super) fn key_of(keyring: &str, user: &str) -> Option<Key> {
    let (mut mine, mut key) = (false, None);
    for line in keyring.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            mine = section.trim() == user;
        } else if let (true, Some((name, value))) = (mine, line.split_once('=')) {
            if name.trim() == "key" {
                key = Some(Key::new(value_of(value.trim())));
            }
        }
    }
    key
}

/// Returns the text inside quotes, or before a comment. A key contains neither.
pub(super) fn value_of(value: &str) -> &str {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => value[1..].split(quote).next().unwrap_or_default(),
        _ => value.split(['#', ';']).next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";

    #[test]
    fn a_newline_from_a_secret_does_not_matter() {
        let key = Key::new(&format!("{KEY}\n"));
        assert_eq!(key.expose(), KEY);
        assert!(key.check("client.admin").is_ok());
        assert_eq!(format!("{key:?}"), "Key(…)");
    }

    #[test]
    fn what_cannot_be_a_key_is_refused_without_showing_it() {
        let error = Key::new("not a key, not a key").check("client.admin").unwrap_err();
        assert!(!error.to_string().contains("not a key, not"));
        assert!(error.to_string().contains("base64"));
    }

    #[test]
    fn finds_the_users_section() {
        let keyring =
            format!("[client.other]\n\tkey = no\n[client.admin]\n\tcaps mon = \"allow *\"\n\tkey = {KEY}\n");
        assert_eq!(key_of(&keyring, "client.admin").unwrap().expose(), KEY);
        assert!(key_of(&keyring, "client.nobody").is_none());
        for value in
            [format!("{KEY} # mine"), format!("{KEY};"), format!("\"{KEY}\" ; a"), format!("'{KEY}'")]
        {
            let keyring = format!("[client.a]\n key = no\n[client.b]\nkey = no\n[client.a]\nkey={value}\n");
            assert_eq!(key_of(&keyring, "client.a").unwrap().expose(), KEY, "{value}");
        }
    }

    #[test]
    fn the_type_of_a_key_stands_at_its_start() {
        assert_eq!(Key::new(KEY).kind(), Some(1));
        assert_eq!(Key::new(&STANDARD.encode([2, 1, 0, 0, 0, 0])).kind(), Some(258));
        assert_eq!([Key::new("").kind(), Key::new("????").kind()], [None; 2]);
        // No secret, and none of the length that is said.
        for (len, rest) in [(0, 0), (2, 1), (1, 2)] {
            let mut binary = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, len, 0];
            binary.resize(KEY_HEADER + rest, 7);
            assert!(Key::new(&STANDARD.encode(binary)).decode().is_err(), "{len} {rest}");
        }
    }

    #[test]
    fn a_key_is_looked_for_where_the_configuration_has_it() {
        let file = std::env::temp_dir().join(format!("rbd-key-{}", std::process::id()));
        let path = file.to_string_lossy().into_owned();
        let options = |key: &str, keyfile: &str, keyring: &str| {
            let values =
                [("key", key), ("keyfile", keyfile), ("keyring", keyring)].map(|(a, b)| (a, b.to_owned()));
            configured("client.a", move |option| {
                Ok(values.iter().find(|(name, _)| *name == option).unwrap().1.clone())
            })
        };
        assert_eq!(options("one", "", "").unwrap().expose(), "one");
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(options("", &path, "").unwrap().expose(), "two");
        std::fs::write(&file, "[client.a]\nkey = three\n").unwrap();
        assert_eq!(options("", "", &path).unwrap().expose(), "three");
        std::fs::write(&file, "[client.b]\nkey = three\n").unwrap();
        assert!(options("", "", &path).unwrap_err().is_not_found());
        std::fs::remove_file(&file).unwrap();
        assert!(options("", &path, "").unwrap_err().is_not_found());
    }
}
