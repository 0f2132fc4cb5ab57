//! The kernel's options: their names, values and opposites.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Object, ObjectKind, Result};
use crate::krbd::spec::splits;

/// The protocol between the kernel and the monitors and OSDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MsMode {
    /// The first protocol (msgr1), without encryption: the only one that kernels before 5.11 know.
    Legacy,
    /// The second protocol with checksums only.
    Crc,
    /// The second protocol, encrypted.
    Secure,
    /// The second protocol with checksums only, or encrypted if the cluster demands it.
    PreferCrc,
    /// The second protocol, encrypted, or with checksums only if the cluster demands it.
    PreferSecure,
}

/// The replica that reads go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReadFromReplica {
    /// The primary replica (the default).
    No,
    /// A random replica. For an image that is written, the cluster must have
    /// `require-osd-release octopus` or later: otherwise reads can return old data.
    Balance,
    /// The nearest replica by [`MapOptions::crush_location`](super::MapOptions::crush_location).
    /// Has the same condition as [`Balance`](ReadFromReplica::Balance).
    Localize,
}

/// The hint to the OSDs about how well the data compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CompressionHint {
    /// No hint (the default).
    None,
    /// The data compresses well.
    Compressible,
    /// The data compresses badly: it is already compressed or encrypted.
    Incompressible,
}

macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),*) => {
        impl $type {
            const WORDS: &'static [&'static str] = &[$($word),*];

            /// Returns the kernel's name of this value.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),* }
            }

            pub(super) fn from_word(word: &str) -> Option<$type> {
                match word { $($word => Some($type::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(word: &str) -> Result<$type> {
                $type::from_word(word).ok_or_else(|| invalid(word, format!("expected one of {}", $type::WORDS.join(", "))))
            }
        }
    };
}

words!(MsMode: Legacy = "legacy", Crc = "crc", Secure = "secure", PreferCrc = "prefer-crc", PreferSecure = "prefer-secure");
words!(ReadFromReplica: No = "no", Balance = "balance", Localize = "localize");
words!(CompressionHint: None = "none", Compressible = "compressible", Incompressible = "incompressible");

/// The kind of value that an option takes.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Nothing,
    Number { least: u64 },
    PowerOfTwo { least: u64 },
    Text,
    OneOf(&'static [&'static str]),
}

/// Each option's name, its value, and its opposite, which replace each other.
pub(super) const KNOWN: [(&str, Value, &str); 38] = [
    ("ro", Value::Nothing, "rw"),
    ("rw", Value::Nothing, "ro"),
    ("exclusive", Value::Nothing, ""),
    ("lock_on_read", Value::Nothing, ""),
    ("lock_timeout", Value::Number { least: 0 }, ""),
    ("notrim", Value::Nothing, ""),
    ("abort_on_full", Value::Nothing, ""),
    ("queue_depth", Value::Number { least: 1 }, ""),
    ("alloc_size", Value::PowerOfTwo { least: 512 }, ""),
    ("crush_location", Value::Text, ""),
    ("read_from_replica", Value::OneOf(ReadFromReplica::WORDS), ""),
    ("compression_hint", Value::OneOf(CompressionHint::WORDS), ""),
    ("ms_mode", Value::OneOf(MsMode::WORDS), ""),
    ("rxbounce", Value::Nothing, ""),
    ("fsid", Value::Text, ""),
    ("ip", Value::Text, ""),
    ("share", Value::Nothing, "noshare"),
    ("noshare", Value::Nothing, "share"),
    ("crc", Value::Nothing, "nocrc"),
    ("nocrc", Value::Nothing, "crc"),
    ("cephx_require_signatures", Value::Nothing, "nocephx_require_signatures"),
    ("nocephx_require_signatures", Value::Nothing, "cephx_require_signatures"),
    ("cephx_sign_messages", Value::Nothing, "nocephx_sign_messages"),
    ("nocephx_sign_messages", Value::Nothing, "cephx_sign_messages"),
    ("tcp_nodelay", Value::Nothing, "notcp_nodelay"),
    ("notcp_nodelay", Value::Nothing, "tcp_nodelay"),
    ("mount_timeout", Value::Number { least: 0 }, ""),
    ("osdkeepalive", Value::Number { least: 0 }, ""),
    ("osd_idle_ttl", Value::Number { least: 0 }, ""),
    ("osd_request_timeout", Value::Number { least: 0 }, ""),
    ("udev", Value::Nothing, "noudev"),
    ("noudev", Value::Nothing, "udev"),
    // This crate sets the connection's identity. Error texts never contain these values.
    ("name", Value::Text, ""),
    ("key", Value::Text, ""),
    ("secret", Value::Text, ""),
    ("_pool_ns", Value::Text, ""),
    ("read_only", Value::Nothing, "read_write"),
    ("read_write", Value::Nothing, "read_only"),
];

pub(super) const RESERVED: [&str; 4] = ["name", "key", "secret", "_pool_ns"];

pub(super) fn bad(c: char) -> bool {
    splits(c) || c == ','
}

pub(super) fn check_value(kind: Option<Value>, value: Option<&str>) -> Result<(), String> {
    if value.is_some_and(|value| value.contains(bad)) {
        return Err(
            "its value must not contain a comma or white space, which the kernel takes as separators".into(),
        );
    }
    let Some(kind) = kind else { return Ok(()) };
    let number = value.and_then(|value| value.parse::<u64>().ok());
    match (kind, value) {
        (Value::Nothing, None) => Ok(()),
        (Value::Nothing, Some(_)) => Err("it takes no value".into()),
        (_, None | Some("")) => Err("it needs a value".into()),
        (Value::Text, Some(_)) => Ok(()),
        (Value::Number { least }, Some(_)) => match number {
            Some(number) if number >= least && u32::try_from(number).is_ok() => Ok(()),
            _ => Err(format!("it needs a whole number from {least} to {}", u32::MAX)),
        },
        (Value::PowerOfTwo { least }, Some(_)) => match number {
            Some(number) if number >= least && number.is_power_of_two() && number <= 1 << 30 => Ok(()),
            _ => Err(format!("it needs a power of two from {least} to {}", 1 << 30)),
        },
        (Value::OneOf(words), Some(value)) if words.contains(&value) => Ok(()),
        (Value::OneOf(words), Some(_)) => Err(format!("it must be one of {}", words.join(", "))),
    }
}

pub(super) fn known(name: &str) -> Option<(Value, &'static str)> {
    KNOWN.iter().find(|(known, ..)| *known == name).map(|(_, value, opposite)| (*value, *opposite))
}

/// Returns why a name is refused, with all names that are accepted.
pub(super) fn unknown(name: &str) -> Option<String> {
    known(name).is_none().then(|| {
        format!(
            "it is none of the known options of a mapping, which are {}; correct the name, or leave \
             the option out",
            names()
        )
    })
}

/// All names that a user may set, for an error.
pub(super) fn names() -> String {
    let names: Vec<&str> =
        KNOWN.iter().map(|(name, ..)| *name).filter(|name| !RESERVED.contains(name)).collect();
    names.join(", ")
}

pub(super) fn invalid(option: &str, detail: impl Into<String>) -> Error {
    Error::invalid("set", Object::new(ObjectKind::ConfigOption, option), detail.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_power_of_two_that_the_kernel_can_count() {
        let size = |value: &str| check_value(Some(Value::PowerOfTwo { least: 512 }), Some(value)).is_ok();
        for good in ["512", "1024", "1073741824"] {
            assert!(size(good), "{good}");
        }
        for bad in ["", "0", "256", "513", "2147483648", "2147483649", "18446744073709551616", "a"] {
            assert!(!size(bad), "{bad}");
        }
    }
}
