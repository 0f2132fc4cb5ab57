//! Waiting until a thread of Ceph has nothing to do.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::thread::Pid;

/// The time between two checks.
const PAUSE: Duration = Duration::from_micros(500);

/// How many checks in a row must find the thread in the same sleep.
const LOOKS: u32 = 3;

/// The longest time to wait.
const LIMIT: Duration = Duration::from_secs(10);

/// How long to wait instead if `/proc` does not show the thread.
const BLIND: Duration = Duration::from_millis(100);

/// Returns how often the thread has gone to sleep, if it sleeps now.
fn asleep(status: &str) -> Option<u64> {
    let value = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let sleeps = value("State:")?.starts_with('S');
    value("voluntary_ctxt_switches:")?.parse().ok().filter(|_| sleeps)
}

/// Waits until a thread of this process sleeps and goes on sleeping. A thread that waits for a
/// processor does not count as asleep. Blocks, but not longer than the limit.
pub(crate) fn wait(thread: Pid) {
    let path = format!("/proc/self/task/{}/status", thread.as_raw_nonzero());
    let end = Instant::now() + LIMIT;
    let (mut before, mut same) = (None, 0);
    while same < LOOKS && Instant::now() < end {
        let Ok(status) = fs::read_to_string(&path) else { return sleep(BLIND) };
        let now = asleep(&status);
        same = if now.is_some() && now == before { same + 1 } else { 0 };
        before = now;
        sleep(PAUSE);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    #[test]
    fn only_a_sleeping_thread_is_asleep() {
        let status = "Name:\ttp_librbd\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t7\nnon";
        assert_eq!(asleep(status), Some(7));
        assert_eq!(asleep(&status.replace("S (", "R (")), None);
        assert_eq!(asleep("State:\tS (sleeping)\n"), None);
    }

    #[test]
    fn waits_for_a_thread_that_is_busy() {
        let (tell, told) = mpsc::channel();
        let (go, wait_for_it) = mpsc::channel::<()>();
        let slept = Arc::new(AtomicBool::new(false));
        let sleeps = Arc::clone(&slept);
        let busy = thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            let end = Instant::now() + Duration::from_millis(300);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            sleeps.store(true, Ordering::SeqCst);
            let _ = wait_for_it.recv();
        });
        wait(told.recv().unwrap());
        assert!(slept.load(Ordering::SeqCst));
        drop(go);
        busy.join().unwrap();
    }
}
