//! Adds a mapping to the kernel: writes a line, finds the device, waits for its node, and undoes
//! all of it if a step fails.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Result};
use crate::krbd::deadline::Deadline;
use crate::krbd::device::{Device, TAG};
use crate::krbd::host::{Host, write_once};
use crate::krbd::key::Secret;
use crate::krbd::kmsg::Kmsg;
use crate::krbd::line::{Line, LineError};
use crate::krbd::node;
use crate::krbd::options::MapOptions;
use crate::krbd::spec::LINE_LIMIT;
use crate::krbd::uevent::{Announcer, Uevent};
use crate::krbd::uevent_socket::{Received, UeventSocket};
use crate::spec::ImageSpec;

/// A mapping for the kernel to make.
pub(crate) struct Attach {
    pub(crate) host: Host,
    pub(crate) spec: ImageSpec,
    pub(crate) monitors: Vec<String>,
    /// Without `client.`.
    pub(crate) user: String,
    /// `None` if the cluster requires no authentication.
    pub(crate) secret: Option<Secret>,
    pub(crate) options: MapOptions,
    /// Whether to wait for udev, if it runs.
    pub(crate) udev: bool,
}

/// How long the removal of an incomplete mapping may take.
const ROLLBACK: Duration = Duration::from_secs(10);
/// How often sysfs and the device directory are checked while no event comes.
const POLL: Duration = Duration::from_millis(100);
/// How long udev may work on a device whose node is correct. Its events do not arrive if it runs in
/// another network namespace.
const UDEV_GRACE: Duration = Duration::from_secs(10);

impl Attach {
    /// Blocks until the device's node exists, or until the deadline.
    pub(crate) fn run(self, deadline: Deadline) -> Result<Device> {
        let before: HashSet<u32> = self.host.devices()?.iter().map(Device::id).collect();
        let tag = format!("{TAG}{:016x}", RandomState::new().build_hasher().finish());
        // A listener that starts after the add could miss the event.
        let socket = UeventSocket::open().ok();
        let started = SystemTime::now();
        let kmsg = Kmsg::from_now(&self.host);
        self.add(&tag, &before, deadline).map_err(|error| error.with_log(kmsg.lines()))?;
        let device = find(&self.host, &self.spec, &tag, &before).ok_or_else(|| {
            Error::new("map", self.spec.object(), Errno::ENODEV).with_kind(ErrorKind::Other).with_detail(
                "the kernel accepted the mapping, but no such device is found on its bus: it may \
                 have been unmapped concurrently, or may still be mapped; krbd::devices() lists \
                 all mappings",
            )
        })?;
        match self.wait(&device, socket.as_ref(), started, deadline) {
            Ok(()) => Ok(device),
            Err((errno, reason)) => Err(self.roll_back(&device, errno, &reason)),
        }
    }

    /// Writes to the kernel, which blocks until the kernel has opened the image.
    fn add(&self, tag: &str, before: &HashSet<u32>, deadline: Deadline) -> Result<()> {
        let line = Line::new(self, tag, deadline);
        if line.len() > LINE_LIMIT {
            return Err(Error::invalid(
                "map",
                self.spec.object(),
                format!(
                    "names, monitors and options have {} bytes, and the kernel accepts \
                     {LINE_LIMIT}; use fewer options or monitors",
                    line.len()
                ),
            ));
        }
        let file = self.host.control("add");
        let write = move || line.with_identity(|bytes| write_once(&file, bytes));
        let (host, spec, mark, known) =
            (self.host.clone(), self.spec.clone(), tag.to_owned(), before.clone());
        let too_late = move |written: Result<(), LineError>| {
            // The caller has stopped waiting for this mapping.
            if written.is_ok() {
                if let Some(device) = find(&host, &spec, &mark, &known) {
                    // udev may have it briefly open: this tries again.
                    let _ = device.unmap().timeout(ROLLBACK).run();
                }
            }
        };
        match deadline.run("krbd-map", write, too_late) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refused)) => Err(self.explain(&refused)),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::ETIMEDOUT) => {
                Err(Error::new("map", self.spec.object(), Errno::ETIMEDOUT)
                    .with_kind(ErrorKind::TimedOut)
                    .with_detail(
                        "the kernel got no answer from the cluster in time; nothing is mapped, and a \
                     late mapping is undone at once; check that monitors and OSDs are up and \
                     reachable from this machine",
                    ))
            }
            Err(error) => Err(Error::new(
                "map",
                self.spec.object(),
                Errno::from_io_error(&error).unwrap_or(Errno::EAGAIN),
            )
            .with_detail(format!("no thread could be started for it: {error}"))),
        }
    }

    /// Explains the kernel's errno.
    fn explain(&self, refused: &LineError) -> Error {
        let hint = self.secret.as_ref().map_or("", Secret::hint);
        let errno = match *refused {
            LineError::Key(errno) => {
                return Error::new("give the kernel the key for", self.spec.object(), errno)
                    .with_kind(ErrorKind::PermissionDenied)
                    .with_detail(format!(
                        "add_key(2) failed; a container's seccomp profile may forbid it{hint}"
                    ));
            }
            LineError::Write(errno) => errno,
        };
        let error = Error::new("map", self.spec.object(), errno);
        match errno {
            Errno::ENXIO => error.with_kind(ErrorKind::NotSupported).with_detail(
                "the image has features that this kernel does not support (image feature set mismatch); \
                 disable them, or let `krbd::map` do so with `fix_features(true)`",
            ),
            Errno::ENOENT => error.with_detail(
                "the pool, namespace, image or snapshot does not exist; check the names, and that the \
                 monitors are those of its cluster",
            ),
            Errno::EACCES | Errno::EPERM | Errno::EKEYREJECTED | Errno::ENOKEY => {
                error.with_kind(ErrorKind::PermissionDenied).with_detail(format!(
                    "the cluster refused user client.{}, or this process may not map; check its \
                     key and capabilities (mon 'profile rbd', osd 'profile rbd pool=…'){hint}",
                    self.user
                ))
            }
            Errno::EROFS => error.with_kind(ErrorKind::Busy { holders: Vec::new() }).with_detail(
                "another client holds the image's exclusive lock and does not give it up; unmap \
                 it there, or map it read-only",
            ),
            Errno::EINVAL => error.with_kind(ErrorKind::InvalidInput).with_detail(self.options.why_refused()),
            Errno::ESHUTDOWN => error.with_detail(
                "the kernel's client is fenced (blocklisted), and mappings of one cluster and user share \
                 it; unmap all of them, or map with the option `noshare`",
            ),
            Errno::ETIMEDOUT | Errno::EIO => error.with_kind(ErrorKind::TimedOut).with_detail(
                "the kernel got no answer from the cluster; check that the monitors are up and \
                 reachable from this machine, and that ms_mode fits their ports",
            ),
            _ => error,
        }
    }

    /// Waits until the node exists and is the device, and udev has processed it. Checks the state;
    /// events only trigger the check.
    fn wait(
        &self,
        device: &Device,
        socket: Option<&UeventSocket>,
        started: SystemTime,
        deadline: Deadline,
    ) -> Result<(), (Errno, String)> {
        let mut udev_pending = self.udev && self.host.has_udev();
        let mut udev_deadline = None;
        let (major, minor) = device.number();
        let record = self.host.run_path().join(format!("udev/data/b{major}:{minor}"));
        loop {
            let ready = node::verify(device)
                .map_err(|error| (error.errno().unwrap_or(Errno::EIO), error.to_string()))?;
            udev_pending = udev_pending
                && !record
                    .metadata()
                    .and_then(|file| file.modified())
                    .is_ok_and(|written| written >= started);
            if ready {
                let grace = *udev_deadline.get_or_insert_with(|| Deadline::after(UDEV_GRACE));
                if !udev_pending || grace.over() {
                    return Ok(());
                }
            }
            if deadline.over() {
                let path = device.path();
                return Err((
                    Errno::ETIMEDOUT,
                    if ready {
                        format!("udev has not finished with {}", path.display())
                    } else {
                        format!(
                            "{} did not appear; in a container without devtmpfs name the host's \
                             device directory",
                            path.display()
                        )
                    },
                ));
            }
            let message = match socket {
                Some(socket) => socket.receive(deadline.left().min(POLL)),
                None => Received::Unusable,
            };
            match message {
                Received::Message(bytes) => {
                    let event = Uevent::parse(&bytes);
                    if event
                        .is_some_and(|event| event.source == Announcer::Udev && event.announces(major, minor))
                    {
                        udev_pending = false;
                    }
                }
                Received::Nothing => {}
                Received::Unusable => deadline.sleep(POLL),
            }
        }
    }

    fn roll_back(&self, device: &Device, errno: Errno, reason: &str) -> Error {
        let undone = device.unmap().timeout(ROLLBACK).run();
        let outcome = match undone {
            Ok(()) => "the mapping was undone".to_owned(),
            Err(error) => format!("and the mapping could not be undone: {error}"),
        };
        let error = Error::new("map", self.spec.object(), errno);
        let kind = if errno == Errno::ETIMEDOUT { ErrorKind::TimedOut } else { ErrorKind::Other };
        error.with_kind(kind).with_detail(format!("{reason}; {outcome}"))
    }
}

/// Finds the device of this line. Kernels before 4.9 keep no copy of the line, so only the name
/// identifies it.
fn find(host: &Host, spec: &ImageSpec, tag: &str, before: &HashSet<u32>) -> Option<Device> {
    let devices = host.devices().ok()?;
    if let Some(device) = devices.iter().find(|device| device.tag() == Some(tag)) {
        return Some(device.clone());
    }
    let mut nameless = devices
        .into_iter()
        .filter(|device| device.tag().is_none() && device.spec() == spec && !before.contains(&device.id()));
    match (nameless.next(), nameless.next()) {
        (Some(device), None) => Some(device),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::FileTypeExt;
    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::cluster::Key;
    use crate::krbd::fixture::FakeHost;

    const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";

    fn attach(fake: &FakeHost) -> Attach {
        Attach {
            host: fake.host().clone(),
            spec: ImageSpec::new("volumes", "foo").namespace("team").snapshot("s"),
            monitors: vec!["10.0.0.1:3300".into(), "10.0.0.2:3300".into()],
            user: "node".into(),
            secret: Some(Secret::new(&Key::new(KEY)).unwrap()),
            options: MapOptions::new().read_only(true),
            udev: true,
        }
    }

    #[test]
    fn the_line_has_the_kernels_form_and_refers_to_the_key() {
        let fake = FakeHost::new();
        fake.file("sys/bus/rbd/add_single_major", "");
        let error = attach(&fake).run(Deadline::after(Duration::from_secs(31))).unwrap_err();
        assert!(error.to_string().contains("no such device is found"), "{error}");
        let line = fs::read_to_string(fake.host().bus().join("add_single_major")).unwrap();
        // This machine's kernel may have no key rings for Ceph: then the line contains the key
        // itself.
        let line = line.replace(&format!("secret={KEY}"), "key=client.node");
        let (line, tag) = line.rsplit_once(' ').unwrap();
        assert_eq!(
            line,
            "10.0.0.1:3300,10.0.0.2:3300 name=node,key=client.node,mount_timeout=29,ms_mode=prefer-crc,ro,\
             _pool_ns=team volumes foo s"
        );
        assert!(tag.starts_with(TAG) && tag.len() == TAG.len() + 16, "{tag}");
        assert!(!error.to_string().contains(KEY));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused() {
        let fake = FakeHost::new();
        fake.file("sys/bus/rbd/add", "");
        let long = Attach { spec: ImageSpec::new("rbd", "x".repeat(LINE_LIMIT)), ..attach(&fake) };
        let error = long.run(Deadline::after(Duration::from_secs(9))).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidInput);
        assert_eq!(fs::read_to_string(fake.host().bus().join("add")).unwrap(), "");
    }

    /// Simulates a slow kernel: opening a FIFO blocks until a reader opens it.
    #[test]
    fn what_the_kernel_does_after_the_deadline_is_undone() {
        let fake = FakeHost::new();
        let fifo = fake.host().bus().join("add");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
        fake.file("sys/bus/rbd/remove", "");
        let spec = attach(&fake).spec;
        fake.map(3, &spec);

        let start = Instant::now();
        let error = attach(&fake).run(Deadline::after(Duration::from_millis(200))).unwrap_err();
        assert!(error.is_timed_out() && start.elapsed() < Duration::from_secs(5), "{error}");

        fake.map(4, &spec);
        fake.file("sys/bus/rbd/devices/4/config_info", "without a mark");
        let line = fs::read_to_string(&fifo).unwrap();
        assert!(line.contains(" volumes foo s "), "{line}");
        let removed = || fs::read_to_string(fake.host().bus().join("remove")).unwrap();
        while removed().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "the late mapping was not removed");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(removed(), "4", "the one that was there before stays");
    }

    #[test]
    fn a_node_that_does_not_come_rolls_the_mapping_back() {
        let fake = FakeHost::new();
        fake.file("sys/bus/rbd/remove", "");
        let attach = attach(&fake);
        fake.map(5, &attach.spec);
        let device = fake.host().device_by_id(5).unwrap();
        let soon = Deadline::after(Duration::from_millis(50));
        let (errno, reason) = attach.wait(&device, None, SystemTime::now(), soon).unwrap_err();
        let error = attach.roll_back(&device, errno, &reason);
        assert!(error.is_timed_out(), "{error}");
        assert!(
            error.to_string().contains("did not appear") && error.to_string().contains("was undone"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(fake.host().bus().join("remove")).unwrap(), "5");

        fs::remove_file(fake.host().bus().join("remove")).unwrap();
        let error = attach.roll_back(&device, errno, &reason);
        assert!(error.to_string().contains("could not be undone"), "{error}");
    }

    #[test]
    fn a_false_node_is_refused_at_once() {
        let fake = FakeHost::new();
        let attach = attach(&fake);
        fake.map(6, &attach.spec);
        fake.node("rbd6", "/dev/null");
        let device = fake.host().device_by_id(6).unwrap();
        let (errno, reason) = attach
            .wait(&device, None, SystemTime::now(), Deadline::after(Duration::from_secs(60)))
            .unwrap_err();
        assert_eq!(errno, Errno::ENODEV);
        assert!(reason.contains("not a block device"), "{reason}");
    }

    #[test]
    fn of_several_only_our_own_is_found() {
        let fake = FakeHost::new();
        let spec = ImageSpec::new("rbd", "foo");
        fake.map(0, &spec);
        fake.map(1, &spec);
        fake.file("sys/bus/rbd/devices/1/config_info", "m name=a rbd foo - rbd-rs:aa");
        fake.map(2, &spec);
        fake.file("sys/bus/rbd/devices/2/config_info", "m name=a rbd foo - rbd-rs:bb");
        let found = |tag, before: &[u32]| {
            find(fake.host(), &spec, tag, &before.iter().copied().collect()).map(|device| device.id())
        };
        assert_eq!(found("rbd-rs:bb", &[]), Some(2));
        assert_eq!(found("rbd-rs:cc", &[]), Some(0), "an old kernel, and the only new one without a mark");
        assert_eq!(found("rbd-rs:cc", &[0]), None);
    }
}
