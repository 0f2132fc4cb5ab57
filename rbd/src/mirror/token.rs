//! What one cluster gives another to become its peer.

use std::ffi::CString;
use std::fmt;

use zeroize::Zeroizing;

/// How to reach a cluster as a mirroring peer: its monitors, a user and that user's key, in base64. Never printed, wiped from
/// memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken(Zeroizing<String>);

impl BootstrapToken {
    /// A token made elsewhere, for instance by `rbd mirror pool peer bootstrap create`. White space around it is dropped.
    pub fn new(text: &str) -> BootstrapToken {
        BootstrapToken(Zeroizing::new(text.trim().to_owned()))
    }

    /// The text, for whoever must pass it on.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn from_raw(text: Zeroizing<String>) -> BootstrapToken {
        BootstrapToken(text)
    }

    /// `None` where it contains a NUL.
    pub(super) fn c_string(&self) -> Option<Zeroizing<CString>> {
        secret_c_string(&self.0)
    }
}

/// A C string that is wiped; `None` where the text contains a NUL, of which no copy is left either.
pub(super) fn secret_c_string(text: &str) -> Option<Zeroizing<CString>> {
    if text.contains('\0') {
        return None;
    }
    // Room for the NUL, so that the text is not moved when that is appended.
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
}
