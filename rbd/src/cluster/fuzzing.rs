//! Entry points to the parsers of files and monitor answers, for fuzzers and tests. None may panic.

use super::credentials::{keys_of, redact};
use super::environment::EarlyArgs;
use super::key::key_of;
use super::{Key, blocklist};

pub(crate) fn keyring(text: &str) {
    if let Some(key) = key_of(text, "client.admin") {
        let _ = key.decode();
    }
    for key in keys_of(text).filter(|key| key.len() >= 6) {
        let _ = Key::new(key).decode();
        let redacted = redact(format!("auth: failed to decode key {key}"), [key].into_iter());
        assert!(redacted.len() < "auth: failed to decode key ".len() + 6, "{redacted}");
    }
}

pub(crate) fn monitors(bytes: &[u8]) {
    let _ = blocklist::entries(bytes);
}

pub(crate) fn arguments(text: &str) {
    let _ = EarlyArgs::parse(text);
    let _ = text.parse::<crate::Features>();
}
