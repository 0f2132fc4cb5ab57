//! Entry points to the private parsers of foreign input, for fuzzers and tests. None may panic.
#![allow(missing_docs)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::mirror::BootstrapToken;
use crate::{cluster, migration, survey};

pub use crate::krbd::fuzzing as krbd;

/// Parses a mirroring bootstrap token, and the JSON in one.
pub fn token(bytes: &[u8]) {
    let _ = BootstrapToken::new(&String::from_utf8_lossy(bytes)).check();
    if BootstrapToken::new(&STANDARD.encode(bytes)).check().is_ok() {
        assert!(serde_json::from_slice::<serde_json::Value>(bytes).is_ok(), "librbd parses it");
    }
}

/// Decodes the replies of the OSDs' object classes.
pub fn answer(bytes: &[u8]) {
    survey::decode::anything(bytes);
}

/// Parses the source of an import.
pub fn source(text: &str) {
    if let Err(why) = migration::check_source(text) {
        assert!(why.len() < 200, "{why}");
    }
}

/// Parses answers of monitors.
pub fn monitors(bytes: &[u8]) {
    cluster::fuzzing::monitors(bytes);
    krbd::monmap(bytes);
}

/// Parses a keyring, or a file with a key.
pub fn keyring(text: &str) {
    cluster::fuzzing::keyring(text);
}

/// Parses `CEPH_ARGS` and values of the configuration.
pub fn conf(text: &str) {
    cluster::fuzzing::arguments(text);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_strangers_send_is_taken_or_refused(text in "\\PC{0,200}", bytes: Vec<u8>) {
            token(text.as_bytes());
            token(&bytes);
            source(&text);
            monitors(text.as_bytes());
            monitors(&bytes);
            keyring(&format!("[client.admin]\nkey = {text}"));
            conf(&text);
        }
    }

    #[test]
    fn deep_nesting_is_refused_by_each() {
        for level in ["[", "{\"a\":", "[{\"key\":"] {
            let text = level.repeat(100_000);
            token(text.as_bytes());
            source(&text);
            monitors(text.as_bytes());
            keyring(&text);
            conf(&text);
        }
    }
}
