//! The kernel's log lines, which explain its error numbers.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::krbd::host::Host;

/// The kernel's log from a point in time.
pub(crate) struct Kmsg(Option<File>);

impl Kmsg {
    /// Starts to collect lines. There are none if the log cannot be read.
    pub(crate) fn from_now(host: &Host) -> Kmsg {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(host.dev_path().join("kmsg"))
            .and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file));
        Kmsg(file.ok())
    }

    /// Returns the lines of rbd and its client since then. May include lines of concurrent
    /// mappings.
    pub(crate) fn lines(self) -> Vec<String> {
        self.0.map_or_else(Vec::new, |mut file| read_all(|record| file.read(record)))
    }
}

/// Reads records until there are no more. `read` returns one record at a time.
fn read_all(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    // A limit stops reading during a flood of lines.
    for _ in 0..1000 {
        match read(&mut record) {
            Ok(0) => break,
            Ok(len) => lines.extend(parse(&record[..len])),
            // EPIPE: records were overwritten before they were read; the next read continues after
            // them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_) => break,
        }
    }
    lines
}

/// Parses one record, `6,1234,5678,-;rbd: rbd0: …`, if it comes from rbd or libceph.
pub(crate) fn parse(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.split_once(';')?;
    let line = message.lines().next()?.trim_end();
    (line.starts_with("rbd: ") || line.starts_with("libceph: ")).then(|| format!("kernel: {line}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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

    #[test]
    fn lost_records_do_not_end_the_reading_and_other_errors_do() {
        let record = b"4,1,1,-;rbd: a line\n";
        let lines_after = |second: libc::c_int| {
            let mut calls = 0;
            read_all(|buffer| {
                calls += 1;
                match calls {
                    1 | 3 => {
                        buffer[..record.len()].copy_from_slice(record);
                        Ok(record.len())
                    }
                    2 => Err(io::Error::from_raw_os_error(second)),
                    _ => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
                }
            })
        };
        assert_eq!(lines_after(libc::EPIPE).len(), 2);
        assert_eq!(lines_after(libc::EAGAIN).len(), 1);
    }

    #[test]
    fn only_lines_since_the_start_are_read() {
        let fake = FakeHost::new();
        fake.file("dev/kmsg", "4,1,1,-;rbd: before\n");
        let log = Kmsg::from_now(fake.host());
        let mut file = OpenOptions::new().append(true).open(fake.host().dev_path().join("kmsg")).unwrap();
        file.write_all(b"4,2,2,-;rbd: after\n").unwrap();
        assert_eq!(log.lines(), ["kernel: rbd: after"]);
    }
}
