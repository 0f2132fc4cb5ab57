//! The configuration file: sections of `key = value`. Later settings replace earlier ones.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, Result};

/// A `ceph.conf` that is being built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Conf {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Conf {
    /// Sets `key` in `section`. As in Ceph, `a b`, `a-b` and `a_b` are the same key.
    pub(crate) fn set(&mut self, section: &str, key: &str, value: impl fmt::Display) -> &mut Self {
        let key = key.trim().replace([' ', '-'], "_");
        self.sections.entry(section.trim().to_owned()).or_default().insert(key, value.to_string());
        self
    }

    /// Sets every key of `other`. Equal keys are replaced.
    pub(crate) fn merge(&mut self, other: &Conf) {
        for (section, keys) in &other.sections {
            for (key, value) in keys {
                self.set(section, key, value);
            }
        }
    }

    /// Refuses values that would break the file's syntax and become other settings.
    pub(crate) fn check(&self) -> Result<()> {
        for (section, keys) in &self.sections {
            if section.is_empty() || section.contains(['[', ']', '\n']) {
                return Err(Error::Invalid(format!("{section:?} is no name of a conf section")));
            }
            for (key, value) in keys {
                if key.is_empty() || key.contains(['=', '[', ']', '\n', '#', ';']) {
                    return Err(Error::Invalid(format!("{key:?} is no name of a Ceph option")));
                }
                if value.contains('\n') {
                    return Err(Error::Invalid(format!("the value of {key} has a line break")));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let global = self.sections.get_key_value("global");
        let others = self.sections.iter().filter(|(name, _)| *name != "global");
        for (section, keys) in global.into_iter().chain(others) {
            writeln!(f, "[{section}]")?;
            for (key, value) in keys {
                writeln!(f, "{key} = {value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_comes_first_and_the_last_setting_of_a_key_wins() {
        let mut conf = Conf::default();
        conf.set("client", "keyring", "/k").set("global", "osd pool default size", 1);
        conf.set("global", "osd-pool_default size", 2);
        assert_eq!(conf.to_string(), "[global]\nosd_pool_default_size = 2\n\n[client]\nkeyring = /k\n\n");
    }

    #[test]
    fn what_would_become_another_setting_is_refused() {
        let refused = |section: &str, key: &str, value: &str| {
            let mut conf = Conf::default();
            conf.set(section, key, value);
            conf.check().is_err()
        };
        assert!(refused("global", "a", "1\nb = 2"));
        assert!(refused("global", "a = 1\nb", "2"));
        assert!(refused("osd]\n[mon", "a", "1"));
        assert!(refused("global", "", "1"));
        assert!(!refused("osd.0", "a", "x = y"));
    }
}
