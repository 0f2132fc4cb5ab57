//! Checks of names that are passed to C.

use std::ffi::CString;

use crate::error::keys::{metadata_key as shown, option_name};
use crate::error::{Error, Object, ObjectKind, Result};

/// Returns a name as a C string. Refuses a NUL byte, and shows the name in the error.
pub(crate) fn c_string(
    operation: &'static str,
    object: impl FnOnce() -> Object,
    text: &str,
) -> Result<CString> {
    CString::new(text).map_err(|_| {
        let object = object();
        let text = match object.kind {
            ObjectKind::ConfigOption => option_name(text),
            ObjectKind::MetadataKey => shown(text),
            _ => text.into(),
        };
        Error::invalid(operation, object, format!("{text:?} contains a NUL byte, which Ceph cannot store"))
    })
}

/// Returns a value as a C string. The error does not show the value, which may be a secret.
pub(crate) fn c_value(
    operation: &'static str,
    object: impl FnOnce() -> Object,
    text: &str,
) -> Result<CString> {
    CString::new(text).map_err(|_| {
        Error::invalid(operation, object(), "the value contains a NUL byte, which Ceph cannot store")
    })
}

/// Checks the name of an existing object: only an empty name is impossible.
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

/// Returns a hint for a missing name that looks like several names.
pub(crate) fn spec_hint(what: ObjectKind, name: &str) -> Option<String> {
    name.contains(['/', '@']).then(|| {
        format!(
            "no {what} has the name '{name}'; pass pool, namespace, image and snapshot \
             separately: rbd::ImageSpec parses 'pool/namespace/image@snapshot'"
        )
    })
}

/// Checks the name of a new object: not empty, and without the characters that separate the parts
/// of a spec.
pub(crate) fn new_name(operation: &'static str, object: impl Fn() -> Object, text: &str) -> Result<CString> {
    let name = existing_name(operation, &object, text)?;
    if let Some(bad) = text.chars().find(|c| matches!(c, '/' | '@')) {
        let why = format!(
            "the name {text:?} contains '{bad}', which separates pool, namespace, image and snapshot; choose \
             another name"
        );
        return Err(Error::invalid(operation, object(), why));
    }
    Ok(name)
}

/// Checks a metadata key: not empty.
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

/// Refuses a text that is no JSON object, or nested deeper than 128 levels: Ceph's parser recurses
/// for each level. The error does not show the text.
pub(crate) fn json_object(what: &str, text: &str) -> std::result::Result<(), String> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err(format!("the {what} is JSON, but not an object")),
        Err(error) => Err(format!("the {what} is not JSON: {error}")),
    }
}
