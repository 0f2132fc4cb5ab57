//! The key with which the kernel logs in.

use std::ffi::CString;
use std::fmt;

use zeroize::Zeroizing;

use crate::cluster::Key;
use crate::errno::Errno;
use crate::error::{Error, Object, ObjectKind, Result};
use crate::krbd::monmap;
use crate::krbd::spec::splits;
use crate::raw::kernel::key_ring::ThreadKey;

/// A cephx key in two forms: as printed, and as the kernel takes it.
#[derive(Clone)]
pub(crate) struct Secret {
    text: Key,
    binary: Zeroizing<Vec<u8>>,
}

/// The type of key that every kernel knows.
const AES: u16 = 1;

impl Secret {
    pub(crate) fn new(key: &Key) -> Result<Secret> {
        let binary = key.decode().map_err(|why| {
            Error::invalid("use the key of", Object::new(ObjectKind::User, ""), format!("the key {why}"))
        })?;
        Ok(Secret { text: key.clone(), binary })
    }

    fn kind(&self) -> u16 {
        u16::from_le_bytes([self.binary[0], self.binary[1]])
    }

    /// Returns a hint for a refused key: newer clusters create keys of a type that older kernels do
    /// not know.
    pub(crate) fn hint(&self) -> &'static str {
        if self.kind() == AES {
            ""
        } else {
            "; the key is of a newer type than 'aes', which this kernel may not know: make one with \
             'ceph-authtool --key-type aes'"
        }
    }

    /// Adds the key to the kernel under the name `client.USER`, for the calling thread and until
    /// the returned guard is dropped. Returns `None` if the kernel has no key rings.
    pub(crate) fn add(&self, user: &str) -> Result<Option<ThreadKey>, Errno> {
        let name = CString::new(format!("client.{user}")).map_err(|_| Errno::EINVAL)?;
        match ThreadKey::add(c"ceph", &name, &self.binary) {
            Ok(key) => Ok(Some(key)),
            Err(Errno::ENODEV | Errno::ENOSYS) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Returns the printed form, for a kernel without key rings.
    pub(crate) fn text(&self) -> &str {
        self.text.expose()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The monitors, the user and the key for mapping without a connected [`Cluster`](crate::Cluster),
/// for example on a node of an orchestrator.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub(crate) monitors: Vec<String>,
    pub(crate) user: String,
    pub(crate) key: Option<Key>,
}

impl Credentials {
    /// Creates credentials from monitors as `host:port`, the user without `client.`, and the key as
    /// `ceph auth get-key` prints it. Ignores white space around the key.
    pub fn new(
        monitors: impl IntoIterator<Item = impl Into<String>>,
        user: impl Into<String>,
        key: impl Into<Key>,
    ) -> Credentials {
        Credentials {
            monitors: monitors.into_iter().map(Into::into).collect(),
            user: user.into(),
            key: Some(key.into()),
        }
    }

    /// Creates credentials for a cluster without authentication.
    pub fn without_key(
        monitors: impl IntoIterator<Item = impl Into<String>>,
        user: impl Into<String>,
    ) -> Credentials {
        Credentials { monitors: monitors.into_iter().map(Into::into).collect(), user: user.into(), key: None }
    }

    /// Refuses values that the kernel cannot parse. Returns the key in the kernel's form.
    pub(crate) fn check(&self) -> Result<Option<Secret>> {
        monmap::check(&self.monitors)?;
        if self.user.is_empty() || self.user.contains(|c| splits(c) || c == ',') {
            return Err(Error::invalid(
                "log in as",
                Object::new(ObjectKind::User, &*self.user),
                "a user's name must not be empty or contain a comma or white space, which the kernel \
                 takes as separators",
            ));
        }
        self.key.as_ref().map(Secret::new).transpose()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// A published key of a cluster that does not exist.
    const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";

    fn secret(text: &str) -> Result<Secret> {
        Secret::new(&Key::new(text))
    }

    #[test]
    fn a_secrets_newline_is_no_harm() {
        let of_kubernetes =
            STANDARD.decode("QVFCaUtCeFl1UFhpSlJBQXN1cG5UQnNVUm9XemIwazAwb00zaVE9PQo=").unwrap();
        let key = secret(std::str::from_utf8(&of_kubernetes).unwrap()).unwrap();
        assert_eq!(key.text(), KEY);
        assert_eq!((key.kind(), key.binary.len(), key.hint()), (AES, 12 + 16, ""));
    }

    #[test]
    fn a_key_is_never_shown() {
        let credentials = Credentials::new(["10.0.0.1:6789"], "admin", KEY);
        assert!(!format!("{credentials:?}").contains("AQBi"));
        assert_eq!(format!("{:?}", secret(KEY).unwrap()), "Secret(…)");
        for bad in ["AQBi KBxY", "AQBiKBxY", "QVFCaUtCeFl1UFhpSlJBQXN1cG5UQnNVUm9XemIwazAwb00zaVE9PQo=", ""] {
            let text = secret(bad).unwrap_err().to_string();
            assert!(text.contains("base64") && (bad.is_empty() || !text.contains(bad)), "{text}");
        }
    }

    #[test]
    fn a_newer_type_of_key_is_explained() {
        let mut binary = STANDARD.decode(KEY).unwrap();
        binary[0] = 2;
        assert!(secret(&STANDARD.encode(binary)).unwrap().hint().contains("--key-type aes"));
    }

    #[test]
    fn users_that_the_kernel_would_misread_are_refused() {
        for user in ["", "a b", "a,secret=x"] {
            assert!(Credentials::without_key(["10.0.0.1"], user).check().is_err(), "{user}");
        }
        assert!(Credentials::without_key(Vec::<String>::new(), "admin").check().is_err());
        Credentials::without_key(["[fd00::1]:6789"], "csi.node-1").check().unwrap();
    }

    #[test]
    fn a_user_that_the_kernel_cannot_name_is_refused() {
        assert_eq!(secret(KEY).unwrap().add("a\0b").err(), Some(Errno::EINVAL));
    }
}
