//! Changes of an image's features.

use super::Image;
use crate::error::{Error, Result};
use crate::features::{FeatureConflict, Features, Plan};

impl Image {
    /// Enables features. Ignores features that are already enabled. Refuses changes that the rules
    /// forbid, before anything is touched.
    ///
    /// object-map and fast-diff can only be enabled together. librbd does not build their data:
    /// [`flags`](Self::flags) shows whether it must be [rebuilt](crate::image::ObjectMap::rebuild).
    ///
    /// Blocks. If another client keeps the exclusive lock, that client carries the change out. It
    /// cannot enable journaling for others: this fails with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy), and nothing is changed. If that client does not
    /// answer, the call waits until Ceph takes the client for dead (30 s), fences it, and makes the
    /// change. If the call timeout is shorter, the call fails with
    /// [`ErrorKind::TimedOut`](crate::ErrorKind::TimedOut), which names that client, and the change
    /// happens later.
    ///
    /// Implements: `rbd_update_features`.
    #[doc(alias = "rbd_update_features")]
    pub fn enable_features(&self, features: Features) -> Result<()> {
        if features.contains(Features::JOURNALING) {
            // Its journal would contain unencrypted data.
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

    /// Disables features. Ignores features that are already disabled. Refuses changes that the
    /// rules forbid, before anything is touched: for example, disabling exclusive-lock while
    /// object-map is enabled.
    ///
    /// Blocks. If another client keeps the exclusive lock, that client carries the change out. If
    /// it does not answer, see [`enable_features`](Self::enable_features). A kernel that has the
    /// image mapped with the option `exclusive` refuses instead: this fails with
    /// [`ErrorKind::Busy`](crate::ErrorKind::Busy).
    ///
    /// Disabling exclusive-lock takes the lock from its owner: from then on several clients can
    /// write at the same time. Check [`other_watchers`](Self::other_watchers) first. A handle that
    /// has acquired the lock then fails with [`LockLost`](crate::ErrorKind::LockLost), unless it is
    /// this one.
    ///
    /// Implements: `rbd_update_features`.
    pub fn disable_features(&self, features: Features) -> Result<()> {
        let plan = Plan::disabling(self.features()?, features)
            .map_err(|conflict| self.conflict("disable features of", &conflict))?;
        self.apply(&plan)
    }

    /// Applies a plan: disables all of its features with one call.
    ///
    /// Refused if the image's features are not those that the plan was made for. Blocks. If the
    /// image is in use, see [`disable_features`](Self::disable_features).
    ///
    /// Implements: `rbd_update_features`.
    pub fn apply(&self, plan: &Plan) -> Result<()> {
        if plan.is_empty() {
            return Ok(());
        }
        let now = self.features()?;
        if now != plan.before() {
            let why =
                format!("the plan was made for {}, but the image has {now}; make a new plan", plan.before());
            return Err(self.refuse("change the features of", why));
        }
        let change = plan.disabled();
        self.bounded(format!("disable {change} of"), move |raw| raw.update_features(change.bits(), false))
    }

    fn conflict(&self, operation: &'static str, conflict: &FeatureConflict) -> Error {
        self.refuse(operation, conflict.to_string())
    }
}
