//! The peers of a mirrored pool.

use std::ffi::{CStr, c_char, c_int};

use librbd_sys as sys;
use zeroize::Zeroizing;

use crate::raw::RawResult;
use crate::raw::ffi::conversion::{array_string, check, copy_string, grow};
use crate::raw::ffi::secret::words;
use crate::raw::ioctx::IoCtx;

/// A peer, with the text copied. The time is in seconds since 1970, or 0 for never.
#[derive(Debug)]
pub(crate) struct RawPeer {
    pub(crate) uuid: String,
    pub(crate) direction: u32,
    pub(crate) site_name: String,
    pub(crate) mirror_uuid: String,
    pub(crate) client_name: String,
    pub(crate) last_seen: i64,
}

/// The attributes of a peer that librbd knows.
#[derive(Debug, Default)]
pub(crate) struct RawPeerAccess {
    pub(crate) mon_host: Option<Zeroizing<String>>,
    pub(crate) key: Option<Zeroizing<String>>,
}

/// The largest buffer for attributes. A longer answer is an error.
const LIMIT: usize = 1 << 20;

impl IoCtx {
    /// Returns the new peer's uuid.
    pub(crate) fn mirror_peer_add(&self, direction: u32, site: &CStr, client: &CStr) -> RawResult<String> {
        // A uuid has 36 characters. It must fit: a failure here comes after the peer was added.
        let mut uuid = [0 as c_char; 128];
        let direction = sys::rbd_mirror_peer_direction_t(direction);
        // SAFETY: the handle is valid, the strings live through the call, the buffer has the length
        // that is passed.
        check(unsafe {
            sys::rbd_mirror_peer_site_add(
                self.as_ptr(),
                uuid.as_mut_ptr(),
                uuid.len(),
                direction,
                site.as_ptr(),
                client.as_ptr(),
            )
        })?;
        Ok(array_string(&uuid))
    }

    pub(crate) fn mirror_peer_remove(&self, uuid: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, the string lives through the call.
        check(unsafe { sys::rbd_mirror_peer_site_remove(self.as_ptr(), uuid.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn mirror_peer_set_site(&self, uuid: &CStr, site: &CStr) -> RawResult<()> {
        // SAFETY: the handle is valid, both strings live through the call.
        check(unsafe { sys::rbd_mirror_peer_site_set_name(self.as_ptr(), uuid.as_ptr(), site.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn mirror_peer_set_client(&self, uuid: &CStr, client: &CStr) -> RawResult<()> {
        let (uuid, client) = (uuid.as_ptr(), client.as_ptr());
        // SAFETY: the handle is valid, both strings live through the call.
        check(unsafe { sys::rbd_mirror_peer_site_set_client_name(self.as_ptr(), uuid, client) })?;
        Ok(())
    }

    pub(crate) fn mirror_peer_set_direction(&self, uuid: &CStr, direction: u32) -> RawResult<()> {
        let direction = sys::rbd_mirror_peer_direction_t(direction);
        // SAFETY: the handle is valid, the string lives through the call.
        check(unsafe { sys::rbd_mirror_peer_site_set_direction(self.as_ptr(), uuid.as_ptr(), direction) })?;
        Ok(())
    }

    pub(crate) fn mirror_peers(&self) -> RawResult<Vec<RawPeer>> {
        let fetch = |buffer: *mut sys::rbd_mirror_peer_site_t, capacity: usize| {
            let mut len = c_int::try_from(capacity).unwrap_or(c_int::MAX);
            // SAFETY: the buffer has `len` elements; the number needed or used comes back in `len`.
            let code = unsafe { sys::rbd_mirror_peer_site_list(self.as_ptr(), buffer, &raw mut len) };
            (code, usize::try_from(len).unwrap_or(0))
        };
        // SAFETY: a struct of pointers and integers; all zeros are valid; `fetch` writes at most
        // the length it is given.
        let mut raw = unsafe { grow(8, fetch) }?;
        // SAFETY: on success all strings are set.
        let copy = |peer: &sys::rbd_mirror_peer_site_t| unsafe {
            RawPeer {
                uuid: copy_string(peer.uuid),
                direction: peer.direction.0,
                site_name: copy_string(peer.site_name),
                mirror_uuid: copy_string(peer.mirror_uuid),
                client_name: copy_string(peer.client_name),
                last_seen: peer.last_seen,
            }
        };
        let peers = raw.iter().map(copy).collect();
        let len = c_int::try_from(raw.len()).unwrap_or(c_int::MAX);
        // SAFETY: the library owns the strings, which are not used after this.
        unsafe { sys::rbd_mirror_peer_site_list_cleanup(raw.as_mut_ptr(), len) };
        Ok(peers)
    }

    pub(crate) fn mirror_peer_access(&self, uuid: &CStr) -> RawResult<RawPeerAccess> {
        let (mut keys_len, mut values_len) = (512, 1024);
        loop {
            let mut keys = Zeroizing::new(vec![0_u8; keys_len]);
            let mut values = Zeroizing::new(vec![0_u8; values_len]);
            let mut count = 0;
            // SAFETY: both buffers have the lengths that are passed; the lengths needed come back
            // in the same place.
            let code = unsafe {
                sys::rbd_mirror_peer_site_get_attributes(
                    self.as_ptr(),
                    uuid.as_ptr(),
                    keys.as_mut_ptr().cast(),
                    &raw mut keys_len,
                    values.as_mut_ptr().cast(),
                    &raw mut values_len,
                    &raw mut count,
                )
            };
            if code == -libc::ERANGE && keys_len.max(values_len) < LIMIT {
                // Sufficient buffers keep their length. The others grow to at least twice the
                // length, so that the loop ends.
                (keys_len, values_len) = (keys_len.max(keys.len()) * 2, values_len.max(values.len()) * 2);
                continue;
            }
            check(code)?;
            let mut access = RawPeerAccess::default();
            for (key, value) in words(&keys).zip(words(&values)).take(count) {
                if key.as_bytes() == sys::RBD_MIRROR_PEER_ATTRIBUTE_NAME_MON_HOST.to_bytes() {
                    access.mon_host = Some(value);
                } else if key.as_bytes() == sys::RBD_MIRROR_PEER_ATTRIBUTE_NAME_KEY.to_bytes() {
                    access.key = Some(value);
                }
            }
            return Ok(access);
        }
    }

    /// Replaces all attributes.
    pub(crate) fn mirror_peer_set_access(
        &self,
        uuid: &CStr,
        mon_host: Option<&CStr>,
        key: Option<&CStr>,
    ) -> RawResult<()> {
        let given = [
            (sys::RBD_MIRROR_PEER_ATTRIBUTE_NAME_MON_HOST, mon_host),
            (sys::RBD_MIRROR_PEER_ATTRIBUTE_NAME_KEY, key),
        ];
        let (mut keys, mut values) = (Vec::new(), Zeroizing::new(Vec::with_capacity(4096)));
        let mut count = 0;
        for (name, value) in given {
            if let Some(value) = value {
                keys.extend_from_slice(name.to_bytes_with_nul());
                values.extend_from_slice(value.to_bytes_with_nul());
                count += 1;
            }
        }
        // SAFETY: the handle is valid; the lists live through the call and hold `count` terminated
        // strings each.
        check(unsafe {
            sys::rbd_mirror_peer_site_set_attributes(
                self.as_ptr(),
                uuid.as_ptr(),
                keys.as_ptr().cast(),
                values.as_ptr().cast(),
                count,
            )
        })?;
        Ok(())
    }
}
