//! Reads without a copy.

use std::ops::ControlFlow;

use super::Image;
use crate::errno::Errno;
use crate::error::Result;
use crate::image::io::Lost;
use crate::raw::op::kind::Kind;
use crate::raw::thread::mark::must_not_call;

impl Image {
    /// Reads a range, and calls back with the offset and the data of each part, in order of offset.
    /// A part has at most 4 MiB. Holes are zeros. A break ends the call with
    /// [`ErrorKind::Stopped`](crate::ErrorKind::Stopped). Refuses a range beyond the end of the
    /// image. Blocks; the [call timeout](crate::ClusterBuilder::call_timeout) starts again with
    /// each part.
    ///
    /// The callback gets the memory into which librbd received the data. Other reads copy the data
    /// from there. So this is the fastest way to read large amounts of data, for example for an
    /// export. A call reads one part after the other: make several calls at the same time, each on
    /// its own thread and with 2 MiB of the image, to have several reads in flight.
    ///
    /// ```no_run
    /// # let image = rbd::Cluster::connect()?.ioctx("rbd")?.open("foo").run()?;
    /// use std::ops::ControlFlow;
    /// let mut sum = 0_u64;
    /// image.read_each(0, image.size()?, |_offset, data| {
    ///     sum += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    ///     ControlFlow::Continue(())
    /// })?;
    /// # Ok::<(), rbd::Error>(())
    /// ```
    ///
    /// The callback runs on this thread while librbd holds a lock of the image. So calls inside it
    /// fail with EDEADLK, and changes of the image wait until it returns. The callback must not
    /// wait for a thread that uses an image that is open for writing.
    ///
    /// Implements: `rbd_read_iterate2`.
    #[doc(alias = "rbd_read_iterate")]
    #[doc(alias = "rbd_read_iterate2")]
    pub fn read_each(
        &self,
        offset: u64,
        len: u64,
        each: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check_range(Kind::Read, offset, len)?;
        let timeout = self.ioctx.cluster().raw().call_timeout();
        let outcome = if must_not_call() {
            Err(Errno::EDEADLK)
        } else {
            self.raw.read_each(offset, len, timeout, each)
        };
        let lost = match outcome {
            Ok(Some(Ok(()))) => return Ok(()),
            Ok(Some(Err(fault))) => Lost::Failed(fault),
            Ok(None) => Lost::GivenUp(timeout.unwrap_or_default()),
            Err(errno) => Lost::Failed(errno.into()),
        };
        Err(lost.error(|fault| self.explain_failure(Kind::Read, offset, len, fault), false))
    }
}
