//! Timeouts of a queue's operations. Without timeouts they cost one comparison.

use std::time::{Duration, Instant};

/// The timeout state of the operation in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// Its deadline, and the timeout from which that follows.
    At(Instant, Duration),
    /// It timed out, and librbd still has it.
    Left,
}

#[derive(Debug)]
pub(super) struct Expiry {
    limits: Box<[Limit]>,
    /// The earliest deadline; `None` if there is none. During a look, the earliest of those seen so
    /// far.
    earliest: Option<Instant>,
    look: Option<Look>,
    left: usize,
    /// The queue is being closed.
    stopped: bool,
}

/// A look at all entries. It stops at each operation that it finds, and continues there.
#[derive(Debug, Clone, Copy)]
struct Look {
    next: usize,
    now: Instant,
}

impl Expiry {
    pub(super) fn new(entries: usize) -> Expiry {
        Expiry {
            limits: vec![Limit::None; entries].into(),
            earliest: None,
            look: None,
            left: 0,
            stopped: false,
        }
    }

    /// Returns how many timed-out operations librbd still has.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Returns the earliest deadline, or `None` if no operation has one.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.look.map(|look| look.now).or(self.earliest)
    }

    /// Begins an operation with this timeout. A deadline that `Instant` cannot express never
    /// passes.
    pub(super) fn begin(&mut self, entry: usize, after: Option<Duration>) {
        let Some(after) = after else { return };
        let Some(end) = Instant::now().checked_add(after) else { return };
        self.limits[entry] = Limit::At(end, after);
        self.note(end);
    }

    fn note(&mut self, end: Instant) {
        self.earliest = Some(self.earliest.map_or(end, |earliest| earliest.min(end)));
    }

    /// Returns whether the operation timed out.
    pub(super) fn is_left(&self, place: usize) -> bool {
        self.limits[place] == Limit::Left
    }

    /// Lets nothing time out any more. What has timed out stays left until it ends.
    pub(super) fn stop(&mut self) {
        self.limits.iter_mut().filter(|limit| **limit != Limit::Left).for_each(|limit| *limit = Limit::None);
        (self.earliest, self.look, self.stopped) = (None, None, true);
    }

    /// Ends an operation. Returns whether it had timed out, so that nobody waits for its result.
    pub(super) fn end(&mut self, entry: usize) -> bool {
        let left = std::mem::replace(&mut self.limits[entry], Limit::None) == Limit::Left;
        self.left -= usize::from(left);
        left && !self.stopped
    }

    /// Returns an operation whose deadline has passed, and its timeout. It counts as timed out from
    /// now on.
    pub(super) fn next(&mut self) -> Option<(usize, Duration)> {
        let mut look = if let Some(look) = self.look.take() {
            look
        } else {
            let earliest = self.earliest?;
            let now = Instant::now();
            if earliest > now {
                return None;
            }
            self.earliest = None;
            Look { next: 0, now }
        };
        while let Some(limit) = self.limits.get_mut(look.next) {
            let entry = look.next;
            look.next += 1;
            match *limit {
                Limit::At(end, after) if end <= look.now => {
                    *limit = Limit::Left;
                    self.left += 1;
                    self.look = Some(look);
                    return Some((entry, after));
                }
                Limit::At(end, _) => self.note(end),
                Limit::None | Limit::Left => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn timed_out_operations_are_found_once() {
        let mut expiry = Expiry::new(5);
        assert_eq!((expiry.next(), expiry.earliest()), (None, None));
        expiry.begin(0, Some(Duration::ZERO));
        expiry.begin(1, None);
        expiry.begin(2, Some(NEVER));
        expiry.begin(3, Some(Duration::ZERO));
        let past = Instant::now();
        assert!(expiry.earliest().unwrap() <= past);
        assert_eq!(expiry.next(), Some((0, Duration::ZERO)));
        // More operations may be submitted before the look continues, at lower and at higher
        // entries.
        assert!(expiry.end(0));
        expiry.begin(0, Some(NEVER / 2));
        expiry.begin(4, Some(NEVER));
        assert!(expiry.earliest().unwrap() <= Instant::now(), "it is not over");
        assert_eq!(expiry.next(), Some((3, Duration::ZERO)));
        assert_eq!((expiry.next(), expiry.left()), (None, 1));
        let next = expiry.earliest().unwrap() - past;
        assert!(next > NEVER / 4 && next < NEVER * 3 / 4, "{next:?}: that of entry 0");
        assert!(expiry.end(3) && !expiry.end(1) && !expiry.end(2));
        assert_eq!(expiry.left(), 0);
    }

    #[test]
    fn a_place_is_used_again_without_its_old_end() {
        let mut expiry = Expiry::new(1);
        expiry.begin(0, Some(Duration::ZERO));
        assert!(!expiry.end(0), "it ended before anybody looked");
        expiry.begin(0, None);
        assert_eq!((expiry.next(), expiry.earliest()), (None, None));
        expiry.begin(0, Some(Duration::MAX));
        assert_eq!(expiry.earliest(), None, "beyond the end of time");
    }
}
