//! One thread that wakes tasks at their deadlines.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Instant;

use crate::raw::thread::catch_panic::catch_panic;
use crate::raw::thread::mark::CallbackMark;

type Key = (Instant, u64);

/// Wakes a task at a deadline, unless it is dropped before.
#[derive(Debug)]
pub(crate) struct Alarm(Key);

struct Timer {
    alarms: BTreeMap<Key, Waker>,
    next: u64,
    /// The process that has the timer thread: a fork of it has none.
    keeper: Option<u32>,
}

static TIMER: Mutex<Timer> = Mutex::new(Timer { alarms: BTreeMap::new(), next: 0, keeper: None });
static EARLIER: Condvar = Condvar::new();

fn timer() -> MutexGuard<'static, Timer> {
    TIMER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Alarm {
    /// Creates an alarm. Fails if the timer thread cannot be started.
    pub(crate) fn new(at: Instant, waker: Waker) -> io::Result<Alarm> {
        let mut timer = timer();
        let process = Some(std::process::id());
        if timer.keeper != process {
            thread::Builder::new().name("rbd-timer".into()).spawn(run)?;
            timer.keeper = process;
        }
        let key = (at, timer.next);
        timer.next += 1;
        timer.alarms.insert(key, waker);
        if timer.alarms.first_key_value().is_some_and(|(first, _)| *first == key) {
            EARLIER.notify_one();
        }
        Ok(Alarm(key))
    }

    /// Replaces the task to wake.
    pub(crate) fn set_waker(&mut self, waker: &Waker) {
        if timer().alarms.get(&self.0).is_some_and(|old| old.will_wake(waker)) {
            return;
        }
        let new = waker.clone();
        let mut timer = timer();
        let old = match timer.alarms.get_mut(&self.0) {
            Some(old) if !old.will_wake(&new) => std::mem::replace(old, new),
            Some(_) => new,
            // The alarm fired after the clock was read.
            None => {
                drop(timer);
                new.wake();
                return;
            }
        };
        // User code runs outside the lock.
        drop(timer);
        drop(old);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = timer().alarms.remove(&self.0);
        // User code runs outside the lock, which is released here.
        drop(waker);
    }
}

/// Wakes a task. The wake may run or drop the task here, and closing an image would then delay all
/// other alarms. So this thread counts among those on which this crate never blocks.
fn ring(waker: Waker) {
    let _mark = CallbackMark::set();
    catch_panic(|| waker.wake());
}

fn run() {
    let mut timer = timer();
    loop {
        let now = Instant::now();
        match timer.alarms.first_entry() {
            Some(first) if first.key().0 <= now => {
                let waker = first.remove();
                drop(timer);
                ring(waker);
                timer = self::timer();
            }
            Some(first) => {
                let rest = first.key().0 - now;
                timer = EARLIER.wait_timeout(timer, rest).unwrap_or_else(PoisonError::into_inner).0;
            }
            None => timer = EARLIER.wait(timer).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;
    use crate::raw::thread::fork::{alone, in_fork};

    struct Ring(Sender<u32>, u32);

    impl Wake for Ring {
        fn wake(self: Arc<Self>) {
            self.0.send(self.1).unwrap();
            assert!(self.1 != 0, "a waker that panics");
        }
    }

    #[test]
    fn rings_in_the_order_of_the_times_and_not_when_dropped() {
        let (sender, rings) = channel();
        let now = Instant::now();
        let set = |millis, number| {
            Alarm::new(
                now + Duration::from_millis(millis),
                Waker::from(Arc::new(Ring(sender.clone(), number))),
            )
            .unwrap()
        };
        let _alarms = [set(90, 3), set(30, 1), set(10, 0), set(60, 2)];
        drop(set(20, 9));
        let heard: Vec<u32> = (0..4).map(|_| rings.recv().unwrap()).collect();
        assert_eq!(heard, [0, 1, 2, 3]);
        assert!(now.elapsed() >= Duration::from_millis(90));
    }

    #[test]
    fn rings_in_a_fork_as_well() {
        if !alone(concat!(module_path!(), "::rings_in_a_fork_as_well")) {
            return;
        }
        // Each test has its own channel: the timer thread may still hold a lock of the first one.
        let rings = || {
            let (sender, rings) = channel();
            let _alarm = Alarm::new(Instant::now(), Waker::from(Arc::new(Ring(sender, 1)))).unwrap();
            rings.recv_timeout(Duration::from_secs(5)) == Ok(1)
        };
        assert!(rings());
        // Otherwise another test might hold the lock, which the child could never acquire.
        let mut locked = Some(timer());
        let rang = in_fork(|| {
            locked = None;
            rings()
        });
        assert!(rang);
    }

    #[test]
    fn the_newest_waker_rings_and_one_set_too_late_at_once() {
        let (sender, rings) = channel();
        let waker = |number| Waker::from(Arc::new(Ring(sender.clone(), number)));
        let mut alarm = Alarm::new(Instant::now() + Duration::from_millis(30), waker(1)).unwrap();
        alarm.set_waker(&waker(2));
        assert_eq!(rings.recv(), Ok(2));
        alarm.set_waker(&waker(3));
        assert_eq!(rings.recv(), Ok(3));
    }
}
