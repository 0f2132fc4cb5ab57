//! The socket on which the kernel and udev announce devices.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with, sockopt};

/// The multicast groups that announce devices.
const FROM_KERNEL: u32 = 1;
const FROM_UDEV: u32 = 2;

/// The size of the socket's buffer, in bytes.
const BUFFER: usize = 1 << 20;

/// The longest message, in bytes. The kernel's are shorter.
const MESSAGE: usize = 16 << 10;

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
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        // A small buffer loses messages, which `receive` reports. The second call needs privileges.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, BUFFER);
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER);
        bind(&socket, &SocketAddrNetlink::new(0, FROM_KERNEL | FROM_UDEV))?;
        Ok(UeventSocket(socket))
    }

    /// Returns the next message. Waits for `time` at most.
    pub(crate) fn receive(&self, time: Duration) -> Received {
        let timeout = Timespec::try_from(time).ok();
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        if !matches!(poll(&mut ready, timeout.as_ref()), Ok(1..)) {
            return Received::Nothing;
        }
        let mut buffer = vec![0; MESSAGE];
        match recvfrom(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((len, _, Some(sender))) if is_privileged(&sender) => {
                buffer.truncate(len);
                Received::Message(buffer)
            }
            Err(Errno::AGAIN) => Received::Nothing,
            _ => Received::Unusable,
        }
    }
}

/// Returns whether the message was sent to a group, which only privileged processes may do.
fn is_privileged(sender: &rustix::net::SocketAddrAny) -> bool {
    SocketAddrNetlink::try_from(sender.clone()).is_ok_and(|sender| sender.groups() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_message_to_the_socket_alone_is_unusable() {
        let socket = UeventSocket::open().unwrap();
        let mut address = SocketAddrNetlink::try_from(rustix::net::getsockname(&socket.0).unwrap()).unwrap();
        address.set_groups(0);
        let sender = UeventSocket::open().unwrap();
        let message = b"add@/devices/rbd/0\0ACTION=add\0";
        match rustix::net::sendto(&sender.0, message, rustix::net::SendFlags::empty(), &address) {
            Err(Errno::PERM) => return, // Without privileges it cannot even be sent.
            sent => assert_eq!(sent.unwrap(), message.len()),
        }
        // Real events may come first.
        for _ in 0..1000 {
            match socket.receive(Duration::from_secs(1)) {
                Received::Unusable => return,
                Received::Message(real) => assert_ne!(real, message),
                Received::Nothing => break,
            }
        }
        panic!("the message was lost");
    }
}
