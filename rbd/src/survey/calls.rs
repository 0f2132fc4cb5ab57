//! The calls that query an image, and their answers.

use std::ffi::CStr;
use std::vec;

use super::Plan;
use super::decode::{LockInfo, Malformed};
use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::image::advisory::{Locker, Lockers};
use crate::raw::RawResult;
use crate::raw::rados::class_calls::{Answers, ClassCall};

/// The id of the current version of the image.
pub(super) const HEAD: u64 = u64::MAX - 1;

/// How many pairs of metadata one answer contains, as in librbd.
pub(super) const PAIRS: u64 = 64;

/// Why the answers of the OSDs are incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Errno(Errno),
    /// Only librbd can answer.
    AskLibrbd,
    /// A snapshot was removed during the query.
    Changed,
}

impl Trouble {
    /// Other values that need no librbd.
    pub(super) fn errno(self) -> Errno {
        match self {
            Trouble::Errno(errno) => errno,
            Trouble::AskLibrbd | Trouble::Changed => Errno::EBADMSG,
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Trouble {
        match errno {
            // The OSD lacks a call, or its class answers in another form.
            Errno::EOPNOTSUPP | Errno::EBADMSG => Trouble::AskLibrbd,
            errno => Trouble::Errno(errno),
        }
    }
}

impl From<Malformed> for Trouble {
    fn from(_: Malformed) -> Trouble {
        Trouble::AskLibrbd
    }
}

/// Makes a call of the object class `rbd`.
pub(super) fn call(method: &'static CStr, input: Vec<u8>) -> ClassCall {
    ClassCall { class: c"rbd", method, input }
}

/// Encodes a text for a call.
pub(super) fn text(text: impl AsRef<[u8]>) -> Result<Vec<u8>, Trouble> {
    let text = text.as_ref();
    let len = u32::try_from(text.len()).map_err(|_| Trouble::AskLibrbd)?;
    Ok([&len.to_le_bytes()[..], text].concat())
}

/// Makes a call about a snapshot or the current version.
pub(super) fn at(method: &'static CStr, snapshot: u64) -> ClassCall {
    call(method, snapshot.to_le_bytes().to_vec())
}

/// Makes a call that lists the entries after a key, a limited number at a time.
pub(super) fn list_behind(method: &'static CStr, key: &[u8], most: u64) -> Result<ClassCall, Trouble> {
    let mut input = text(key)?;
    input.extend(most.to_le_bytes());
    Ok(call(method, input))
}

/// Makes a call that asks for the metadata after a key.
pub(super) fn metadata_behind(key: &[u8]) -> Result<ClassCall, Trouble> {
    list_behind(c"metadata_list", key, PAIRS)
}

/// Makes a call that asks for the features.
pub(super) fn features() -> ClassCall {
    let mut input = HEAD.to_le_bytes().to_vec();
    // The query is for reading only, so locks of other clients do not matter.
    input.push(1);
    call(c"get_features", input)
}

/// What an image has that most images have not. Calls about it are made once an image of the survey
/// has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rare {
    /// Operation features. Without the feature `operations` an image has none, as in librbd.
    pub(super) operations: bool,
    /// A parent, and so an overlap with it.
    pub(super) parent: bool,
}

impl Rare {
    /// Whether an image that has `other` needs no more calls.
    pub(super) fn includes(self, other: Rare) -> bool {
        (self.operations || !other.operations) && (self.parent || !other.parent)
    }

    pub(super) fn or(self, other: Rare) -> Rare {
        Rare { operations: self.operations || other.operations, parent: self.parent || other.parent }
    }
}

/// The calls about the current version of an image.
pub(super) struct HeadCalls {
    pub(super) rare: Rare,
    /// In the order in which their answers are read.
    pub(super) calls: Vec<ClassCall>,
}

impl HeadCalls {
    pub(super) fn new(plan: Plan, rare: Rare) -> HeadCalls {
        let mut calls = Vec::with_capacity(16);
        calls.extend([at(c"get_size", HEAD), features(), at(c"get_flags", HEAD)]);
        if rare.operations {
            calls.push(call(c"op_features_get", Vec::new()));
        }
        if plan.parent {
            calls.push(call(c"parent_get", Vec::new()));
            if rare.parent {
                calls.push(at(c"parent_overlap_get", HEAD));
            }
        }
        if plan.times {
            let times = [c"get_create_timestamp", c"get_access_timestamp", c"get_modify_timestamp"];
            calls.extend(times.map(|method| call(method, Vec::new())));
        }
        if plan.locks {
            // A struct of version 1 that contains the name of the lock.
            let name = b"\x01\x01\x0c\0\0\0\x08\0\0\0rbd_lock".to_vec();
            calls.push(ClassCall { class: c"lock", method: c"get_info", input: name });
        }
        if plan.group {
            calls.push(call(c"image_group_get", Vec::new()));
        }
        if plan.metadata {
            let no_key = 0_u32.to_le_bytes();
            calls.push(call(c"metadata_list", [&no_key[..], &PAIRS.to_le_bytes()].concat()));
        }
        if plan.snapshots || plan.usage {
            calls.push(call(c"get_snapcontext", Vec::new()));
        }
        if plan.layout() {
            calls.push(call(c"get_stripe_unit_count", Vec::new()));
        }
        HeadCalls { rare, calls }
    }
}

pub(super) fn lockers(lock: LockInfo) -> Lockers {
    let lockers = lock.lockers.into_iter().map(|locker| Locker {
        client: locker.client,
        cookie: locker.cookie,
        address: ClientAddress::from_ceph(locker.address),
    });
    Lockers { exclusive: matches!(lock.kind, 1 | 3), tag: lock.tag, lockers: lockers.collect() }
}

/// The answers, in order.
pub(super) struct Next(vec::IntoIter<RawResult<Vec<u8>>>);

impl Next {
    pub(super) fn new(answers: Answers) -> Next {
        Next(answers.into_iter())
    }

    pub(super) fn next(&mut self) -> Result<Vec<u8>, Trouble> {
        self.next_or(Trouble::from)
    }

    pub(super) fn next_or(&mut self, trouble: impl Fn(Errno) -> Trouble) -> Result<Vec<u8>, Trouble> {
        self.0.next().unwrap_or(Err(Errno::EIO)).map_err(trouble)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn librbd_answers_if_the_osds_cannot() {
        assert_eq!(Trouble::from(Errno::EOPNOTSUPP), Trouble::AskLibrbd);
        assert_eq!(Trouble::from(Malformed), Trouble::AskLibrbd);
        assert_eq!(Trouble::from(Errno::EPERM), Trouble::Errno(Errno::EPERM));
        assert_eq!(Next::new(vec![Err(Errno::EOPNOTSUPP)]).next(), Err(Trouble::AskLibrbd));
    }
}
