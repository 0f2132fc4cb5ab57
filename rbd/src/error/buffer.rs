//! Hands back the buffer of an operation that a queue refused.

use std::fmt;

use super::Error;
use crate::buffer::Buffer;

/// The buffer that an error carries.
#[derive(Default)]
pub(super) struct Carried(Buffer);

/// Without the data.
impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 == Buffer::None { "None" } else { "…" })
    }
}

impl Error {
    pub(crate) fn with_buffer(mut self, buffer: Buffer) -> Error {
        self.0.buffer = Carried(buffer);
        self
    }

    /// Returns the buffer of an operation that a [queue](crate::Queue) refused. The error then no
    /// longer holds it. Returns [`Buffer::None`] on a second call, and for all other errors.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// # let mut queue = rbd::Queue::new(image, 32)?;
    /// let mut data = rbd::queue::Buffer::from("hello ceph");
    /// while let Err(mut error) = queue.write(7, 0, data) {
    ///     if !error.is_queue_full() {
    ///         return Err(error);
    ///     }
    ///     data = error.take_buffer();
    ///     queue.wait(None)?;
    ///     queue.reap();
    /// }
    /// # Ok::<(), rbd::Error>(())
    /// ```
    pub fn take_buffer(&mut self) -> Buffer {
        std::mem::take(&mut self.0.buffer).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno::Errno;
    use crate::error::{Object, ObjectKind};

    #[test]
    fn a_buffer_is_handed_back_once_and_not_shown() {
        let error = || Error::new("write to", Object::new(ObjectKind::Image, "foo"), Errno::EBUSY);
        let mut full = error().with_buffer(Buffer::from("a secret"));
        assert_eq!(format!("{:?} {:?}", error().0.buffer, full.0.buffer), "None …");
        assert_eq!(full.take_buffer(), Buffer::from("a secret"));
        assert_eq!(full.take_buffer(), Buffer::None);
    }
}
