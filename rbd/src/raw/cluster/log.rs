//! The client's log, so that errors can carry librbd's own reasons.
//!
//! Ceph writes its log to a file named by an option. Ours is an anonymous file in memory: no thread, no name in a file
//! system, gone with the process. It is read only when a call failed, and emptied when it has grown.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::errno::Errno;
use crate::raw::RawResult;

/// The log is emptied when a call finds it longer than this, in bytes.
const KEEP: u64 = 256 * 1024;
/// No error carries more lines than this.
const MOST_LINES: usize = 16;
/// How long a failing call waits for the log thread to write: lines follow within microseconds, as a rule.
pub(crate) const PATIENCE: Duration = Duration::from_millis(3);

/// A log in memory.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn new() -> RawResult<Log> {
        // SAFETY: the name is a C string; the flags are those of the call.
        let fd = unsafe { libc::memfd_create(c"ceph-client-log".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(Errno::last());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Log(unsafe { File::from_raw_fd(fd) }))
    }

    /// The path under which Ceph can open it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    /// Where the lines of a call that is about to start will begin.
    pub(crate) fn mark(&self) -> u64 {
        match self.0.metadata() {
            Ok(meta) if meta.len() > KEEP => {
                let _ = self.0.set_len(0);
                0
            }
            Ok(meta) => meta.len(),
            Err(_) => 0,
        }
    }

    /// The messages logged since `mark`, without their time stamps and thread numbers.
    pub(crate) fn since(&self, mark: u64) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let lines = self.written_since(mark);
            if !lines.is_empty() || Instant::now() >= deadline {
                return lines;
            }
            std::thread::sleep(PATIENCE / 10);
        }
    }

    /// [`since`](Log::since), of what has been written by now.
    pub(crate) fn written_since(&self, mark: u64) -> Vec<String> {
        messages(&self.text(mark).unwrap_or_default())
    }

    fn text(&self, mark: u64) -> io::Result<String> {
        let end = self.0.metadata()?.len();
        // The log is shared by the calls of one connection: another one may have emptied it since.
        let start = if mark > end { 0 } else { mark };
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.0.read_at(&mut bytes[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The messages of log lines such as `2026-11-23T20:14:31.712+0000 7f1e52f55040 -1 librbd: why`, each once.
fn messages(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(time), Some(_thread), Some(rest)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        if !time.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        let rest = rest.trim_start();
        let message = rest.split_once(' ').map_or("", |(_level, message)| message).trim();
        if !message.is_empty()
            && lines.len() < MOST_LINES
            && !lines.iter().any(|seen| *seen == without_keys(message))
        {
            lines.push(without_keys(message));
        }
    }
    lines
}

/// Ceph shows a key that it does not understand, which may be a good one of a newer type: as `val=KEY`, or as `key 'KEY'`.
fn without_keys(message: &str) -> String {
    let mut before = "";
    let word = |word| {
        let quoted = std::mem::replace(&mut before, word) == "key" && word.starts_with('\'');
        match word.split_once('=') {
            _ if quoted => "'…'".to_owned(),
            Some(("val", value)) => format!("val=…{}", if value.ends_with(':') { ":" } else { "" }),
            _ => word.to_owned(),
        }
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn keys_are_not_taken_over() {
        for (line, shown) in [
            (
                "error setting modifier for [a] type=key val=AgBg==: why",
                "error setting modifier for [a] type=key val=…: why",
            ),
            ("auth: failed to decode key 'AgBg=='", "auth: failed to decode key '…'"),
            ("librbd: rbd image 'key' already exists", "librbd: rbd image 'key' already exists"),
        ] {
            assert_eq!(without_keys(line), shown);
        }
    }

    #[test]
    fn reads_what_came_since_the_mark() {
        let log = Log::new().unwrap();
        let mut ceph = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        writeln!(ceph, "2026-11-23T20:14:31.712+0000 7f1e52f55040 -1 librbd: before").unwrap();
        let mark = log.mark();
        writeln!(ceph, "2026-11-23T20:14:31.712+0000 7f1e52f55040  0 librbd: why").unwrap();
        writeln!(ceph, "2026-11-23T20:14:31.713+0000 7f1e52f55040 -1 librbd: why").unwrap();
        writeln!(ceph, "continued line").unwrap();
        assert_eq!(log.since(mark), ["librbd: why"]);
    }

    #[test]
    fn is_emptied_when_long_and_a_stale_mark_does_no_harm() {
        let log = Log::new().unwrap();
        let mut ceph = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        ceph.write_all(&vec![b'x'; KEEP as usize + 1]).unwrap();
        assert_eq!(log.mark(), 0);
        writeln!(ceph, "2026-11-23T20:14:31.712+0000 7f -1 librbd: why").unwrap();
        assert_eq!(log.since(KEEP), ["librbd: why"]);
    }
}
