//! The list of a pool's objects.

use std::sync::Arc;

use super::Objects;
use crate::error::Result;
use crate::ioctx::IoCtx;
use crate::raw::rados::objects::RawObjectList;

/// An object in a [list](Objects::list).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectEntry {
    /// The object's name.
    pub name: String,
    /// The object's namespace; empty for the default one.
    pub namespace: String,
}

/// An iterator over the objects of a pool or namespace, in no particular order: see
/// [`Objects::list`]. It ends after an error.
#[derive(Debug)]
pub struct ObjectList {
    ioctx: IoCtx,
    /// `None` after the end.
    list: Option<RawObjectList>,
}

impl Objects<'_> {
    /// Lists the names of all objects of the pool and namespace. The iterator fetches them in
    /// batches. It may include or omit objects that are created or removed meanwhile. Takes long
    /// for big pools, which hold very many objects.
    ///
    /// Implements: `rados_nobjects_list_open`.
    #[doc(alias = "rados_nobjects_list_open")]
    pub fn list(&self) -> Result<ObjectList> {
        let raw = Arc::clone(self.ioctx.raw());
        let open = move |_: &_| RawObjectList::open(raw);
        let list = self.ioctx.bounded("list the objects of", || self.ioctx.pool_object(), open)?;
        Ok(ObjectList { ioctx: self.ioctx.clone(), list: Some(list) })
    }

    /// Lists the objects of all namespaces of the pool: see [`list`](Self::list).
    pub fn list_all_namespaces(&self) -> Result<ObjectList> {
        // LIBRADOS_ALL_NSPACES
        self.ioctx.with_namespace("\u{1}")?.objects().list()
    }
}

impl ObjectList {
    /// Returns the next object; `None` at the end. Returns the same as the iterator, with the
    /// `Result` outside.
    ///
    /// Implements: `rados_nobjects_list_next2`.
    #[doc(alias = "rados_nobjects_list_next")]
    #[doc(alias = "rados_nobjects_list_next2")]
    pub fn next_entry(&mut self) -> Result<Option<ObjectEntry>> {
        // A call that is given up keeps the list, so the iteration ends here.
        let Some(mut list) = self.list.take() else { return Ok(None) };
        let next = move |_: &_| list.advance().map(|next| (next, list));
        let (next, list) = self.ioctx.bounded("list the objects of", || self.ioctx.pool_object(), next)?;
        let Some((name, namespace)) = next else { return Ok(None) };
        self.list = Some(list);
        Ok(Some(ObjectEntry { name, namespace }))
    }
}

impl Iterator for ObjectList {
    type Item = Result<ObjectEntry>;

    fn next(&mut self) -> Option<Result<ObjectEntry>> {
        self.next_entry().transpose()
    }
}

impl std::iter::FusedIterator for ObjectList {}
