//! Unmapping of devices.

use std::time::Duration;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::krbd::deadline::Deadline;
use crate::krbd::device::Device;
use crate::krbd::holders;
use crate::krbd::host::{failed, write_once};

/// Unmaps a device: see [`Device::unmap`](crate::krbd::Device::unmap).
#[derive(Debug, Clone)]
#[must_use = "nothing happens before run()"]
pub struct Unmap {
    device: Device,
    force: bool,
    timeout: Duration,
    busy_timeout: Duration,
}

const RETRY_EVERY: Duration = Duration::from_millis(250);

impl Unmap {
    pub(crate) fn new(device: Device) -> Unmap {
        Unmap { device, force: false, timeout: Duration::from_secs(30), busy_timeout: Duration::from_secs(5) }
    }

    /// Sets whether to unmap a device that is open or mounted. **Data that a mounted file system
    /// has not written yet is lost**, because all later requests fail. The kernel still waits for
    /// the requests in flight to the OSDs. Default: off. Needs Linux 4.9.
    pub fn force(mut self, force: bool) -> Unmap {
        self.force = force;
        self
    }

    /// Sets how long [`run`](Unmap::run) may take. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Unmap {
        self.timeout = timeout;
        self
    }

    /// Sets how long to retry while a process has the device open, as udev briefly does. Default: 5
    /// s. A mount, swap or a stacked device is reported at once.
    pub fn busy_timeout(mut self, timeout: Duration) -> Unmap {
        self.busy_timeout = timeout;
        self
    }

    /// Unmaps the device. Blocks while the kernel disconnects from the cluster, for at most the
    /// [`timeout`](Unmap::timeout).
    ///
    /// Fails with [`ErrorKind::Busy`] and the holders if the device is in use, and with
    /// [`ErrorKind::NotFound`] if it is not mapped or its number belongs to another mapping. Fails
    /// with [`ErrorKind::TimedOut`] if the cluster does not answer the kernel in time. The kernel
    /// then continues to wait, and the device disappears when the cluster answers. Until then, this
    /// process cannot end: one of its threads waits in the kernel, which ignores signals meanwhile.
    pub fn run(self) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        let retry = Deadline::after(self.busy_timeout.min(self.timeout));
        loop {
            self.device.check_same()?;
            match self.remove(deadline) {
                Err(error) if error.errno() == Some(Errno::EBUSY) => {
                    let holders = holders::find(&self.device, Deadline::after(Duration::from_secs(5)));
                    if retry.over() || holders.iter().any(holders::stays) {
                        return Err(self.busy(holders));
                    }
                    retry.sleep(RETRY_EVERY);
                }
                done => return done,
            }
        }
    }

    fn remove(&self, deadline: Deadline) -> Result<()> {
        let path = self.device.host().control("remove");
        let file = path.clone();
        let line = format!("{}{}", self.device.id(), if self.force { " force" } else { "" });
        let written = deadline.run("krbd-unmap", move || write_once(&file, line.as_bytes()), drop);
        written.and_then(|result| result).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::ETIMEDOUT) => Error::new("unmap", self.device.object(), Errno::ETIMEDOUT)
                .with_detail(
                    "the kernel still waits for the cluster, and continues to unmap; check that \
                     the OSDs are up",
                ),
            Some(Errno::ENOENT) if path.exists() => Error::new("unmap", self.device.object(), Errno::ENOENT)
                .with_detail("it is not mapped; it was unmapped meanwhile"),
            Some(errno @ (Errno::EBUSY | Errno::EPERM | Errno::EACCES | Errno::EINVAL)) if path.exists() => {
                let error = Error::new("unmap", self.device.object(), errno);
                match errno {
                    Errno::EBUSY => error,
                    Errno::EINVAL => {
                        error.with_detail("the kernel refused; kernels before 4.9 do not support force")
                    }
                    _ => error.with_detail("permission denied; unmapping requires root"),
                }
            }
            _ => failed("write", &path, &error),
        })
    }

    fn busy(&self, holders: Vec<Holder>) -> Error {
        let error = Error::new("unmap", self.device.object(), Errno::EBUSY);
        if holders.is_empty() {
            return error.with_detail(
                "it is in use, but the holder could not be determined; look in other mount and \
                 pid namespaces, or use force",
            );
        }
        let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
        error
            .with_kind(ErrorKind::Busy { holders })
            .with_detail(format!("it is in use: {}; end that use, or use force", names.join("; ")))
    }
}
