//! All `unsafe` code of this crate: calls of librados and librbd, and code between fork and exec.

mod rados;
mod spawn;

pub(crate) use rados::Rados;
pub(crate) use spawn::{die_with_parent, own_session};
