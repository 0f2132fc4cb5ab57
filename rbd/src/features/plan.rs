//! Plans of features to disable, so that a client with fewer features can use an image.

use std::fmt;

use super::rules::{Change, RULES, Rule};
use super::{FeatureConflict, Features};
use crate::error::{Error, ErrorKind, Result};

/// The features to disable on an image, in order, until only supported features are left.
///
/// ```
/// use rbd::{Features, features::Plan};
/// let old_kernel = Features::LAYERING;
/// let plan = Plan::to_support(Features::DEFAULT, old_kernel)?;
/// assert_eq!(plan.to_string(), "disable deep-flatten, object-map, fast-diff, exclusive-lock");
/// assert_eq!(plan.after(), Features::LAYERING);
/// # Ok::<(), rbd::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    before: Features,
    steps: Vec<Features>,
}

/// The unsupported features that cannot be disabled, so that no plan exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "these features are not supported and cannot be disabled: {immutable}; copy the data into an \
         image created without them"
)]
#[non_exhaustive]
pub struct ImmutableFeatures {
    /// The features that cannot be disabled.
    pub immutable: Features,
    /// The unsupported features that could be disabled.
    pub disable: Features,
}

impl Plan {
    /// Plans what to disable on an image with the features `image`, so that the remaining features
    /// are in `supported`.
    ///
    /// Includes supported features that depend on an unsupported one. Fails with
    /// [`ErrorKind::FeaturesImmutable`] if a feature of the plan cannot be disabled.
    ///
    /// The features do not tell everything. With `striping`, check the layout too: kernels before
    /// 4.17 map such an image only if [`stripe_count`](crate::Image::stripe_count) is 1 and
    /// [`stripe_unit`](crate::Image::stripe_unit) is the size of an object.
    pub fn to_support(image: Features, supported: Features) -> Result<Plan> {
        Plan::supporting(image, supported).map_err(|immutable| {
            let why = immutable.to_string();
            let kind = ErrorKind::FeaturesImmutable { features: immutable };
            Error::invalid("reduce", image.object(), why).with_kind(kind)
        })
    }

    pub(crate) fn supporting(image: Features, supported: Features) -> Result<Plan, ImmutableFeatures> {
        let unsupported = image - supported;
        let must_go = unsupported | (unsupported.dependents() & image);
        let mut steps = Vec::new();
        let mut immutable = must_go.unknown();
        for rule in RULES.iter().rev().filter(|rule| must_go.contains(rule.feature)) {
            match rule.change {
                Change::Free | Change::DisableOnly => push(&mut steps, rule),
                Change::Immutable | Change::Internal => immutable |= rule.feature,
            }
        }
        if immutable.is_empty() {
            Ok(Plan { before: image, steps })
        } else {
            Err(ImmutableFeatures { immutable, disable: steps.into_iter().collect() })
        }
    }

    /// Plans how to disable `change` on an image with the features `image`. Skips features that are
    /// not enabled. Fails if the rules forbid the change.
    pub fn to_disable(image: Features, change: Features) -> Result<Plan> {
        Plan::disabling(image, change).map_err(|conflict| conflict.error("disable", change))
    }

    pub(crate) fn disabling(image: Features, change: Features) -> Result<Plan, FeatureConflict> {
        image.may_disable(change)?;
        let mut steps = Vec::new();
        for rule in RULES.iter().rev().filter(|rule| (image & change).contains(rule.feature)) {
            push(&mut steps, rule);
        }
        Ok(Plan { before: image, steps })
    }

    /// Returns whether nothing needs to be disabled.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the features to disable, in the order that the rules demand. Features that can only
    /// be disabled together are one step.
    pub fn steps(&self) -> &[Features] {
        &self.steps
    }

    /// Returns the features to disable, as one set.
    pub fn disabled(&self) -> Features {
        self.steps.iter().copied().collect()
    }

    /// Returns the plan as advice: the order matters only if there are several steps.
    pub(crate) fn in_order(&self) -> String {
        if self.steps.len() > 1 { format!("{self}, in this order") } else { self.to_string() }
    }

    /// Returns the features that the plan was made for.
    pub fn before(&self) -> Features {
        self.before
    }

    /// Returns the features that are left after the plan is applied.
    pub fn after(&self) -> Features {
        self.before - self.disabled()
    }
}

/// Adds a feature in the order of disabling, to the last step if the two need each other.
fn push(steps: &mut Vec<Features>, rule: &Rule) {
    match steps.last_mut() {
        Some(last) if rule.requires.intersects(*last) => *last |= rule.feature,
        _ => steps.push(rule.feature),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to disable");
        }
        let names: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        write!(f, "disable {}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Features = Features::from_bits_retain(0x1bf);

    #[test]
    fn a_modern_kernel_needs_only_journaling_gone() {
        let plan = Plan::supporting(Features::DEFAULT | Features::JOURNALING, KERNEL).unwrap();
        assert_eq!(plan.steps(), [Features::JOURNALING]);
        assert_eq!(plan.after(), Features::DEFAULT);
        assert_eq!(plan.in_order(), "disable journaling");
    }

    #[test]
    fn dependents_are_disabled_too() {
        let plan = Plan::supporting(Features::DEFAULT, Features::DEFAULT - Features::EXCLUSIVE_LOCK).unwrap();
        assert_eq!(plan.steps(), [Features::OBJECT_MAP | Features::FAST_DIFF, Features::EXCLUSIVE_LOCK]);
        assert_eq!(plan.in_order(), "disable object-map, fast-diff, exclusive-lock, in this order");
    }

    #[test]
    fn immutable_and_unknown_bits_forbid_a_plan() {
        let unknown = Features::from_bits_retain(1 << 33);
        let image = Features::DEFAULT | Features::JOURNALING | Features::DATA_POOL | unknown;
        let error = Plan::supporting(image, Features::LAYERING).unwrap_err();
        assert_eq!(error.immutable, Features::DATA_POOL | unknown);
        assert!(error.disable.contains(Features::JOURNALING));
        let told = Plan::to_support(image, Features::LAYERING).unwrap_err();
        assert_eq!(*told.kind(), ErrorKind::FeaturesImmutable { features: error });
        assert!(told.to_string().contains("copy the data into an image"), "{told}");
    }

    #[test]
    fn every_plan_is_one_that_the_rules_allow() {
        for image in (0..0xfff).map(Features::from_bits_retain).filter(|image| image.check_create().is_ok()) {
            for supported in (0..0x80).map(Features::from_bits_retain) {
                let Ok(plan) = Plan::supporting(image, supported) else { continue };
                let mut now = image;
                for step in plan.steps() {
                    now.check_disable(*step).unwrap();
                    now -= *step;
                }
                assert_eq!(now, plan.after());
                assert!((now - supported).is_empty());
            }
        }
    }

    #[test]
    fn disabled_features_are_no_step() {
        let image = Features::LAYERING | Features::EXCLUSIVE_LOCK;
        let nothing = Plan::to_disable(image, Features::JOURNALING).unwrap();
        assert!(nothing.is_empty() && nothing.steps().is_empty());
        assert_eq!(nothing.to_string(), "nothing to disable");
        let plan = Plan::to_disable(image, Features::EXCLUSIVE_LOCK | Features::JOURNALING).unwrap();
        assert!(!plan.is_empty());
        assert_eq!(plan.to_string(), "disable exclusive-lock");
        assert_eq!((plan.steps(), plan.before()), (&[Features::EXCLUSIVE_LOCK][..], image));
        assert!(Plan::to_disable(Features::DEFAULT, Features::EXCLUSIVE_LOCK).is_err());
    }
}
