//! The processors of this machine, divided into two halves.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Threads and processes inherit the processors of the thread that starts them.
pub struct Halves(CpuSet, CpuSet);

impl Halves {
    /// Returns `None` if there is only one processor.
    pub fn find() -> Option<Halves> {
        let ours = sched_getaffinity(None).expect("the processors of this thread");
        let (mut first, mut second) = (CpuSet::new(), CpuSet::new());
        let all = (0..CpuSet::MAX_CPU).filter(|cpu| ours.is_set(*cpu));
        for (at, cpu) in all.enumerate() {
            if at % 2 == 0 { first.set(cpu) } else { second.set(cpu) }
        }
        (second.count() > 0).then_some(Halves(first, second))
    }

    pub fn first(&self) {
        sched_setaffinity(None, &self.0).expect("processors of this thread");
    }

    pub fn second(&self) {
        sched_setaffinity(None, &self.1).expect("processors of this thread");
    }
}
