//! Reasons of failures, for programs, and what to tell people about them.

use std::borrow::Cow;

use super::ObjectKind;
use crate::errno::Errno;
use crate::features::{ImmutableFeatures, Plan};
use crate::holder::Holder;

/// What went wrong, for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something is not there: `what` says which kind of thing, so that a missing snapshot is not
    /// taken for a missing image.
    NotFound {
        /// The kind of the missing thing.
        what: ObjectKind,
    },
    /// It exists already.
    Exists,
    /// It is in use. `holders` are those that could be found out; empty where none could.
    Busy {
        /// Who keeps it busy.
        holders: Vec<Holder>,
    },
    /// The image has snapshots, which must be removed first.
    HasSnapshots,
    /// The image or snapshot has clones, which must be removed or flattened first.
    HasClones,
    /// The image was opened read-only, at a snapshot, or is not the primary of a mirrored pair.
    ReadOnly,
    /// The cluster refused this user: wrong key, or capabilities that do not suffice.
    PermissionDenied,
    /// This client was fenced off by the cluster. Nothing on this connection will work again:
    /// connect anew.
    Blocklisted,
    /// No answer came within the time set for it.
    TimedOut,
    /// A quota or a limit is reached, or the cluster is full.
    QuotaExceeded,
    /// The range does not lie within the image.
    OutOfRange {
        /// Start of the range in bytes.
        offset: u64,
        /// Length of the range in bytes.
        len: u64,
        /// Size of the image in bytes.
        size: u64,
    },
    /// The loaded library is too old for this: it lacks the symbol.
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
        /// What to disable, in which order, so that it can; or which features stand in the way and
        /// cannot be disabled.
        plan: Result<Plan, ImmutableFeatures>,
    },
    /// The request is not valid; it was refused before anything was touched.
    InvalidInput,
    /// All operations of a queue are in flight.
    QueueFull,
    /// A progress or iteration callback asked to stop.
    Stopped,
    /// The other side is there but does not do this (a feature that is off, a kernel without the
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
            Errno::EEXIST => ErrorKind::Exists,
            Errno::EBUSY => ErrorKind::Busy { holders: Vec::new() },
            Errno::ENOTEMPTY => ErrorKind::HasSnapshots,
            Errno::EROFS => ErrorKind::ReadOnly,
            Errno::EPERM | Errno::EACCES => ErrorKind::PermissionDenied,
            Errno::ESHUTDOWN => ErrorKind::Blocklisted,
            Errno::ETIMEDOUT => ErrorKind::TimedOut,
            Errno::EDQUOT | Errno::ENOSPC => ErrorKind::QuotaExceeded,
            Errno::ECANCELED => ErrorKind::Stopped,
            Errno::EOPNOTSUPP | Errno::ENOSYS => ErrorKind::NotSupported,
            _ => ErrorKind::Other,
        }
    }

    /// The reason in words, and what to do next.
    pub(super) fn explain(
        &self,
        errno: Option<Errno>,
        object: ObjectKind,
    ) -> (Cow<'static, str>, &'static str) {
        let here = matches!(object, ObjectKind::File | ObjectKind::Device);
        match (self, errno) {
            // No cluster has a part in these.
            (ErrorKind::PermissionDenied, Some(errno)) if here => {
                return (
                    errno.sentence().into(),
                    "this process lacks the right to it; devices and mounts take root",
                );
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
                    | ObjectKind::TrashedImage => {
                        "check the name, and the pool and namespace it was looked for in"
                    }
                    _ => "check the name",
                },
            ),
            ErrorKind::Exists => {
                ("it exists already".into(), "choose another name, or use the one that is there")
            }
            ErrorKind::Busy { holders } if holders.is_empty() => (
                "it is in use".into(),
                "close, unmap or unlock it where it is in use; a crashed client is let go after 30 s",
            ),
            ErrorKind::Busy { holders } => {
                let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
                (
                    format!("it is in use: {}", names.join("; ")).into(),
                    "end that use; a crashed client is let go after 30 s",
                )
            }
            ErrorKind::HasSnapshots => ("it has snapshots".into(), "remove its snapshots first"),
            ErrorKind::HasClones => ("it has clones".into(), "flatten or remove its clones first"),
            ErrorKind::ReadOnly => (
                "it is read-only".into(),
                "open it for writing, at no snapshot; a mirrored image must be primary",
            ),
            ErrorKind::PermissionDenied => (
                "the cluster refused this user".into(),
                "check the user's key and its capabilities (mon 'profile rbd', osd 'profile rbd pool=…')",
            ),
            ErrorKind::Blocklisted => (
                "this client has been fenced off (blocklisted)".into(),
                "drop this Cluster with everything opened from it and connect anew",
            ),
            ErrorKind::TimedOut => (
                "no answer came in time".into(),
                "check that monitors and OSDs are up and reachable; the timeouts are set when connecting",
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
            ErrorKind::FeaturesUnsupportedByKernel { plan: Ok(plan) } => (
                format!("this kernel does not support all of its features; {plan}, in this order").into(),
                "",
            ),
            ErrorKind::FeaturesUnsupportedByKernel { plan: Err(immutable) } => {
                (format!("this kernel does not support all of its features: {immutable}").into(), "")
            }
            ErrorKind::InvalidInput => ("the request is not valid".into(), ""),
            ErrorKind::QueueFull => ("all operations of the queue are in flight".into(), "reap first"),
            ErrorKind::Stopped => ("the callback asked to stop".into(), ""),
            ErrorKind::NotSupported => ("that is not supported here".into(), ""),
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
            (&[Errno::EEXIST], ErrorKind::Exists),
            (&[Errno::EBUSY], ErrorKind::Busy { holders: Vec::new() }),
            (&[Errno::ENOTEMPTY], ErrorKind::HasSnapshots),
            (&[Errno::EROFS], ErrorKind::ReadOnly),
            (&[Errno::EPERM, Errno::EACCES], ErrorKind::PermissionDenied),
            (&[Errno::ESHUTDOWN], ErrorKind::Blocklisted),
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
        assert!(missing(ObjectKind::Image).ends_with("namespace it was looked for in"));
        assert!(missing(ObjectKind::Pool).ends_with("; check the name"));
        assert_eq!(said(ErrorKind::ReadOnly, ObjectKind::Device), "Read-only file system; ");
        assert!(said(ErrorKind::ReadOnly, ObjectKind::Image).starts_with("it is read-only; open it"));
        let holder =
            Holder::LockOwner { client: "client.1".into(), address: ClientAddress::from_ceph(String::new()) };
        assert!(
            said(ErrorKind::Busy { holders: vec![holder] }, ObjectKind::Image).starts_with("it is in use: ")
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
