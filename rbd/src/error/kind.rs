//! The kinds of errors, with their texts and advice.

use std::borrow::Cow;

use super::ObjectKind;
use crate::errno::Errno;
use crate::features::{ImmutableFeatures, Plan};
use crate::holder::Holder;

/// The reason of a failure, for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An object does not exist. `what` is its kind, which distinguishes a missing snapshot from a
    /// missing image.
    NotFound {
        /// The kind of the missing object.
        what: ObjectKind,
    },
    /// The object already exists.
    AlreadyExists,
    /// The object is in use. `holders` lists the known users; it is empty if they cannot be
    /// determined.
    Busy {
        /// The known users of the object.
        holders: Vec<Holder>,
    },
    /// The image has snapshots, which must be removed first.
    HasSnapshots,
    /// The image or snapshot has clones, which must be removed or flattened first.
    HasClones,
    /// The image was opened read-only or at a snapshot, or it is a mirrored copy that is not
    /// primary.
    ReadOnly,
    /// Permission denied: the user's key is wrong or its capabilities do not suffice, or this
    /// process lacks a privilege.
    PermissionDenied,
    /// The cluster fenced this client: it is on the blocklist. Connect again. Even after this
    /// client was removed from the blocklist, images that were open are not reliable.
    Blocklisted,
    /// The handle had acquired the exclusive lock and has lost it. Another client may have written
    /// to the image: see [`ExclusiveLock::acquire`](crate::lock::ExclusiveLock::acquire).
    LockLost,
    /// No answer came within the timeout.
    TimedOut,
    /// A quota or limit is reached, or the cluster is full.
    QuotaExceeded,
    /// The range is not within the image.
    OutOfRange {
        /// Start of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// Size of the image in bytes.
        size: u64,
    },
    /// The loaded library is too old: it lacks a function.
    LibraryTooOld {
        /// The missing C function.
        symbol: &'static str,
        /// The first Ceph release that has it.
        needs: &'static str,
        /// The version of the library that is loaded.
        found: String,
    },
    /// This kernel cannot map an image with these features.
    FeaturesUnsupportedByKernel {
        /// The plan of features to disable, or the unsupported features that cannot be disabled.
        plan: Result<Plan, ImmutableFeatures>,
    },
    /// Some of the features cannot be disabled, so that there is no plan.
    FeaturesImmutable {
        /// The features that cannot be disabled, and those that could.
        features: ImmutableFeatures,
    },
    /// The request is invalid. It was refused before anything was touched.
    InvalidInput,
    /// All operations of a queue are in flight.
    QueueFull,
    /// A progress or iteration callback asked to stop, or a [quiesce
    /// watch](crate::Image::watch_quiesce) was dropped before it had answered a snapshot.
    Stopped,
    /// The cluster, image or kernel does not support the call (a disabled feature, a missing kernel
    /// module …).
    NotSupported,
    /// The image, or its pool or namespace, is not mirrored.
    MirroringDisabled,
    /// Any other reason: see [`Error::errno`](super::Error::errno).
    Other,
}

impl ErrorKind {
    pub(super) fn from_errno(errno: Errno, object: ObjectKind) -> ErrorKind {
        match errno {
            Errno::ENOENT => ErrorKind::NotFound { what: object },
            Errno::EEXIST => ErrorKind::AlreadyExists,
            Errno::EBUSY => ErrorKind::Busy { holders: Vec::new() },
            Errno::ENOTEMPTY => ErrorKind::HasSnapshots,
            Errno::EROFS => ErrorKind::ReadOnly,
            Errno::EPERM | Errno::EACCES => ErrorKind::PermissionDenied,
            Errno::ESHUTDOWN => ErrorKind::Blocklisted,
            Errno::ENOLCK => ErrorKind::LockLost,
            Errno::ETIMEDOUT => ErrorKind::TimedOut,
            Errno::EDQUOT | Errno::ENOSPC => ErrorKind::QuotaExceeded,
            Errno::ECANCELED => ErrorKind::Stopped,
            Errno::EOPNOTSUPP | Errno::ENOSYS => ErrorKind::NotSupported,
            _ => ErrorKind::Other,
        }
    }

    /// Returns whether this crate has refused the request, so that there is no errno of Ceph.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, ErrorKind::InvalidInput | ErrorKind::FeaturesImmutable { .. })
    }

    /// Returns the reason in words, and what to do next.
    pub(super) fn explain(
        &self,
        errno: Option<Errno>,
        object: ObjectKind,
    ) -> (Cow<'static, str>, &'static str) {
        let here = matches!(object, ObjectKind::File | ObjectKind::Device);
        match (self, errno) {
            // These failures do not come from a cluster.
            (ErrorKind::PermissionDenied, Some(errno)) if here => {
                let advice = match object {
                    ObjectKind::File => "check who may use this file; mapping images requires root",
                    _ => "devices require root",
                };
                return (errno.sentence().into(), advice);
            }
            (ErrorKind::ReadOnly | ErrorKind::QuotaExceeded, Some(errno)) if here => {
                return (errno.sentence().into(), "");
            }
            _ => {}
        }
        match self {
            ErrorKind::NotFound { what } => (
                format!("the {what} does not exist").into(),
                match what {
                    ObjectKind::Image
                    | ObjectKind::Snapshot
                    | ObjectKind::Group
                    | ObjectKind::TrashedImage => "check its name, pool and namespace",
                    _ => "check the name",
                },
            ),
            ErrorKind::AlreadyExists => {
                ("it already exists".into(), "choose another name, or use the existing one")
            }
            ErrorKind::Busy { holders } if holders.is_empty() => (
                "it is in use".into(),
                "close, unmap or unlock it in the client that uses it; a crashed client counts as \
                 a user for 30 s",
            ),
            ErrorKind::Busy { holders } => {
                let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
                let advice = if holders.iter().any(|holder| matches!(holder, Holder::LockOwner { .. })) {
                    "release the lock there; if that client hangs, fence it (guide::locks)"
                } else if holders.iter().any(|holder| matches!(holder, Holder::AdvisoryLock { .. })) {
                    "release or break it (`advisory_locks`); while it is held, no client can write an image \
                     with the feature exclusive-lock"
                } else {
                    "end that use; a crashed client counts as a user for 30 s"
                };
                (format!("it is in use: {}", names.join("; ")).into(), advice)
            }
            ErrorKind::HasSnapshots => ("it has snapshots".into(), "remove its snapshots first"),
            ErrorKind::HasClones => ("it has clones".into(), "flatten or remove its clones first"),
            ErrorKind::ReadOnly => (
                "it is read-only".into(),
                "open it for writing and without a snapshot; a mirrored image must be primary",
            ),
            ErrorKind::PermissionDenied => (
                "the cluster refused this user".into(),
                "check the user's key and its capabilities (mon 'profile rbd', osd 'profile rbd pool=…')",
            ),
            ErrorKind::Blocklisted => (
                "this client is fenced (blocklisted)".into(),
                "drop this Cluster and everything opened from it, and connect again",
            ),
            ErrorKind::LockLost => (
                "this handle has lost the exclusive lock, and another client may have written".into(),
                "close the image, or acquire the lock again and read again what you have read",
            ),
            ErrorKind::TimedOut => (
                "no answer came in time".into(),
                "check that monitors and OSDs are up and reachable, and that no pool is full; to \
                 wait longer, set the timeouts of `ClusterBuilder`",
            ),
            ErrorKind::QuotaExceeded => (
                "a quota or limit is reached, or the cluster is full".into(),
                "free space or raise the limit",
            ),
            ErrorKind::OutOfRange { offset, size, .. } => (
                format!("the image has {size} bytes").into(),
                if offset < size {
                    "resize the image or shorten the range"
                } else {
                    "resize the image or choose an offset within it"
                },
            ),
            ErrorKind::LibraryTooOld { symbol, needs, found } => (
                format!("the loaded Ceph library {found} has no {symbol}, which came with {needs}").into(),
                "upgrade the Ceph client packages of this machine",
            ),
            ErrorKind::FeaturesUnsupportedByKernel { plan: Ok(plan) } => {
                (format!("this kernel does not support all of its features; {}", plan.in_order()).into(), "")
            }
            ErrorKind::FeaturesUnsupportedByKernel { plan: Err(immutable) } => {
                (format!("this kernel does not support all of its features: {immutable}").into(), "")
            }
            ErrorKind::FeaturesImmutable { features } => (features.to_string().into(), ""),
            ErrorKind::InvalidInput => ("the request is not valid".into(), ""),
            ErrorKind::QueueFull => ("all operations of the queue are in flight".into(), "reap first"),
            ErrorKind::Stopped => {
                ("a callback stopped it, or a quiesce watch was dropped before its answer".into(), "")
            }
            ErrorKind::NotSupported => (
                "the cluster, the image or this kernel does not support it".into(),
                "check the features of the image, and the releases of Ceph and the kernel",
            ),
            ErrorKind::MirroringDisabled => (
                "it is not mirrored".into(),
                "set the mirroring mode of its pool or namespace, and enable mirroring of the image",
            ),
            ErrorKind::Other => {
                (errno.map_or_else(|| "unknown reason".to_owned(), Errno::sentence).into(), "")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::ClientAddress;

    #[test]
    fn numbers_have_kinds() {
        let kind = |errno| ErrorKind::from_errno(errno, ObjectKind::Image);
        for (errnos, expected) in [
            (&[Errno::ENOENT][..], ErrorKind::NotFound { what: ObjectKind::Image }),
            (&[Errno::EEXIST], ErrorKind::AlreadyExists),
            (&[Errno::EBUSY], ErrorKind::Busy { holders: Vec::new() }),
            (&[Errno::ENOTEMPTY], ErrorKind::HasSnapshots),
            (&[Errno::EROFS], ErrorKind::ReadOnly),
            (&[Errno::EPERM, Errno::EACCES], ErrorKind::PermissionDenied),
            (&[Errno::ESHUTDOWN], ErrorKind::Blocklisted),
            (&[Errno::ENOLCK], ErrorKind::LockLost),
            (&[Errno::ETIMEDOUT], ErrorKind::TimedOut),
            (&[Errno::EDQUOT, Errno::ENOSPC], ErrorKind::QuotaExceeded),
            (&[Errno::ECANCELED], ErrorKind::Stopped),
            (&[Errno::EOPNOTSUPP, Errno::ENOSYS], ErrorKind::NotSupported),
            (&[Errno::EIO], ErrorKind::Other),
        ] {
            for errno in errnos {
                assert_eq!(kind(*errno), expected, "{errno}");
            }
        }
    }

    #[test]
    fn reasons_fit_the_object() {
        let said = |kind: ErrorKind, object| {
            let (reason, advice) = kind.explain(Some(Errno::EROFS), object);
            format!("{reason}; {advice}")
        };
        let missing = |what| said(ErrorKind::NotFound { what }, what);
        assert!(missing(ObjectKind::Image).ends_with("check its name, pool and namespace"));
        assert!(missing(ObjectKind::Pool).ends_with("; check the name"));
        assert_eq!(said(ErrorKind::ReadOnly, ObjectKind::Device), "Read-only file system; ");
        assert!(said(ErrorKind::ReadOnly, ObjectKind::Image).starts_with("it is read-only; open it"));
        let holder =
            Holder::LockOwner { client: "client.1".into(), address: ClientAddress::from_ceph(String::new()) };
        assert!(
            said(ErrorKind::Busy { holders: vec![holder] }, ObjectKind::Image)
                .starts_with("it is in use: lock owner client.1; release the lock")
        );
        assert!(
            said(ErrorKind::Busy { holders: Vec::new() }, ObjectKind::Image).starts_with("it is in use; ")
        );
        let range = |offset| said(ErrorKind::OutOfRange { offset, len: 1, size: 5 }, ObjectKind::Image);
        assert!(range(4).ends_with("shorten the range"));
        assert!(range(5).ends_with("choose an offset within it"));
        assert!(range(6).ends_with("choose an offset within it"));
    }
}
