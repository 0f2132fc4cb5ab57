//! What the kernel logged meanwhile: the reasons that its error numbers leave out.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::krbd::host::Host;

/// The kernel's log from a moment on.
pub(crate) struct Kmsg(Option<File>);

impl Kmsg {
    /// From now on. Where the log cannot be read there will be no lines.
    pub(crate) fn from_now(host: &Host) -> Kmsg {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(host.dev_path().join("kmsg"))
            .and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Kmsg(file.ok())
    }

    /// The lines of rbd and its client since then. Those of other mappings made in the same moment
    /// may be among them.
    pub(crate) fn lines(self) -> Vec<String> {
        let Some(mut file) = self.0 else { return Vec::new() };
        let mut lines = Vec::new();
        let mut record = [0; 8192];
        // A flood of lines is no reason to stay here.
        for _ in 0..1000 {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(len) => lines.extend(parse(&record[..len])),
                // EPIPE: records were overwritten before we read them; the next read goes on after
                // them.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(_) => break,
            }
        }
        lines
    }
}

/// One record, `6,1234,5678,-;rbd: rbd0: …`, if it comes from rbd or libceph.
pub(crate) fn parse(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.split_once(';')?;
    let line = message.lines().next()?.trim_end();
    (line.starts_with("rbd: ") || line.starts_with("libceph: ")).then(|| format!("kernel: {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::krbd::fixture::FakeHost;

    #[test]
    fn only_our_drivers_lines_are_kept() {
        assert_eq!(
            parse(b"4,812,99,-;rbd: image foo: image uses unsupported features: 0x40\n SUBSYSTEM=rbd\n"),
            Some("kernel: rbd: image foo: image uses unsupported features: 0x40".into())
        );
        assert_eq!(parse(b"6,1,2,-;libceph: mon0 down").as_deref(), Some("kernel: libceph: mon0 down"));
        assert_eq!(parse(b"6,1,2,-;usb 1-1: new device"), None);
        assert_eq!(parse(b"\xff\xfe"), None);
    }

    #[test]
    fn a_log_that_cannot_be_read_is_empty() {
        let fake = FakeHost::new();
        assert!(Kmsg::from_now(fake.host()).lines().is_empty());
    }
}
