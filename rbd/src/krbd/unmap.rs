//! Undoing a mapping.

use std::time::Duration;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Holder;
use crate::krbd::deadline::Deadline;
use crate::krbd::device::Device;
use crate::krbd::holders;
use crate::krbd::host::{failed, write_once};

/// Undoing a mapping, to be started by [`run`](Unmap::run).
#[derive(Debug, Clone)]
#[must_use = "nothing happens before run()"]
pub struct Unmap {
    device: Device,
    force: bool,
    timeout: Duration,
    retry_busy: Duration,
}

const RETRY_EVERY: Duration = Duration::from_millis(250);

impl Unmap {
    pub(crate) fn new(device: Device) -> Unmap {
        Unmap { device, force: false, timeout: Duration::from_secs(30), retry_busy: Duration::from_secs(5) }
    }

    /// Unmap it even though it is open or mounted: what is written from then on fails. The kernel
    /// still waits for what is on its way to the OSDs.
    pub fn force(mut self, on: bool) -> Unmap {
        self.force = on;
        self
    }

    /// The longest time that [`run`](Unmap::run) may take (30 s by default).
    pub fn timeout(mut self, time: Duration) -> Unmap {
        self.timeout = time;
        self
    }

    /// How long to try again while a process has the device open (5 s by default), as udev does for
    /// a moment. A mount, swap or a device on top does not end by itself and is reported at once.
    pub fn retry_busy(mut self, time: Duration) -> Unmap {
        self.retry_busy = time;
        self
    }

    /// Unmaps. Blocks while the kernel takes leave of the cluster, at most for the
    /// [`timeout`](Unmap::timeout).
    ///
    /// Fails with [`ErrorKind::Busy`] and the holders where the device is in use; with
    /// [`ErrorKind::NotFound`] where it is not mapped any more, or its number belongs to another
    /// mapping now; with [`ErrorKind::TimedOut`] where the kernel waits for the cluster: then it
    /// goes on with it, and the device disappears when the cluster answers. The kernel heeds no
    /// signal in that wait, so until then a thread of this process stays there, and the process can
    /// be left, but not end.
    pub fn run(self) -> Result<()> {
        let deadline = Deadline::after(self.timeout);
        let retry = Deadline::after(self.retry_busy.min(self.timeout));
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
        written.and_then(|result| result).map_err(|error| match Errno::of(&error) {
            Some(Errno::ETIMEDOUT) => Error::new("unmap", self.device.object(), Errno::ETIMEDOUT)
                .with_detail(
                    "the kernel still waits for the cluster, and goes on with it; check that its OSDs are up",
                ),
            Some(Errno::ENOENT) if path.exists() => Error::new("unmap", self.device.object(), Errno::ENOENT)
                .with_detail("it is not mapped any more"),
            Some(errno @ (Errno::EBUSY | Errno::EPERM | Errno::EACCES | Errno::EINVAL)) if path.exists() => {
                let error = Error::new("unmap", self.device.object(), errno);
                match errno {
                    Errno::EBUSY => error,
                    Errno::EINVAL => {
                        error.with_detail("the kernel refused; before 4.9 it does not know force")
                    }
                    _ => error.with_detail("this process may not unmap: it takes root"),
                }
            }
            _ => failed("write", &path, &error),
        })
    }

    fn busy(&self, holders: Vec<Holder>) -> Error {
        let error = Error::new("unmap", self.device.object(), Errno::EBUSY);
        if holders.is_empty() {
            return error.with_detail(
                "it is in use, by whom could not be found out: look in other mount and pid namespaces, or use force",
            );
        }
        let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
        error
            .with_kind(ErrorKind::Busy { holders })
            .with_detail(format!("it is in use: {}; end that use, or use force", names.join("; ")))
    }
}
