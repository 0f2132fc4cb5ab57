//! Checks of a client's keys before librados reads them.
//!
//! librados writes a key that it cannot parse to its log. These checks refuse such a key first, and
//! remove all known keys from what librados logs while connecting.

use std::path::Path;

use zeroize::Zeroizing;

use super::Key;
use super::files::keyrings_in;
use super::key::value_of;
use crate::error::{Error, Object, ObjectKind, Result};

/// The placeholder for a key.
const HIDDEN: &str = "…";

/// The bytes of a keyring that are read. No keyring is longer.
const MOST_BYTES: u64 = 1 << 20;

/// Texts that must not be shown.
#[derive(Default)]
pub(super) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// Refuses keys that librados could not parse: in the options `key` and `keyfile`, else in the
    /// keyring that librados would use. `option` returns the effective value of an option.
    pub(super) fn check(option: impl Fn(&str) -> Option<String>, user: &str) -> Result<Secrets> {
        let option = |name: &str| option(name).filter(|value| !value.is_empty()).map(Zeroizing::new);
        let mut secrets = Secrets::default();
        let mut found = false;
        if let Some(text) = option("key") {
            found = true;
            secrets.0.push(text.clone());
            Key::new(&text).check(user)?;
        }
        if let Some(path) = option("keyfile") {
            if let Some(text) = read(&path) {
                let key = Key::new(&text);
                secrets.0.push(Zeroizing::new(key.expose().to_owned()));
                if !found {
                    key.check_in(&path)?;
                }
                found = true;
            }
        }
        let keyrings = option("keyring").unwrap_or_default();
        // librados uses the first keyring that it can open, and fails if any key in it cannot be
        // parsed.
        if let Some((path, text)) = keyrings_in(&keyrings).find_map(|path| Some((path, read(path)?))) {
            for key in keys_of(&text) {
                secrets.0.push(Zeroizing::new(key.to_owned()));
                if !found {
                    Key::new(key).check_in(path)?;
                }
            }
        }
        // Redacting short words would mangle all lines.
        secrets.0.retain(|secret| secret.len() >= 6);
        Ok(secrets)
    }

    /// Removes the keys from lines that librados logged.
    pub(super) fn redact(&self, lines: Vec<String>) -> Vec<String> {
        lines.into_iter().map(|line| redact(line, self.0.iter().map(|secret| secret.as_str()))).collect()
    }
}

/// Removes these texts from a log line. The log itself removes keys in the forms in which librados
/// is known to show them.
pub(super) fn redact<'a>(line: String, secrets: impl Iterator<Item = &'a str>) -> String {
    secrets.fold(line, |line, secret| line.replace(secret, HIDDEN))
}

fn read(path: &str) -> Option<Zeroizing<String>> {
    use std::io::Read;
    let home = std::env::var("HOME").unwrap_or_default();
    let path = path.replacen("~/", &format!("{home}/"), 1);
    let file = std::fs::File::open(Path::new(&path)).ok()?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns the values of all lines `key = …`, for any user.
pub(super) fn keys_of(keyring: &str) -> impl Iterator<Item = &str> {
    keyring.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value_of(value.trim()).trim();
        (name.trim() == "key").then_some(value).filter(|value| !value.is_empty())
    })
}

impl Key {
    /// Refuses a text in a file that cannot be a key.
    fn check_in(&self, path: &str) -> Result<()> {
        self.decode().map(drop).map_err(|why| {
            let object = Object::new(ObjectKind::File, path);
            Error::invalid("use the key in", object, format!("the key {why}; write it to that file again"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";

    fn options<'a>(values: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| values.iter().find(|(option, _)| *option == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn every_key_in_the_first_keyring_must_be_valid() {
        let dir = std::env::temp_dir().join(format!("rbd-credentials-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (good, bad, text) = (dir.join("good"), dir.join("bad"), &KEY[4..]);
        std::fs::write(&good, format!("[client.a]\n\tkey = {KEY} # mine\n")).unwrap();
        std::fs::write(&bad, format!("[client.b]\n\tkey = \"{text}\"\n[client.a]\n\tkey = {KEY}\n")).unwrap();
        let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
        let check = |values: &[(&str, &str)]| Secrets::check(options(values), "client.a");
        assert!(check(&[("keyring", &format!("/nonexistent,{good};{bad}"))]).is_ok());
        for values in [
            vec![("keyring", bad)],
            vec![("keyfile", bad)],
            vec![("key", text)],
            vec![("key", text), ("keyring", good)],
        ] {
            let error = check(&values).err().expect("refused");
            assert!(!format!("{error:#?}").contains(&text[..8]), "{error:#?}");
            assert!(error.to_string().contains("the key"), "{error}");
        }
        // A given key wins, as in librados.
        let secrets = check(&[("key", KEY), ("keyring", bad)]).unwrap();
        let lines = secrets.redact(vec![format!("auth: {text}"), format!("k={KEY}.")]);
        assert_eq!(lines, ["auth: …", "k=…."]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
