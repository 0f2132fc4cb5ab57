//! Specifications of images and snapshots: pool, namespace, image and snapshot in one text.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Object, ObjectKind, Result};

/// The specification of an image or snapshot: pool, namespace, image and snapshot.
///
/// It parses and prints the form of the `rbd` command: `[pool/[namespace/]]image[@snapshot]`. The
/// default pool is `rbd`.
///
/// ```
/// use rbd::ImageSpec;
/// let spec: ImageSpec = "volumes/team/foo@monday".parse()?;
/// assert_eq!(spec, ImageSpec::new("volumes", "foo").namespace("team").snapshot("monday"));
/// assert_eq!("foo".parse::<ImageSpec>()?.to_string(), "rbd/foo");
/// # Ok::<(), rbd::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct ImageSpec {
    /// The pool's name.
    pub pool: String,
    /// The namespace within the pool; empty for the default one.
    pub namespace: String,
    /// The image's name.
    pub image: String,
    /// The snapshot's name, if any.
    pub snapshot: Option<String>,
}

impl ImageSpec {
    /// Returns the specification of an image in the default namespace of a pool.
    pub fn new(pool: impl Into<String>, image: impl Into<String>) -> ImageSpec {
        ImageSpec { pool: pool.into(), namespace: String::new(), image: image.into(), snapshot: None }
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(self, name: impl Into<String>) -> ImageSpec {
        ImageSpec { namespace: name.into(), ..self }
    }

    /// Sets the snapshot.
    #[must_use]
    pub fn snapshot(self, name: impl Into<String>) -> ImageSpec {
        ImageSpec { snapshot: Some(name.into()), ..self }
    }

    #[cfg_attr(not(feature = "krbd"), expect(dead_code))]
    pub(crate) fn object(&self) -> Object {
        let kind = if self.snapshot.is_some() { ObjectKind::Snapshot } else { ObjectKind::Image };
        Object::new(kind, self.to_string())
    }
}

impl FromStr for ImageSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<ImageSpec> {
        let invalid = |detail| Error::invalid("parse", Object::new(ObjectKind::Image, text), detail);
        let (path, snapshot) = match text.split_once('@') {
            Some((path, snapshot)) => (path, Some(snapshot)),
            None => (text, None),
        };
        if snapshot.is_some_and(|name| name.is_empty() || name.contains(['@', '/'])) {
            return Err(invalid("after '@' must come one snapshot's name, without '@' and '/'"));
        }
        let parts: Vec<&str> = path.split('/').collect();
        let (pool, namespace, image) = match parts[..] {
            [image] => ("rbd", "", image),
            [pool, image] => (pool, "", image),
            [pool, namespace, image] => (pool, namespace, image),
            _ => return Err(invalid("at most two '/' are possible: pool/namespace/image")),
        };
        if pool.is_empty() || image.is_empty() {
            return Err(invalid("expected [pool/[namespace/]]image[@snapshot] with no empty name"));
        }
        Ok(ImageSpec {
            pool: pool.into(),
            namespace: namespace.into(),
            image: image.into(),
            snapshot: snapshot.map(str::to_owned),
        })
    }
}

impl fmt::Display for ImageSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.pool)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.image)?;
        match &self.snapshot {
            Some(name) => write!(f, "@{name}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wrong_forms_are_refused() {
        for text in ["", "/", "a/", "/a", "a/b/c/d", "a@", "a@b@c", "a@b/c", "@s", "p//"] {
            assert!(text.parse::<ImageSpec>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_alone_is_one_in_the_pool_rbd() {
        assert_eq!("foo".parse::<ImageSpec>().unwrap(), ImageSpec::new("rbd", "foo"));
    }

    #[test]
    fn an_error_names_an_image_or_a_snapshot() {
        let image = ImageSpec::new("rbd", "foo");
        assert_eq!(image.object(), Object::new(ObjectKind::Image, "rbd/foo"));
        assert_eq!(image.snapshot("s").object(), Object::new(ObjectKind::Snapshot, "rbd/foo@s"));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_back(
            pool in "[^/@]{1,9}", namespace in "[^/@]{0,9}", image in "[^/@]{1,9}", snapshot in proptest::option::of("[^/@]{1,9}"),
        ) {
            let spec = ImageSpec { pool, namespace, image, snapshot };
            prop_assert_eq!(spec.to_string().parse::<ImageSpec>().unwrap(), spec);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".*") {
            if let Ok(spec) = text.parse::<ImageSpec>() {
                prop_assert_eq!(spec.to_string().parse::<ImageSpec>().unwrap(), spec);
            }
        }
    }
}
