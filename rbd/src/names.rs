//! Names on their way to C, refused where C or Ceph could not hold them.

use std::ffi::CString;

use crate::error::{Error, Object, ObjectKind, Result};

/// A C string of a name; a NUL inside is refused, and the error shows the name.
pub(crate) fn c_string(
    operation: &'static str,
    object: impl FnOnce() -> Object,
    text: &str,
) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::invalid(operation, object(), format!("{text:?} contains a NUL byte, which Ceph cannot store"))
    })
}

/// A C string of a value, which may be a secret: the error does not show it.
pub(crate) fn c_value(
    operation: &'static str,
    object: impl FnOnce() -> Object,
    text: &str,
) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::invalid(operation, object(), "the value contains a NUL byte, which Ceph cannot store")
    })
}

/// The name of something that should exist: not empty. Others may have given it any other name.
pub(crate) fn existing_name(
    operation: &'static str,
    object: impl FnOnce() -> Object,
    text: &str,
) -> Result<CString> {
    if text.is_empty() {
        return Err(Error::invalid(operation, object(), "the name is empty"));
    }
    c_string(operation, object, text)
}

/// What to say of a name that was not found, where it looks like several in one.
pub(crate) fn spec_hint(what: ObjectKind, name: &str) -> Option<String> {
    name.contains(['/', '@']).then(|| {
        format!(
            "no {what} has the name '{name}'; pool, namespace, image and snapshot are named one by one: rbd::ImageSpec \
             parses 'pool/namespace/image@snapshot'"
        )
    })
}

/// The name of something new: not empty, and free of the characters that separate the parts of a
/// spec.
pub(crate) fn new_name(operation: &'static str, object: impl Fn() -> Object, text: &str) -> Result<CString> {
    let name = existing_name(operation, &object, text)?;
    if let Some(bad) = text.chars().find(|c| matches!(c, '/' | '@')) {
        let why = format!(
            "the name {text:?} contains '{bad}', which separates pool, namespace, image and snapshot"
        );
        return Err(Error::invalid(operation, object(), why));
    }
    Ok(name)
}

/// The key of some metadata: not empty.
pub(crate) fn metadata_key(
    operation: &'static str,
    object: impl Fn() -> Object,
    key: &str,
) -> Result<CString> {
    if key.is_empty() {
        return Err(Error::invalid(operation, object(), "the key is empty"));
    }
    c_string(operation, object, key)
}
