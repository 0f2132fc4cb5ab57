//! The two kinds of locks on an image: the exclusive lock of librbd, and advisory locks.

use std::ffi::{CStr, c_char, c_int};

use librbd_sys as sys;

use crate::address::ClientAddress;
use crate::errno::Errno;
use crate::features::Features;
use crate::holder::Holder;
use crate::raw::RawResult;
use crate::raw::ffi::conversion::{check, split};
use crate::raw::image::Image;
use crate::raw::image::closing::release;
use crate::raw::image::keeper::owners_of;
use crate::raw::image::lease::begin_lease;
use crate::raw::image::snapshot_gate::header_of;
use crate::raw::ioctx::IoCtx;
use crate::raw::op::answer::Cause;

/// The tag of librbd's exclusive lock in the list of advisory locks.
pub(crate) const INTERNAL_TAG: &str = "internal";

/// The holders of the advisory locks of an image.
#[derive(Debug, Default)]
pub(crate) struct RawLockers {
    pub(crate) exclusive: bool,
    pub(crate) tag: String,
    /// Client, cookie and address of each holder.
    pub(crate) lockers: Vec<(String, String, String)>,
}

impl RawLockers {
    /// Returns the first lock, if it is an advisory one.
    pub(super) fn into_advisory(self) -> Option<Holder> {
        let (client, cookie, address) =
            self.lockers.into_iter().next().filter(|_| self.tag != INTERNAL_TAG)?;
        Some(Holder::AdvisoryLock { client, cookie, address: ClientAddress::from_ceph(address) })
    }
}

impl Image {
    pub(crate) fn owns_exclusive_lock(&self) -> RawResult<bool> {
        let mut owner = 0;
        // SAFETY: the image is open, the out pointer lives through the call.
        check(unsafe { sys::rbd_is_exclusive_lock_owner(self.as_ptr(), &raw mut owner) })?;
        Ok(owner != 0 && !self.shared().lease().is_lost())
    }

    pub(crate) fn acquire_exclusive_lock(&self) -> RawResult<()> {
        let _turn = self.shared().lease().turn();
        // SAFETY: the image is open.
        let acquire = || check(unsafe { sys::rbd_lock_acquire(self.as_ptr(), sys::RBD_LOCK_MODE_EXCLUSIVE) });
        // From now on, librbd does not acquire it for writes, even if this fails.
        self.shared().lease().set_released();
        self.locking(acquire)?;
        begin_lease(self.shared())
    }

    pub(crate) fn release_exclusive_lock(&self) -> RawResult<()> {
        let _turn = self.shared().lease().turn();
        let lease = self.shared().renew_lease();
        // SAFETY: the image is open.
        let released = unsafe { release(self.as_ptr()) };
        if released.is_ok() || lease == Err(Errno::ENOLCK) {
            self.shared().lease().end();
        }
        match lease {
            Err(Errno::ENOLCK) => lease,
            _ => released,
        }
    }

    /// Returns the addresses of the owners. Empty if no client has the lock.
    pub(crate) fn exclusive_lock_owners(&self) -> RawResult<Vec<String>> {
        // SAFETY: the image is open.
        unsafe { owners_of(self.as_ptr()) }
    }

    /// Asks the cluster why requests fail. Blocks for a limited time.
    pub(crate) fn cause(&self) -> Option<Cause> {
        // SAFETY: the image is open.
        unsafe { self.shared().cause() }
    }

    pub(crate) fn break_exclusive_lock(&self, owner: &CStr) -> RawResult<()> {
        // SAFETY: the image is open, the string lives through the call.
        check(unsafe { sys::rbd_lock_break(self.as_ptr(), sys::RBD_LOCK_MODE_EXCLUSIVE, owner.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn lock_exclusive(&self, cookie: &CStr) -> RawResult<()> {
        // SAFETY: the image is open, the string lives through the call.
        check(unsafe { sys::rbd_lock_exclusive(self.as_ptr(), cookie.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn lock_shared(&self, cookie: &CStr, tag: &CStr) -> RawResult<()> {
        // SAFETY: the image is open, both strings live through the call.
        check(unsafe { sys::rbd_lock_shared(self.as_ptr(), cookie.as_ptr(), tag.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn unlock(&self, cookie: &CStr) -> RawResult<()> {
        // SAFETY: the image is open, the string lives through the call.
        check(unsafe { sys::rbd_unlock(self.as_ptr(), cookie.as_ptr()) })?;
        Ok(())
    }

    pub(crate) fn break_lock(&self, client: &CStr, cookie: &CStr) -> RawResult<()> {
        // SAFETY: the image is open, both strings live through the call.
        check(unsafe { sys::rbd_break_lock(self.as_ptr(), client.as_ptr(), cookie.as_ptr()) })?;
        Ok(())
    }
}

impl IoCtx {
    /// Returns the locks on the header of an image: librbd's and those of users.
    pub(crate) fn lockers(&self, header: &CStr) -> RawResult<RawLockers> {
        // SAFETY: the pool is open, both names live through the call; `lockers` passes valid
        // buffers.
        let list = |exclusive, [tag, clients, cookies, addresses]: Buffers| unsafe {
            sys::rados_list_lockers(
                self.as_ptr(),
                header.as_ptr(),
                c"rbd_lock".as_ptr(),
                exclusive,
                tag.0,
                tag.1,
                clients.0,
                clients.1,
                cookies.0,
                cookies.1,
                addresses.0,
                addresses.1,
            )
        };
        lockers(list)
    }
}

impl Image {
    /// Returns what a call that needs the exclusive lock may wait for: another client that owns it,
    /// or an advisory lock. Blocks.
    pub(crate) fn other_lock(&self) -> RawResult<Option<Holder>> {
        let id = self.id()?;
        if id.is_empty() || self.features()? & Features::EXCLUSIVE_LOCK.bits() == 0 {
            return Ok(None);
        }
        let ours = format!("client.{}", self.pool().cluster().instance_id());
        let locks = self.pool().lockers(&header_of(&id, c"")?)?;
        if locks.tag != INTERNAL_TAG {
            return Ok(locks.into_advisory());
        }
        let mut others = locks.lockers.into_iter().filter(|(client, ..)| *client != ours);
        Ok(others.next().map(|(client, _, address)| Holder::LockOwner {
            client,
            address: ClientAddress::from_ceph(address),
        }))
    }

    /// Returns the locks as librbd knows them since it last read the header.
    pub(crate) fn lockers(&self) -> RawResult<RawLockers> {
        // SAFETY: the image is open; `lockers` passes valid buffers.
        let list = |exclusive, [tag, clients, cookies, addresses]: Buffers| unsafe {
            sys::rbd_list_lockers(
                self.as_ptr(),
                exclusive,
                tag.0,
                tag.1,
                clients.0,
                clients.1,
                cookies.0,
                cookies.1,
                addresses.0,
                addresses.1,
            )
        };
        lockers(list)
    }
}

/// The largest buffer that a call gets. A library that asks for more is broken.
const LIMIT: usize = 1 << 26;

/// Start and length of each buffer: the tag, the clients, their cookies, their addresses.
type Buffers = [(*mut c_char, *mut usize); 4];

/// Lists the holders with buffers that grow. Each buffer has the length that is passed with it, and
/// the library stores the needed length in the same place.
fn lockers(list: impl Fn(*mut c_int, Buffers) -> isize) -> RawResult<RawLockers> {
    let mut lens = [64, 256, 256, 256];
    loop {
        let mut buffers = lens.map(|len| vec![0 as c_char; len]);
        let mut exclusive: c_int = 0;
        let [tag, clients, cookies, addresses] = &mut buffers;
        let [tag_len, clients_len, cookies_len, addresses_len] = &mut lens;
        let places: Buffers = [
            (tag.as_mut_ptr(), tag_len),
            (clients.as_mut_ptr(), clients_len),
            (cookies.as_mut_ptr(), cookies_len),
            (addresses.as_mut_ptr(), addresses_len),
        ];
        let count = i32::try_from(list(&raw mut exclusive, places)).unwrap_or(-libc::EIO);
        if count == -libc::ERANGE && lens.iter().max() < Some(&LIMIT) {
            // Sufficient buffers keep their length. The others get the needed length or twice the
            // old one: without the doubling, a growing list could outrun the loop forever.
            for (len, buffer) in lens.iter_mut().zip(&buffers) {
                *len = (*len).max(buffer.len()) * 2;
            }
            continue;
        }
        let count = usize::try_from(check(count)?).unwrap_or(0);
        let [tag, clients, cookies, addresses] = &buffers;
        let lockers = split(clients).zip(split(cookies)).zip(split(addresses)).take(count);
        return Ok(RawLockers {
            exclusive: exclusive != 0,
            tag: split(tag).next().unwrap_or_default(),
            // Addresses are given without the protocol, like those of watchers and owners.
            lockers: lockers
                .map(|((client, cookie), address)| {
                    (client, cookie, address.strip_prefix("v1:").unwrap_or(&address).to_owned())
                })
                .collect(),
        });
    }
}
