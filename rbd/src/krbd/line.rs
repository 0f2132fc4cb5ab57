//! The line that maps an image, as the kernel reads it, and the key that goes with it.

use std::io;

use zeroize::Zeroizing;

use crate::errno::Errno;
use crate::krbd::attach::Attach;
use crate::krbd::deadline::Deadline;
use crate::krbd::key::Secret;
use crate::krbd::option_table::MsMode;
use crate::spec::ImageSpec;

/// Why the write did not happen, or failed.
pub(super) enum LineError {
    Key(Errno),
    Write(Errno),
}

/// The line for the kernel, but for the key.
pub(super) struct Line {
    head: String,
    tail: String,
    user: String,
    secret: Option<Secret>,
}

impl Line {
    pub(super) fn new(attach: &Attach, tag: &str, deadline: Deadline) -> Line {
        let Attach { monitors, user, secret, .. } = attach;
        let mut options = String::new();
        if !attach.options.has_mount_timeout() {
            // The kernel is to give up first, so that its reason is heard.
            let seconds = deadline.left().as_secs().saturating_sub(1).clamp(1, 3600);
            options = format!(",mount_timeout={seconds}");
        }
        let second_protocol_only = monitors.iter().all(|address| address.ends_with(":3300"));
        if attach.options.mode().is_none() && second_protocol_only {
            options = format!("{options},ms_mode={}", MsMode::PreferCrc);
        }
        options += &attach.options.for_kernel();
        let ImageSpec { pool, namespace, image, snapshot } = &attach.spec;
        if !namespace.is_empty() {
            options = format!("{options},_pool_ns={namespace}");
        }
        let tail = format!("{options} {pool} {image} {} {tag}", snapshot.as_deref().unwrap_or("-"));
        Line {
            head: format!("{} name={user}", monitors.join(",")),
            tail,
            user: user.clone(),
            secret: secret.clone(),
        }
    }

    /// Of the longest form.
    pub(super) fn len(&self) -> usize {
        let key = self.secret.as_ref().map_or(0, |key| ",secret=".len() + key.text().len());
        self.head.len() + self.tail.len() + key.max(",key=client.".len() + self.user.len())
    }

    /// Puts the key into the calling thread's key ring and writes the line that refers to it; into
    /// the line itself only where the kernel has no key rings. The kernel has made its own copy of
    /// the key when the write ends, and the ring's is made useless then.
    ///
    /// The thread's ring, because no other process can then use the key, nothing is left behind,
    /// and clusters that have a user of the same name cannot be mixed up.
    pub(super) fn with_identity(&self, write: impl FnOnce(&[u8]) -> io::Result<()>) -> Result<(), LineError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.len()));
        bytes.extend_from_slice(self.head.as_bytes());
        let key = match &self.secret {
            Some(secret) => secret.add(&self.user).map_err(LineError::Key)?,
            None => None,
        };
        if key.is_some() {
            bytes.extend_from_slice(format!(",key=client.{}", self.user).as_bytes());
        } else if let Some(secret) = &self.secret {
            bytes.extend_from_slice(b",secret=");
            bytes.extend_from_slice(secret.text().as_bytes());
        }
        bytes.extend_from_slice(self.tail.as_bytes());
        let written =
            write(&bytes).map_err(|error| LineError::Write(Errno::of(&error).unwrap_or(Errno::EIO)));
        drop(key);
        written
    }
}
