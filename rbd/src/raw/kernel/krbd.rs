//! System calls for mapping that the standard library lacks: the kernel's key rings, and the socket
//! that announces devices.

use std::ffi::CStr;
use std::io;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::errno::Errno;

/// A key in the key ring of the thread that added it. Dropping it invalidates the key. Otherwise
/// the kernel would remove it only some time after the end of the thread.
///
/// Not `Send`: only the thread that added the key can reach it.
#[derive(Debug)]
pub(crate) struct ThreadKey {
    serial: libc::c_long,
    _not_send: PhantomData<*const ()>,
}

impl ThreadKey {
    /// Adds a key to the calling thread's own key ring.
    pub(crate) fn add(kind: &CStr, description: &CStr, payload: &[u8]) -> Result<ThreadKey, Errno> {
        // SAFETY: both strings end in NUL, and the payload is `len` readable bytes; the kernel
        // copies all three.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                kind.as_ptr(),
                description.as_ptr(),
                payload.as_ptr(),
                payload.len(),
                libc::c_long::from(libc::KEY_SPEC_THREAD_KEYRING),
            )
        };
        if serial < 0 { Err(Errno::last()) } else { Ok(ThreadKey { serial, _not_send: PhantomData }) }
    }
}

impl Drop for ThreadKey {
    fn drop(&mut self) {
        // A seccomp filter may forbid one call and allow the other. If both fail, the key
        // disappears after its thread has ended.
        for way in [libc::KEYCTL_INVALIDATE, libc::KEYCTL_REVOKE] {
            // SAFETY: no pointers. The serial is that of this thread's key.
            let done = unsafe { libc::syscall(libc::SYS_keyctl, libc::c_long::from(way), self.serial) };
            if done == 0 {
                return;
            }
        }
    }
}

/// The multicast groups that announce devices.
const FROM_KERNEL: u32 = 1;
const FROM_UDEV: u32 = 2;

/// A netlink socket that receives the device events of the kernel and of udev.
pub(crate) struct UeventSocket(OwnedFd);

/// The result of waiting at the socket.
pub(crate) enum Received {
    Message(Vec<u8>),
    /// No message before the timeout.
    Nothing,
    /// Messages were lost, or came from a sender without privileges.
    Unusable,
}

impl UeventSocket {
    pub(crate) fn open() -> io::Result<UeventSocket> {
        // SAFETY: no pointers.
        let fd = unsafe {
            libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                libc::NETLINK_KOBJECT_UEVENT,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let size: libc::c_int = 1 << 20;
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            // SAFETY: the value is one int, as both options want. The second needs privileges;
            // failing, the first stands.
            unsafe {
                libc::setsockopt(
                    fd,
                    libc::SOL_SOCKET,
                    option,
                    (&raw const size).cast(),
                    socklen::<libc::c_int>(),
                );
            }
        }
        // SAFETY: all zeros is a valid address: that of the kernel.
        let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = FROM_KERNEL | FROM_UDEV;
        // SAFETY: the address is a whole sockaddr_nl of the length given.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), socklen::<libc::sockaddr_nl>()) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(UeventSocket(socket)) }
    }

    /// Returns the next message. Waits for `time` at most.
    pub(crate) fn receive(&self, time: Duration) -> Received {
        let fd = self.0.as_raw_fd();
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, which outlives the call.
        if unsafe { libc::poll(&raw mut poll, 1, millis) } <= 0 {
            return Received::Nothing;
        }
        let mut buffer = vec![0_u8; 16 << 10];
        let mut sender = MaybeUninit::<libc::sockaddr_nl>::zeroed();
        let mut sender_len = socklen::<libc::sockaddr_nl>();
        // SAFETY: the buffer is writable over its length, and so is the sender's address over
        // `sender_len`.
        let len = unsafe {
            libc::recvfrom(
                fd,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
                sender.as_mut_ptr().cast(),
                &raw mut sender_len,
            )
        };
        let Ok(len) = usize::try_from(len) else {
            return if Errno::last() == Errno::EAGAIN { Received::Nothing } else { Received::Unusable };
        };
        // SAFETY: zeroed above, of which every field is valid; the kernel overwrote some or all of
        // it.
        let sender = unsafe { sender.assume_init() };
        // Only privileged processes may send to a group. Any process may send to our address.
        if sender.nl_groups == 0 {
            return Received::Unusable;
        }
        buffer.truncate(len);
        Received::Message(buffer)
    }
}

fn socklen<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn an_unknown_type_of_key_is_refused_by_the_kernel() {
        let refused = ThreadKey::add(c"no-such-type", c"client.x", b"1").unwrap_err();
        // A seccomp filter may return its own errno.
        assert!([Errno::ENODEV, Errno::ENOSYS, Errno::EPERM].contains(&refused), "{refused:?}");
    }

    #[test]
    fn a_key_is_of_no_use_after_the_drop() {
        let find = || {
            // SAFETY: both strings end in NUL; no call-out information, no ring to link to.
            let found = unsafe {
                libc::syscall(
                    libc::SYS_request_key,
                    c"user".as_ptr(),
                    c"rbd-test".as_ptr(),
                    ptr::null::<u8>(),
                    0,
                )
            };
            found >= 0
        };
        match ThreadKey::add(c"user", c"rbd-test", b"1") {
            Ok(key) => {
                assert!(find());
                drop(key);
                assert!(!find(), "the thread still finds its key");
            }
            // The errno of a seccomp filter, or of a kernel without key rings.
            Err(refused) => assert!([Errno::ENOSYS, Errno::EPERM].contains(&refused), "{refused:?}"),
        }
    }

    #[test]
    fn a_quiet_socket_says_so_in_time() {
        let socket = UeventSocket::open().unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_secs(1) {
            if matches!(socket.receive(Duration::from_millis(20)), Received::Nothing) {
                return;
            }
        }
        panic!("a machine that announces devices without pause");
    }
}
