//! All `unsafe` code of this crate: calls into librados and librbd, and what runs between fork and
//! exec.

mod rados;
mod spawn;

pub(crate) use rados::Rados;
pub(crate) use spawn::{die_with_parent, own_session};
