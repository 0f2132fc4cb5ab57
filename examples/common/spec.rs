//! Names of images on a command line: `[pool/[namespace/]]image[@snap]`.

use std::str::FromStr;

use super::failure::{EINVAL, Failure};

/// A pool and a namespace in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// `None` is the pool that `rbd_default_pool` names.
    pub pool: Option<String>,
    /// Empty for the default namespace.
    pub namespace: String,
}

/// An image, optionally at a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The pool and namespace.
    pub place: Place,
    /// Its name.
    pub image: String,
    /// The snapshot.
    pub snapshot: Option<String>,
}

impl Place {
    /// Parses `pool`, `pool/namespace` or an empty word.
    pub(super) fn from_word(word: &str) -> Place {
        let (pool, namespace) = word.rsplit_once('/').unwrap_or((word, ""));
        let pool = Some(pool.to_owned()).filter(|pool| !pool.is_empty());
        Place { pool, namespace: namespace.to_owned() }
    }

    /// Fills in missing parts. A named pool has its default namespace unless a namespace is given.
    pub(super) fn or(self, pool: Option<&str>, namespace: Option<&str>) -> Place {
        let namespace = match self.namespace.as_str() {
            "" => namespace.unwrap_or_default().to_owned(),
            _ => self.namespace,
        };
        let pool = pool.filter(|pool| !pool.is_empty());
        Place { pool: self.pool.or(pool.map(str::to_owned)), namespace }
    }
}

impl FromStr for ImageSpec {
    type Err = Failure;

    fn from_str(word: &str) -> Result<ImageSpec, Failure> {
        let (path, snapshot) = match word.split_once('@') {
            Some((path, snapshot)) => (path, Some(snapshot)),
            None => (word, None),
        };
        let mut parts = path.rsplitn(3, '/');
        let image = parts.next().unwrap_or_default();
        let (namespace, pool) = match (parts.next(), parts.next()) {
            (Some(namespace), Some(pool)) => (namespace, Some(pool)),
            (pool, _) => ("", pool),
        };
        let bad = |part: &str| part.is_empty() || part.contains(['/', '@']);
        let two_parts = path.matches('/').count() < 2;
        if bad(image) || pool.is_some_and(bad) || snapshot.is_some_and(bad) || (!two_parts && bad(namespace))
        {
            return Err(Failure::new(EINVAL, format_args!("invalid spec '{word}'")));
        }
        Ok(ImageSpec {
            place: Place { pool: pool.map(str::to_owned), namespace: namespace.to_owned() },
            image: image.to_owned(),
            snapshot: snapshot.map(str::to_owned),
        })
    }
}
