//! Changing the features of an image.

use super::Image;
use crate::error::{Error, Result};
use crate::features::{FeatureConflict, Features, Plan};

impl Image {
    /// Enables features. Those that are on already are left alone; what the rules forbid is refused
    /// before anything is touched.
    ///
    /// object-map and fast-diff can only be enabled together. librbd builds neither map: see the
    /// image's flags.
    ///
    /// Implements: `rbd_update_features`.
    #[doc(alias = "rbd_update_features")]
    pub fn enable_features(&self, features: Features) -> Result<()> {
        if features.contains(Features::JOURNALING) {
            // Its journal would hold what is written in clear.
            let instead = "journaling and encryption exclude each other; leave the feature off";
            self.refuse_encrypted("enable features of", instead)?;
        }
        let now = self.features()?;
        now.may_enable(features).map_err(|conflict| self.conflict("enable features of", &conflict))?;
        let change = features - now;
        if change.is_empty() {
            return Ok(());
        }
        self.bounded(format!("enable {change} of"), move |raw| raw.update_features(change.bits(), true))
    }

    /// Disables features. Those that are off already are left alone; what the rules forbid is
    /// refused before anything is touched: disabling exclusive-lock while object-map stays on, for
    /// one.
    ///
    /// Implements: `rbd_update_features`.
    pub fn disable_features(&self, features: Features) -> Result<()> {
        let plan = Plan::disabling(self.features()?, features)
            .map_err(|conflict| self.conflict("disable features of", &conflict))?;
        self.apply(&plan)
    }

    /// Carries out a plan, in one step that the cluster does whole or not at all.
    ///
    /// Refused when the features are not the ones that the plan was made for.
    pub fn apply(&self, plan: &Plan) -> Result<()> {
        if plan.is_empty() {
            return Ok(());
        }
        let now = self.features()?;
        if now != plan.before() {
            let why =
                format!("the plan was made for {}, but the image has {now}: make a new plan", plan.before());
            return Err(self.refuse("change the features of", why));
        }
        let change = plan.disables();
        self.bounded(format!("disable {change} of"), move |raw| raw.update_features(change.bits(), false))
    }

    fn conflict(&self, operation: &'static str, conflict: &FeatureConflict) -> Error {
        self.refuse(operation, conflict.to_string())
    }
}
