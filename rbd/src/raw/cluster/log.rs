//! The client's log, so that errors can carry librbd's own reasons.
//!
//! Ceph writes its log to a file that an option names. This crate gives it an anonymous file in
//! memory, which has no name in a file system and ends with the process. The file is read only
//! after a call has failed. Only its end is kept. One thread for all connections frees the memory
//! of the rest, because a program that uses only asynchronous I/O makes no call that could do so.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::raw::RawResult;
use crate::raw::ffi::conversion::system_errno;

/// How many bytes at the end of the log are kept. No more than this is read.
const KEEP: u64 = 256 * 1024;
/// Freed parts still count in the file's size. At this size the file is emptied, before it reaches
/// any limit on the size of files.
const MOST_BYTES: u64 = 1 << 30;
/// How long the thread sleeps: the first value after a log has grown by more than is kept, the
/// second otherwise.
const NAPS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// The most lines that an error contains.
const MOST_LINES: usize = 16;
/// How long a failed call waits for Ceph's log thread to write. Lines usually follow within
/// microseconds.
pub(crate) const PATIENCE: Duration = Duration::from_millis(3);

/// A log in memory.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<File>);

/// The id of the process that runs the thread (its forks do not have the thread), and the logs that
/// the thread shortens.
static KEPT: Mutex<(u32, Vec<Weak<File>>)> = Mutex::new((0, Vec::new()));

impl Log {
    pub(crate) fn new() -> RawResult<Log> {
        let file = memfd_create("ceph-client-log", MemfdFlags::CLOEXEC).map_err(system_errno)?;
        let file = Arc::new(File::from(file));
        keep_short(&file);
        Ok(Log(file))
    }

    /// Returns the path by which Ceph can open it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    /// Returns the position at which the lines of a call that starts now will begin.
    pub(crate) fn mark(&self) -> u64 {
        self.0.metadata().map_or(0, |meta| meta.len())
    }

    /// Returns the messages logged since `mark`, without time stamps and thread numbers.
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

    /// Like [`since`](Log::since), but does not wait for lines that are not written yet.
    pub(crate) fn written_since(&self, mark: u64) -> Vec<String> {
        messages(&self.text(mark).unwrap_or_default())
    }

    fn text(&self, mark: u64) -> io::Result<String> {
        let end = self.0.metadata()?.len();
        // The log may have been emptied since.
        let start = if mark > end { 0 } else { mark };
        let cut = start < end.saturating_sub(KEEP);
        let start = if cut { end - KEEP } else { start };
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
        let text = String::from_utf8_lossy(&bytes);
        // If the text was cut, its first line may lack its beginning.
        Ok(if cut {
            text.split_once('\n').map_or("", |(_, rest)| rest).to_owned()
        } else {
            text.into_owned()
        })
    }
}

/// Has the thread shorten a log until the log is dropped. If no thread can be started, the log
/// grows without a limit.
fn keep_short(log: &Arc<File>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    if kept.0 != process {
        *kept = (process, Vec::new());
    }
    kept.1.push(Arc::downgrade(log));
    if kept.1.len() == 1 {
        let spawned = std::thread::Builder::new().name("rbd-log".into()).spawn(keep_all_short);
        if spawned.is_err() {
            // The next connection tries again.
            kept.1.clear();
        }
    }
}

fn keep_all_short() {
    let mut nap = NAPS[1];
    loop {
        std::thread::sleep(nap);
        nap = NAPS[1];
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.retain(|log| {
            let Some(log) = log.upgrade() else { return false };
            if shorten(&log) {
                nap = NAPS[0];
            }
            true
        });
        if kept.1.is_empty() {
            return;
        }
    }
}

/// Frees the memory of all but the end. Returns whether the log had grown by more than is kept.
fn shorten(log: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = log.metadata() else { return false };
    let (len, held) = (meta.len(), meta.blocks() * 512);
    if len > MOST_BYTES {
        let _ = log.set_len(0);
        return true;
    }
    if held <= 2 * KEEP {
        return false;
    }
    let (hole, end) = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, len.saturating_sub(KEEP));
    // SAFETY: no memory is passed. If it fails, the log keeps its length.
    unsafe { libc::fallocate(log.as_raw_fd(), hole, 0, i64::try_from(end).unwrap_or(i64::MAX)) };
    true
}

/// Returns the distinct messages of log lines such as `2026-11-23T20:14:31.712+0000 7f1e52f55040 -1
/// librbd: why`.
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

/// Hides keys. Ceph logs a key that it cannot parse, which may be a valid key of a newer type, as
/// `val=KEY` or `key 'KEY'`.
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
    fn only_the_end_is_kept_and_read() {
        let log = Log::new().unwrap();
        let mut ceph = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        writeln!(ceph, "2026-11-23T20:14:31.712+0000 7f -1 librbd: first").unwrap();
        let line = "2026-11-23T20:14:31.712+0000 7f -1 librbd: again\n".repeat(1 << 16);
        ceph.write_all(line.as_bytes()).unwrap();
        writeln!(ceph, "2026-11-23T20:14:31.712+0000 7f -1 librbd: why").unwrap();
        let held = || std::os::unix::fs::MetadataExt::blocks(&log.0.metadata().unwrap()) * 512;
        let end = Instant::now() + Duration::from_secs(20);
        while held() > 2 * KEEP {
            assert!(Instant::now() < end, "{} bytes", held());
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(log.since(0), ["librbd: again", "librbd: why"]);
        assert!(log.mark() > KEEP, "marks go on");
        assert_eq!(log.since(log.mark()), [""; 0]);
    }

    #[test]
    fn a_stale_mark_does_no_harm() {
        let log = Log::new().unwrap();
        let mut ceph = std::fs::OpenOptions::new().append(true).open(log.path()).unwrap();
        writeln!(ceph, "2026-11-23T20:14:31.712+0000 7f -1 librbd: why").unwrap();
        assert_eq!(log.since(KEEP), ["librbd: why"]);
    }
}
