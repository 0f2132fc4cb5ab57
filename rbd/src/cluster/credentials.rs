//! What a client logs in with, looked at before librados looks at it.
//!
//! librados logs a key that it cannot read, to wherever its log goes. So a key that cannot be one
//! is refused first, and what librados logs about connecting loses all keys that are known here.

use std::path::Path;

use zeroize::Zeroizing;

use super::Key;
use crate::error::{Error, Object, ObjectKind, Result};

/// What stands in the place of a key.
const HIDDEN: &str = "…";

/// No keyring is longer than this in bytes: the rest is not looked at.
const MOST_BYTES: u64 = 1 << 20;

/// The texts that must not be shown.
#[derive(Default)]
pub(super) struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// Refuses what librados could not read as a key: the options `key` and `keyfile`, else the
    /// keyring that librados would take. `option` returns the value of an option in force.
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
        // librados takes the first one that it can open, and fails where a key of anybody in it
        // cannot be read.
        if let Some((path, text)) =
            keyrings.split([',', ';', '=', ' ', '\t']).find_map(|path| Some((path, read(path)?)))
        {
            for key in keys_of(&text) {
                secrets.0.push(Zeroizing::new(key.to_owned()));
                if !found {
                    Key::new(key).check_in(path)?;
                }
            }
        }
        // Short words would be taken out of all lines.
        secrets.0.retain(|secret| secret.len() >= 6);
        Ok(secrets)
    }

    /// Takes the keys out of what librados has logged.
    pub(super) fn redact(&self, lines: Vec<String>) -> Vec<String> {
        lines.into_iter().map(|line| redact(line, self.0.iter().map(|secret| secret.as_str()))).collect()
    }
}

/// Takes these texts out of a line of the log. The log itself takes out what librados shows in the
/// forms that are known.
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

/// The values of all lines `key = …`, whoever they belong to.
pub(super) fn keys_of(keyring: &str) -> impl Iterator<Item = &str> {
    keyring.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.split(['#', ';']).next().unwrap_or_default();
        (name.trim() == "key").then(|| value.trim().trim_matches('"')).filter(|value| !value.is_empty())
    })
}

impl Key {
    /// Refuses what cannot be a key, which stands in a file.
    fn check_in(&self, path: &str) -> Result<()> {
        self.decode().map(drop).map_err(|why| {
            let object = Object::new(ObjectKind::File, path);
            Error::invalid("use the key in", object, format!("{why}; write the key there once more"))
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
    fn a_key_of_anybody_in_the_first_keyring_must_be_one() {
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
        // One that is given wins, as it does in librados.
        let secrets = check(&[("key", KEY), ("keyring", bad)]).unwrap();
        let lines = secrets.redact(vec![format!("auth: {text}"), format!("k={KEY}.")]);
        assert_eq!(lines, ["auth: …", "k=…."]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
