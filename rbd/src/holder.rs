//! The holders of a busy object.

use std::fmt;

use crate::address::ClientAddress;

/// A client that watches an image, because it has the image mapped or open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watcher {
    /// The client's address with its nonce, as `rbd status` prints it: `127.0.0.1:0/3461389112`.
    pub address: ClientAddress,
    /// The client's global id: the number in `client.4123`.
    pub client: u64,
    /// The cookie, which distinguishes several watches of one client.
    pub cookie: u64,
}

/// A holder that keeps an image or a device in use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holder {
    /// A client that has the image mapped or open for writing.
    Watcher(Watcher),
    /// The owner of a lock: its client (`client.4123`) and address.
    LockOwner {
        /// The client, such as `client.4123`; empty if it is unknown.
        client: String,
        /// The owner's address; empty if it is unknown.
        address: ClientAddress,
    },
    /// An advisory lock of a user. While one is held, no client can write an image with the feature
    /// exclusive-lock, because librbd cannot acquire the exclusive lock.
    AdvisoryLock {
        /// The client, such as `client.4123`.
        client: String,
        /// The cookie that the client has chosen.
        cookie: String,
        /// The client's address.
        address: ClientAddress,
    },
    /// Another block device stacked on this one (device mapper, md …), by name.
    Device(String),
    /// A mount of the device, in the mount namespace of a process.
    Mount {
        /// The mount point, as the process sees it.
        path: String,
        /// A process in that mount namespace.
        pid: u32,
    },
    /// The device is active swap space.
    Swap,
    /// A process that has the device open.
    Process {
        /// The process id.
        pid: u32,
        /// The command name.
        name: String,
    },
}

impl fmt::Display for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "watcher client.{} at {} (cookie {})", self.client, self.address, self.cookie)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Watcher(watcher) => watcher.fmt(f),
            Holder::LockOwner { client, address } if client.is_empty() => {
                write!(f, "lock owner at {address}")
            }
            Holder::LockOwner { client, address } if address.is_empty() => write!(f, "lock owner {client}"),
            Holder::LockOwner { client, address } => write!(f, "lock owner {client} at {address}"),
            Holder::AdvisoryLock { client, cookie, address } => {
                write!(f, "advisory lock '{cookie}' of {client} at {address}")
            }
            Holder::Device(name) => write!(f, "block device {name} on top of it"),
            Holder::Mount { path, pid } => write!(f, "mounted at {path} (mount namespace of process {pid})"),
            Holder::Swap => f.write_str("in use as swap"),
            Holder::Process { pid, name } => write!(f, "process {pid} ({name}) has it open"),
        }
    }
}
