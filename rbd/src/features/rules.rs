//! The rules of features as data: whether each can be changed, and what it needs.

use super::Features;
use crate::error::{Error, Result};

/// Whether a feature of an existing image can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Can be enabled and disabled at any time.
    Free,
    /// Can be disabled, but never enabled again.
    DisableOnly,
    /// Fixed when the image is created.
    Immutable,
    /// Set and cleared by librbd.
    Internal,
}

/// The rule of one feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// The feature: a single bit.
    pub feature: Features,
    /// The name in the `rbd` command and in Ceph's configuration.
    pub name: &'static str,
    /// The features that it needs.
    pub requires: Features,
    /// Whether it can be changed on an existing image.
    pub change: Change,
}

const fn rule(feature: Features, name: &'static str, requires: Features, change: Change) -> Rule {
    Rule { feature, name, requires, change }
}

const NONE: Features = Features::empty();

/// The rules in the order of enabling; features are disabled in reverse order.
pub(super) const RULES: [Rule; 12] = [
    rule(Features::LAYERING, "layering", NONE, Change::Immutable),
    rule(Features::STRIPING, "striping", NONE, Change::Immutable),
    rule(Features::EXCLUSIVE_LOCK, "exclusive-lock", NONE, Change::Free),
    // librbd enables and disables object-map and fast-diff together.
    rule(
        Features::OBJECT_MAP,
        "object-map",
        Features::EXCLUSIVE_LOCK.union(Features::FAST_DIFF),
        Change::Free,
    ),
    rule(Features::FAST_DIFF, "fast-diff", Features::OBJECT_MAP, Change::Free),
    rule(Features::DEEP_FLATTEN, "deep-flatten", NONE, Change::DisableOnly),
    rule(Features::JOURNALING, "journaling", Features::EXCLUSIVE_LOCK, Change::Free),
    rule(Features::DATA_POOL, "data-pool", NONE, Change::Immutable),
    rule(Features::OPERATIONS, "operations", NONE, Change::Internal),
    rule(Features::MIGRATING, "migrating", NONE, Change::Internal),
    rule(Features::NON_PRIMARY, "non-primary", NONE, Change::Internal),
    rule(Features::DIRTY_CACHE, "dirty-cache", NONE, Change::Internal),
];

/// An inconsistent set of features, or a change that the rules forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FeatureConflict {
    /// A feature would be enabled without one that it needs.
    #[error("{feature} needs {missing}; name all of them or none")]
    Missing {
        /// The feature that would be enabled.
        feature: Features,
        /// The features that it lacks.
        missing: Features,
    },
    /// A feature would be disabled while others that need it stay enabled.
    #[error("{feature} cannot be disabled alone, because other features need it; disable {dependents} too")]
    StillNeeded {
        /// The feature that would be disabled.
        feature: Features,
        /// The features that need it.
        dependents: Features,
    },
    /// The feature can be disabled, but not enabled on an existing image.
    #[error(
        "{0} can be disabled, but not enabled on an existing image; copy the data into a new image \
         (`copy_to`) created as you need it"
    )]
    DisableOnly(Features),
    /// The feature is fixed when an image is created.
    #[error(
        "{0} is fixed when an image is created and cannot be changed; copy the data into a new image \
         (`copy_to`) created as you need it"
    )]
    Immutable(Features),
    /// librbd manages the feature.
    #[error("{0} is managed by librbd and cannot be changed by a user")]
    Internal(Features),
}

pub(super) fn by_name(name: &str) -> Option<Features> {
    RULES.iter().find(|rule| rule.name == name).map(|rule| rule.feature)
}

impl FeatureConflict {
    pub(super) fn error(&self, operation: &'static str, features: Features) -> Error {
        Error::invalid(operation, features.object(), self.to_string())
    }
}

impl Rule {
    /// Returns the rules of all known features.
    pub fn all() -> &'static [Rule] {
        &RULES
    }

    fn of(features: Features) -> impl Iterator<Item = &'static Rule> {
        RULES.iter().filter(move |rule| features.contains(rule.feature))
    }
}

impl Features {
    /// Checks that a new image can be created with exactly these features.
    ///
    /// Refuses every invalid set. librbd refuses some, and silently drops a feature from others
    /// (fast-diff without object-map).
    pub fn check_create(self) -> Result<()> {
        self.may_create().map_err(|conflict| conflict.error("create an image with", self))
    }

    /// Checks that `change` can be enabled on an image that has these features.
    pub fn check_enable(self, change: Features) -> Result<()> {
        self.may_enable(change).map_err(|conflict| conflict.error("enable", change))
    }

    /// Checks that `change` can be disabled on an image that has these features.
    pub fn check_disable(self, change: Features) -> Result<()> {
        self.may_disable(change).map_err(|conflict| conflict.error("disable", change))
    }

    pub(crate) fn may_create(self) -> Result<(), FeatureConflict> {
        if let Some(rule) = Rule::of(self).find(|rule| rule.change == Change::Internal) {
            return Err(FeatureConflict::Internal(rule.feature));
        }
        self.check_has_all(self)
    }

    pub(crate) fn may_enable(self, change: Features) -> Result<(), FeatureConflict> {
        check_may(change - self, true)?;
        (self | change).check_has_all(change)
    }

    pub(crate) fn may_disable(self, change: Features) -> Result<(), FeatureConflict> {
        check_may(change & self, false)?;
        let rest = self - change;
        for feature in (change & self).each() {
            let dependents = feature.dependents() & rest;
            if !dependents.is_empty() {
                return Err(FeatureConflict::StillNeeded { feature, dependents });
            }
        }
        Ok(())
    }

    /// Returns all features that need one of these, directly or indirectly.
    pub fn dependents(self) -> Features {
        let mut found = Features::empty();
        loop {
            let more = RULES
                .iter()
                .filter(|rule| rule.requires.intersects(self | found))
                .fold(found, |all, rule| all | rule.feature);
            if more == found {
                return found;
            }
            found = more;
        }
    }

    /// Checks that the features needed by `features` are set.
    fn check_has_all(self, features: Features) -> Result<(), FeatureConflict> {
        match Rule::of(features).find(|rule| !self.contains(rule.requires)) {
            Some(rule) => {
                Err(FeatureConflict::Missing { feature: rule.feature, missing: rule.requires - self })
            }
            None => Ok(()),
        }
    }
}

fn check_may(change: Features, enable: bool) -> Result<(), FeatureConflict> {
    let unknown = change.unknown();
    if !unknown.is_empty() {
        return Err(FeatureConflict::Immutable(unknown));
    }
    for rule in Rule::of(change) {
        match (rule.change, enable) {
            (Change::Free, _) | (Change::DisableOnly, false) => {}
            (Change::DisableOnly, true) => return Err(FeatureConflict::DisableOnly(rule.feature)),
            (Change::Immutable, _) => return Err(FeatureConflict::Immutable(rule.feature)),
            (Change::Internal, _) => return Err(FeatureConflict::Internal(rule.feature)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_librbd_silently_drops_are_refused() {
        let error =
            (Features::LAYERING | Features::EXCLUSIVE_LOCK | Features::FAST_DIFF).may_create().unwrap_err();
        assert_eq!(error.to_string(), "fast-diff needs object-map; name all of them or none");
        assert!(Features::DEFAULT.may_create().is_ok());
    }

    #[test]
    fn disabling_a_needed_feature_names_its_dependents() {
        let error = Features::DEFAULT.may_disable(Features::EXCLUSIVE_LOCK).unwrap_err();
        assert_eq!(
            error,
            FeatureConflict::StillNeeded {
                feature: Features::EXCLUSIVE_LOCK,
                dependents: Features::OBJECT_MAP | Features::FAST_DIFF
            }
        );
        let all = Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
        assert!(Features::DEFAULT.may_disable(all).is_ok());
    }

    #[test]
    fn enabling_follows_the_rules() {
        let bare = Features::LAYERING;
        assert!(bare.may_enable(Features::EXCLUSIVE_LOCK).is_ok());
        assert!(matches!(bare.may_enable(Features::JOURNALING), Err(FeatureConflict::Missing { .. })));
        assert!(matches!(bare.may_enable(Features::DEEP_FLATTEN), Err(FeatureConflict::DisableOnly(_))));
        assert!(matches!(bare.may_enable(Features::STRIPING), Err(FeatureConflict::Immutable(_))));
        assert!(matches!(bare.may_enable(Features::MIGRATING), Err(FeatureConflict::Internal(_))));
        assert!(bare.may_enable(Features::LAYERING).is_ok(), "what is on already is no change");
    }

    #[test]
    fn object_map_and_fast_diff_go_together() {
        let lock = Features::LAYERING | Features::EXCLUSIVE_LOCK;
        let error = (lock | Features::OBJECT_MAP).may_create().unwrap_err();
        assert_eq!(error.to_string(), "object-map needs fast-diff; name all of them or none");
        assert!(matches!(lock.may_enable(Features::OBJECT_MAP), Err(FeatureConflict::Missing { .. })));
        let error = Features::DEFAULT.may_disable(Features::FAST_DIFF).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fast-diff cannot be disabled alone, because other features need it; disable object-map too"
        );
    }

    #[test]
    fn dependents_reach_through() {
        assert_eq!(
            Features::EXCLUSIVE_LOCK.dependents(),
            Features::OBJECT_MAP | Features::FAST_DIFF | Features::JOURNALING
        );
    }

    #[test]
    fn all_features_have_a_rule() {
        let all = Rule::all().iter().fold(Features::empty(), |all, rule| all | rule.feature);
        assert_eq!((all.bits(), Rule::all().len()), (0xfff, 12));
    }

    #[test]
    fn what_is_on_counts_when_more_is_enabled() {
        let more = Features::EXCLUSIVE_LOCK | Features::OBJECT_MAP | Features::FAST_DIFF;
        assert!(Features::LAYERING.check_enable(more).is_ok());
        assert!(Features::DEFAULT.check_enable(more).is_ok(), "what is on stays on");
        assert!(Features::LAYERING.check_enable(Features::OBJECT_MAP).is_err());
        assert!(Features::LAYERING.check_enable(Features::DATA_POOL).is_err());
        assert!(Features::DEFAULT.check_disable(Features::EXCLUSIVE_LOCK).is_err());
    }
}
