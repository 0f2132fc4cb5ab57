//! Names, checks and plans image features.
//!
//! ```
//! use rbd::Features;
//! use rbd::features::Plan;
//! let image: Features = "layering, exclusive-lock, object-map".parse()?;
//! let plan = Plan::to_support(image, Features::LAYERING)?;
//! assert_eq!(plan.to_string(), "disable object-map, exclusive-lock");
//! # Ok::<(), rbd::Error>(())
//! ```

mod plan;
mod rules;

use std::fmt;
use std::str::FromStr;

pub use plan::{ImmutableFeatures, Plan};
pub use rules::{Change, Rule};

pub(crate) use rules::FeatureConflict;

use crate::error::{Error, Object, ObjectKind, Result};

bitflags::bitflags! {
    /// The feature bits of an image. Unknown bits are preserved.
    ///
    /// ```
    /// use rbd::Features;
    /// let features: Features = "layering, exclusive-lock".parse()?;
    /// assert!(features.contains(Features::EXCLUSIVE_LOCK));
    /// assert_eq!(features.to_string(), "layering, exclusive-lock");
    /// # Ok::<(), rbd::Error>(())
    /// ```
    #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct Features: u64 {
        /// The snapshots of the image can be cloned.
        const LAYERING = 1 << 0;
        /// Data is striped over several objects in units smaller than an object.
        const STRIPING = 1 << 1;
        /// Only the owner of the exclusive lock can write.
        const EXCLUSIVE_LOCK = 1 << 2;
        /// A bitmap records which objects exist.
        const OBJECT_MAP = 1 << 3;
        /// The object map also records which objects changed since a snapshot.
        const FAST_DIFF = 1 << 4;
        /// Flattening a clone flattens its snapshots too.
        const DEEP_FLATTEN = 1 << 5;
        /// Writes go through a journal, for mirroring.
        ///
        /// After a crash, the next owner of the exclusive lock repeats the writes in the journal:
        /// see [`guide::durability`](crate::guide::durability). Enable it only where mirroring
        /// needs it.
        const JOURNALING = 1 << 6;
        /// Data is stored in another pool than the image's metadata.
        const DATA_POOL = 1 << 7;
        /// Set by librbd: the image has [operation features](OpFeatures).
        const OPERATIONS = 1 << 8;
        /// Set by librbd: the image is the source or target of a migration.
        const MIGRATING = 1 << 9;
        /// Set by librbd: the image is mirrored by snapshots and not primary.
        const NON_PRIMARY = 1 << 10;
        /// Set by librbd: a persistent write-back cache holds unwritten data.
        const DIRTY_CACHE = 1 << 11;

        const _ = !0;
    }
}

bitflags::bitflags! {
    /// The operation features of an image, which librbd sets.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct OpFeatures: u64 {
        /// The image has clones of format 2.
        const CLONE_PARENT = 1 << 0;
        /// The image is a clone of format 2.
        const CLONE_CHILD = 1 << 1;
        /// The image belongs to a group.
        const GROUP = 1 << 2;
        /// The image has snapshots in the trash.
        const SNAP_TRASH = 1 << 3;

        const _ = !0;
    }
}

bitflags::bitflags! {
    /// The state flags of an image.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Flags: u64 {
        /// The object map is invalid and must be rebuilt.
        const OBJECT_MAP_INVALID = 1 << 0;
        /// The fast-diff data is invalid and must be rebuilt.
        const FAST_DIFF_INVALID = 1 << 1;

        const _ = !0;
    }
}

impl Features {
    /// The features of a new image if nothing else is configured.
    pub const DEFAULT: Features = Features::LAYERING
        .union(Features::EXCLUSIVE_LOCK)
        .union(Features::OBJECT_MAP)
        .union(Features::FAST_DIFF)
        .union(Features::DEEP_FLATTEN);

    /// Returns an iterator over the set bits, lowest first.
    pub(crate) fn each(self) -> impl Iterator<Item = Features> {
        (0..u64::BITS).map(|bit| Features::from_bits_retain(1 << bit)).filter(move |bit| self.contains(*bit))
    }

    /// Returns the names of the set bits, as the `rbd` command prints them. Omits bits without a
    /// name: see [`Self::unknown`].
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.each()
            .filter_map(|bit| rules::RULES.iter().find(|rule| rule.feature == bit))
            .map(|rule| rule.name)
    }

    /// Returns the set bits that this crate has no name for.
    pub fn unknown(self) -> Features {
        self & Features::from_bits_retain(!rules::RULES.iter().fold(0, |all, rule| all | rule.feature.bits()))
    }

    /// Returns those of the features that a new image can have. Omits `operations` and other bits
    /// that librbd or mirroring manages, and bits without a name.
    ///
    /// ```
    /// use rbd::Features;
    /// let features = Features::DEFAULT | Features::OPERATIONS;
    /// assert_eq!(features.creatable(), Features::DEFAULT);
    /// ```
    pub fn creatable(self) -> Features {
        rules::RULES
            .iter()
            .filter(|rule| rule.change != Change::Internal)
            .fold(Features::empty(), |all, rule| all | (self & rule.feature))
    }

    pub(crate) fn object(self) -> Object {
        Object::new(ObjectKind::Features, self.to_string())
    }
}

/// Accepts `a,b`, `a, b` and `a b`, and numbers: `61`, `0x3d`. Refuses unknown names.
impl FromStr for Features {
    type Err = Error;

    fn from_str(text: &str) -> Result<Features> {
        let words = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let feature = |word: &str| {
            let number = match word.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => word.parse(),
            };
            let found = number.ok().map(Features::from_bits_retain).or_else(|| rules::by_name(word));
            found.ok_or_else(|| {
                let known = Features::from_bits_retain(0xfff);
                let why =
                    format!("'{word}' is neither an image feature nor a number; the features are {known}");
                Error::invalid("parse", Object::new(ObjectKind::Features, text), why)
            })
        };
        words.map(feature).try_fold(Features::empty(), |all, one| Ok(all | one?))
    }
}

/// Prints `layering, exclusive-lock`, and `unknown-0x1000` for a bit without a name.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for name in self.names() {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        let unknown = self.unknown();
        if !unknown.is_empty() {
            write!(f, "{separator}unknown-{:#x}", unknown.bits())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({self})")
    }
}

macro_rules! names {
    ($type:ty: $($bit:ident = $name:literal),*) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let named = [$((<$type>::$bit, $name)),*];
                let mut words: Vec<String> =
                    named.iter().filter(|(bit, _)| self.contains(*bit)).map(|(_, name)| (*name).to_owned()).collect();
                let unknown = named.iter().fold(*self, |rest, (bit, _)| rest - *bit);
                if !unknown.is_empty() {
                    words.push(format!("unknown-{:#x}", unknown.bits()));
                }
                f.write_str(&words.join(", "))
            }
        }
    };
}

names!(OpFeatures: CLONE_PARENT = "clone-parent", CLONE_CHILD = "clone-child", GROUP = "group", SNAP_TRASH = "snap-trash");
names!(Flags: OBJECT_MAP_INVALID = "object map invalid", FAST_DIFF_INVALID = "fast diff invalid");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_list_parses() {
        let want = Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP;
        for text in [
            "exclusive-lock,object-map",
            "exclusive-lock, object-map",
            "exclusive-lock object-map",
            " exclusive-lock\tobject-map, ",
        ] {
            assert_eq!(text.parse::<Features>().unwrap(), want, "{text:?}");
        }
        assert_eq!("".parse::<Features>().unwrap(), Features::empty());
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        let error = "layering,fastdiff".parse::<Features>().unwrap_err();
        assert!(
            error.to_string().contains(
                "'fastdiff' is neither an image feature nor a number; the features are layering, striping"
            ),
            "{error}"
        );
    }

    #[test]
    fn unknown_bits_survive_and_are_shown() {
        let features = Features::from_bits_retain(1 | 1 << 40);
        assert_eq!(features.to_string(), "layering, unknown-0x10000000000");
        assert_eq!(features.unknown().bits(), 1 << 40);
    }

    #[test]
    fn names_round_trip() {
        for bit in Features::from_bits_retain(0xfff).each() {
            assert_eq!(bit.to_string().parse::<Features>().unwrap(), bit);
        }
    }

    #[test]
    fn numbers_parse_as_the_bits_that_they_are() {
        for text in ["61", "0x3d", " 0x3d\n", "0x1, 0x3c"] {
            assert_eq!(text.parse::<Features>().unwrap(), Features::DEFAULT, "{text:?}");
        }
        assert_eq!("layering,exclusive-lock".parse::<Features>().unwrap().bits(), 5);
        for text in ["lots", "0x", "0xfg", "-1", "0x1ffffffffffffffff"] {
            assert!(text.parse::<Features>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn creatable_features_can_be_created() {
        for bits in 0..1 << 12 {
            let features = Features::from_bits_retain(bits | 1 << 40).creatable();
            assert!(!features.intersects(Features::OPERATIONS) && features.unknown().is_empty());
            assert!(features.contains(Features::from_bits_retain(bits) & Features::DEFAULT));
        }
        assert!((Features::DEFAULT | Features::OPERATIONS).check_create().is_err());
        (Features::DEFAULT | Features::OPERATIONS).creatable().check_create().unwrap();
    }

    #[test]
    fn op_features_and_flags_have_librbds_names() {
        assert_eq!((OpFeatures::CLONE_CHILD | OpFeatures::GROUP).to_string(), "clone-child, group");
        assert_eq!(
            Flags::all().difference(Flags::from_bits_retain(!3)).to_string(),
            "object map invalid, fast diff invalid"
        );
    }

    #[test]
    fn a_name_may_come_twice() {
        let features: Features = "layering, layering".parse().unwrap();
        assert_eq!((features, format!("{features:?}")), (Features::LAYERING, "Features(layering)".into()));
    }
}
