//! Which operations of a queue are given up on, and when. Without deadlines it costs a comparison.

use std::time::{Duration, Instant};

/// What is known of the operation in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    /// Its end, and how long after the submission that is.
    At(Instant, Duration),
    /// It was given up on, and librbd still has it.
    Left,
}

#[derive(Debug)]
pub(super) struct Expiry {
    limits: Box<[Limit]>,
    /// No operation ends before it; `None` where none has an end. While a look goes on: of those
    /// seen so far.
    earliest: Option<Instant>,
    look: Option<Look>,
    left: usize,
}

/// A look at all entries, which is interrupted by each operation that it finds.
#[derive(Debug, Clone, Copy)]
struct Look {
    next: usize,
    now: Instant,
}

impl Expiry {
    pub(super) fn new(entries: usize) -> Expiry {
        Expiry { limits: vec![Limit::None; entries].into(), earliest: None, look: None, left: 0 }
    }

    /// How many were given up on that librbd still has.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// No operation is given up on before it; `None` when none ever is.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.look.map(|look| look.now).or(self.earliest)
    }

    /// An operation begins, to be given up on after a while. One beyond the end of time never is.
    pub(super) fn begin(&mut self, entry: usize, after: Option<Duration>) {
        let Some(after) = after else { return };
        let Some(end) = Instant::now().checked_add(after) else { return };
        self.limits[entry] = Limit::At(end, after);
        self.note(end);
    }

    fn note(&mut self, end: Instant) {
        self.earliest = Some(self.earliest.map_or(end, |earliest| earliest.min(end)));
    }

    /// Whether the operation was given up on.
    pub(super) fn is_left(&self, place: usize) -> bool {
        self.limits[place] == Limit::Left
    }

    /// librbd has given an operation back. Whether it had been given up on.
    pub(super) fn end(&mut self, entry: usize) -> bool {
        let left = std::mem::replace(&mut self.limits[entry], Limit::None) == Limit::Left;
        self.left -= usize::from(left);
        left
    }

    /// An operation whose time is over, and how long that was. It counts as given up on from here
    /// on.
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
    fn those_whose_time_is_over_are_found_once() {
        let mut expiry = Expiry::new(5);
        assert_eq!((expiry.next(), expiry.earliest()), (None, None));
        expiry.begin(0, Some(Duration::ZERO));
        expiry.begin(1, None);
        expiry.begin(2, Some(NEVER));
        expiry.begin(3, Some(Duration::ZERO));
        let past = Instant::now();
        assert!(expiry.earliest().unwrap() <= past);
        assert_eq!(expiry.next(), Some((0, Duration::ZERO)));
        // More may be submitted before the look goes on, before and behind it.
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
