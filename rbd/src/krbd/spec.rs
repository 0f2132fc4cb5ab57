//! Checks of names that are passed to the kernel.

use crate::error::{Error, Result};
use crate::spec::ImageSpec;

/// The longest line that the kernel accepts, within a page.
pub(crate) const LINE_LIMIT: usize = 4095;

impl ImageSpec {
    /// Refuses names that the kernel cannot parse: it splits at white space, and the namespace,
    /// which is an option, at commas.
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
                    "the {what}'s name '{name}' contains {bad:?}, which the kernel takes as a \
                     separator; rename it to map it"
                ));
            }
        }
        if self.snapshot.as_deref() == Some("-") {
            return refuse("for the kernel, '-' means no snapshot; rename the snapshot to map it".into());
        }
        Ok(())
    }
}

/// Returns whether a character ends a word of the kernel's line, or the line.
pub(crate) fn splits(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r' | '\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_misread_are_refused() {
        let fine = ImageSpec::new("rbd", "a,b=c;ä'\"-").namespace("team-1").snapshot("s-,");
        fine.check().unwrap();
        ImageSpec::new("rbd", "foo").check().unwrap();
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

    #[test]
    fn the_kernel_splits_at_white_space_of_ascii() {
        assert!(" \t\n\x0b\x0c\r\0".chars().all(splits));
        assert!(!"a,-/\u{a0}\u{2003}".chars().any(splits));
    }
}
