//! Bootstrap tokens, with which one cluster becomes a peer of another.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::cluster::Key;

/// A token that gives access to a cluster as a mirroring peer: its monitors, a user and the user's
/// key, in base64. It is never printed, and it is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken(Zeroizing<String>);

impl BootstrapToken {
    /// Wraps the text of a token, for example from `rbd mirror pool peer bootstrap create`. Removes
    /// surrounding white space.
    pub fn new(text: &str) -> BootstrapToken {
        BootstrapToken(Zeroizing::new(text.trim().to_owned()))
    }

    /// Returns the token's text, so that it can be passed on.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn from_raw(text: Zeroizing<String>) -> BootstrapToken {
        BootstrapToken(text)
    }

    /// Checks that the text is a token. librbd's parser recurses for each level of nesting, and
    /// prints a key that it cannot parse.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let text: Zeroizing<String> = Zeroizing::new(self.0.split_ascii_whitespace().collect());
        let json = STANDARD.decode(text.as_str()).map(Zeroizing::new).map_err(|_| "it is not base64")?;
        // Only strings are accepted as values, so that nothing can be nested.
        let fields: BTreeMap<String, String> = serde_json::from_slice(&json).map_err(|_| NO_OBJECT)?;
        let fields: BTreeMap<_, _> =
            fields.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
        if ["fsid", "client_id", "mon_host"].iter().any(|name| !fields.contains_key(*name)) {
            return Err(NO_OBJECT);
        }
        let key = fields.get("key").ok_or(NO_OBJECT)?;
        Key::new(key).decode().map(drop).map_err(|_| "the key in it is not a cephx key")
    }

    /// Returns the token as a C string; `None` if it contains a NUL byte.
    pub(super) fn c_string(&self) -> Option<Zeroizing<CString>> {
        secret_c_string(&self.0)
    }
}

const NO_OBJECT: &str =
    "it is base64, but not of a JSON object with the strings fsid, client_id, key and mon_host";

/// Makes a C string that is wiped when it is dropped; `None`, without leaving a copy, if the text
/// contains a NUL byte.
pub(super) fn secret_c_string(text: &str) -> Option<Zeroizing<CString>> {
    if text.contains('\0') {
        return None;
    }
    // Reserves room for the NUL byte, so that appending it does not move the text.
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    CString::new(bytes).ok().map(Zeroizing::new)
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootstrapToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_and_a_nul_is_refused() {
        let token = BootstrapToken::new("eyJmc2lk\n");
        assert_eq!((token.expose(), format!("{token:?}").as_str()), ("eyJmc2lk", "BootstrapToken(…)"));
        assert_eq!(token.c_string().unwrap().as_bytes(), b"eyJmc2lk");
        assert!(BootstrapToken::new("a\0b").c_string().is_none());
    }

    #[test]
    fn what_is_no_token_is_told_apart_and_not_shown() {
        const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";
        let check = |json: &str| BootstrapToken::new(&STANDARD.encode(json)).check();
        let token =
            |key: &str| format!(r#"{{"fsid":"f","client_id":"c","key":"{key}","mon_host":"[v2:1]"}}"#);
        assert_eq!(check(&token(KEY)), Ok(()));
        let broken =
            STANDARD.encode(token(KEY)).chars().fold(String::new(), |text, c| text + &format!("{c}\n"));
        assert_eq!(BootstrapToken::new(&broken).check(), Ok(()), "lines are no harm");
        assert!(check(&token(&KEY[4..])).unwrap_err().contains("not a cephx key"));
        assert_eq!(BootstrapToken::new("{}").check(), Err("it is not base64"));
        for json in ["", "[]", "{}", r#"{"fsid":"f"}"#, &"[".repeat(200_000), &r#"{"key":"#.repeat(200_000)] {
            assert_eq!(check(json), Err(NO_OBJECT));
        }
    }
}
