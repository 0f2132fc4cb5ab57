//! Errors of operations that were given up after a timeout: librbd cannot cancel.

use std::time::Duration;

use super::{Error, ErrorKind};
use crate::holder::Holder;

/// What to check if nothing better is known.
pub(crate) const ADVICE: &str = "check that monitors and OSDs are up and reachable, and that no pool is full";

impl Error {
    /// Makes a timeout error. Its text depends on whether the operation changes data.
    pub(crate) fn timed_out(self, after: Duration, changes: bool) -> Error {
        let goes_on = goes_on(changes);
        self.with_kind(ErrorKind::TimedOut)
            .with_detail(format!("it did not complete within {after:?}; {goes_on}; {ADVICE}"))
    }

    /// Returns whether the operation was given up, and no cause was found yet.
    pub(crate) fn was_given_up(&self) -> bool {
        self.0.detail.as_deref().is_some_and(|detail| detail.ends_with(ADVICE))
    }

    /// Names the owner of the image's exclusive lock, for which the given-up operation may wait.
    pub(crate) fn waits_for(self, owner: &Holder) -> Error {
        let detail = self.0.detail.as_deref().and_then(|detail| detail.strip_suffix(ADVICE));
        let Some(said) = detail else { return self };
        let detail = match owner {
            Holder::AdvisoryLock { .. } => format!(
                "{said}the {owner} keeps librbd from acquiring the exclusive lock; release or break it \
                 (`advisory_locks`)"
            ),
            _ => format!(
                "{said}{owner} must carry it out or release the lock, and may be stopped or unreachable; \
                 check that client first"
            ),
        };
        self.with_detail(detail)
    }
}

/// Describes what a timed-out operation can still do.
pub(crate) fn goes_on(changes: bool) -> &'static str {
    if changes {
        "it continues in the background and may still take effect"
    } else {
        "it continues in the background"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ClientAddress;
    use crate::errno::Errno;
    use crate::error::{Object, ObjectKind};

    #[test]
    fn an_owner_of_the_lock_replaces_the_advice() {
        let object = Object::new(ObjectKind::Image, "a");
        let error = Error::new("resize", object, Errno::ETIMEDOUT);
        assert!(!error.was_given_up());
        let error = error.timed_out(Duration::from_secs(5), true);
        assert!(error.was_given_up(), "{error}");
        let owner =
            Holder::LockOwner { client: "client.7".into(), address: ClientAddress::from_ceph("b".into()) };
        let error = error.waits_for(&owner);
        assert_eq!(*error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            error.to_string(),
            "cannot resize image 'a': it did not complete within 5s; it continues in the background \
             and may still take effect; lock owner client.7 at b must carry it out or release the \
             lock, and may be stopped or unreachable; check that client first (ETIMEDOUT 110)"
        );
    }

    #[test]
    fn only_a_change_may_still_take_effect() {
        assert_eq!(goes_on(false), "it continues in the background");
        assert_eq!(goes_on(true), "it continues in the background and may still take effect");
    }
}
