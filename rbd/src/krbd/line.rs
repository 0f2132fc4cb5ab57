//! The line that maps an image, and its key.

use std::io;

use zeroize::Zeroizing;

use crate::errno::Errno;
use crate::krbd::attach::Attach;
use crate::krbd::deadline::Deadline;
use crate::krbd::key::Secret;
use crate::krbd::option_table::MsMode;
use crate::spec::ImageSpec;

/// The reason why the write failed or did not happen.
pub(super) enum LineError {
    Key(Errno),
    Write(Errno),
}

/// The part of the line that contains the key.
const SECRET: &str = ",secret=";
/// The part of the line that refers to a key in a key ring.
const KEY_OF_USER: &str = ",key=client.";

/// The line for the kernel, without the key.
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
            // The kernel's timeout ends first, so that its reason is reported.
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

    /// Returns the length of the longest form.
    pub(super) fn len(&self) -> usize {
        let key =
            |secret: &Secret| (SECRET.len() + secret.text().len()).max(KEY_OF_USER.len() + self.user.len());
        self.head.len() + self.tail.len() + self.secret.as_ref().map_or(0, key)
    }

    /// Adds the key to the calling thread's key ring and writes the line that refers to it. The
    /// line contains the key itself only if the kernel has no key rings. The
    /// kernel has copied the key when the write ends; the key in the ring is invalidated then.
    ///
    /// With the thread's key ring, no other process can use the key, nothing stays behind, and
    /// clusters with a user of the same name cannot be confused.
    pub(super) fn with_identity(&self, write: impl FnOnce(&[u8]) -> io::Result<()>) -> Result<(), LineError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.len()));
        bytes.extend_from_slice(self.head.as_bytes());
        let key = match &self.secret {
            Some(secret) => secret.add(&self.user).map_err(LineError::Key)?,
            None => None,
        };
        if key.is_some() {
            bytes.extend_from_slice(format!("{KEY_OF_USER}{}", self.user).as_bytes());
        } else if let Some(secret) = &self.secret {
            bytes.extend_from_slice(SECRET.as_bytes());
            bytes.extend_from_slice(secret.text().as_bytes());
        }
        bytes.extend_from_slice(self.tail.as_bytes());
        let written = write(&bytes)
            .map_err(|error| LineError::Write(Errno::from_io_error(&error).unwrap_or(Errno::EIO)));
        drop(key);
        written
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::Key;
    use crate::krbd::fixture::FakeHost;
    use crate::krbd::options::MapOptions;

    const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";

    /// A line that grew beyond its buffer would leave a copy of the key in freed memory.
    #[test]
    fn the_line_is_as_long_as_it_says() {
        // Both forms have the same length, whether or not this kernel has key rings.
        let user = "u".repeat(SECRET.len() + KEY.len() - KEY_OF_USER.len());
        for secret in [None, Some(Secret::new(&Key::new(KEY)).unwrap())] {
            let attach = Attach {
                host: FakeHost::new().host().clone(),
                spec: ImageSpec::new("volumes", "foo"),
                monitors: vec!["10.0.0.1:6789".into()],
                user: user.clone(),
                secret,
                options: MapOptions::new(),
                udev: true,
            };
            let line = Line::new(&attach, "tag", Deadline::after(Duration::from_secs(9)));
            let len = line.len();
            let written = line.with_identity(|bytes| {
                assert_eq!(bytes.len(), len);
                Ok(())
            });
            assert!(written.is_ok());
        }
    }
}
