//! The image or snapshot that a mapping shows.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Object, ObjectKind, Result};

/// Pool, namespace, image and snapshot by name: what a device shows, or is to show.
///
/// It parses and prints the form of the `rbd` command: `[pool/[namespace/]]image[@snapshot]`, the pool `rbd` being the
/// default.
///
/// ```
/// use rbd::krbd::ImageSpec;
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
    /// The snapshot's name, where it is a snapshot.
    pub snapshot: Option<String>,
}

/// The kernel takes a whole line within a page.
pub(crate) const LINE_LIMIT: usize = 4095;

impl ImageSpec {
    /// An image of the pool's default namespace.
    pub fn new(pool: impl Into<String>, image: impl Into<String>) -> ImageSpec {
        ImageSpec { pool: pool.into(), namespace: String::new(), image: image.into(), snapshot: None }
    }

    /// In this namespace.
    #[must_use]
    pub fn namespace(self, name: impl Into<String>) -> ImageSpec {
        ImageSpec { namespace: name.into(), ..self }
    }

    /// This snapshot of it.
    #[must_use]
    pub fn snapshot(self, name: impl Into<String>) -> ImageSpec {
        ImageSpec { snapshot: Some(name.into()), ..self }
    }

    pub(crate) fn object(&self) -> Object {
        let kind = if self.snapshot.is_some() { ObjectKind::Snapshot } else { ObjectKind::Image };
        Object::new(kind, self.to_string())
    }

    /// Refuses names that cannot be told to the kernel: its parser splits at white space, and the namespace, which goes
    /// among the options, at commas.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |detail: String| Err(Error::invalid("map", self.object(), detail));
        let names = [
            ("pool", self.pool.as_str(), false),
            ("namespace", self.namespace.as_str(), true),
            ("image", self.image.as_str(), false),
            ("snapshot", self.snapshot.as_deref().unwrap_or_default(), false),
        ];
        for (what, name, is_option) in names {
            let may_be_absent = what == "namespace" || (what == "snapshot" && self.snapshot.is_none());
            if name.is_empty() && !may_be_absent {
                return refuse(format!("the {what}'s name is empty"));
            }
            if let Some(bad) = name.chars().find(|c| splits(*c) || (is_option && *c == ',')) {
                return refuse(format!(
                    "the {what}'s name '{name}' contains {bad:?}, at which the kernel splits; rename it to map it"
                ));
            }
        }
        if self.snapshot.as_deref() == Some("-") {
            return refuse(
                "the kernel takes a snapshot named '-' for no snapshot; rename it to map it".into(),
            );
        }
        Ok(())
    }
}

/// Characters that end a word for the kernel, or a line of ours.
pub(crate) fn splits(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r' | '\0')
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
    fn names_that_the_kernel_would_misread_are_refused() {
        let fine = ImageSpec::new("rbd", "a,b=c;ä'\"-").namespace("team-1").snapshot("s-,");
        fine.check().unwrap();
        for bad in [
            ImageSpec::new("rbd", "my image"),
            ImageSpec::new("rbd\t", "foo"),
            ImageSpec::new("rbd", "foo\0"),
            ImageSpec::new("rbd", "foo").namespace("a,b"),
            ImageSpec::new("rbd", "foo").namespace("a b"),
            ImageSpec::new("rbd", "foo").snapshot("-"),
            ImageSpec::new("rbd", "foo").snapshot(""),
            ImageSpec::new("", "foo"),
            ImageSpec::new("rbd", ""),
        ] {
            let error = bad.check().unwrap_err();
            assert_eq!(*error.kind(), crate::ErrorKind::InvalidInput, "{error}");
        }
        let error = ImageSpec::new("rbd", "my image").check().unwrap_err();
        assert!(error.to_string().contains("name 'my image' contains ' '"), "{error}");
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
