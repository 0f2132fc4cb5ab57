//! A limit that the images in flight share, such as the memory of object maps. An image waits on
//! the thread of the survey until enough of it is free.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub(super) struct Permits {
    total: u64,
    free: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

/// A part of the space. Dropping it returns the part.
pub(super) struct Permit(Rc<Permits>, u64);

impl Permits {
    pub(super) fn new(total: u64) -> Rc<Permits> {
        Rc::new(Permits { total, free: Cell::new(total), waiting: RefCell::default() })
    }

    /// Waits for this much space. A request for more than exists gets all of it.
    pub(super) async fn take(self: &Rc<Permits>, wanted: u64) -> Permit {
        let wanted = wanted.min(self.total);
        poll_fn(|context| {
            if let Some(rest) = self.free.get().checked_sub(wanted) {
                self.free.set(rest);
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
        Permit(Rc::clone(self), wanted)
    }

    /// Whether a part is taken.
    pub(super) fn is_used(&self) -> bool {
        self.free.get() < self.total
    }

    /// Whether somebody waits for a part.
    pub(super) fn is_short(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + self.1);
        self.0.waiting.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn a_request_for_all_room_waits_for_all() {
        let permits = Permits::new(10);
        let context = &mut Context::from_waker(Waker::noop());
        let mut first = pin!(permits.take(4));
        let Poll::Ready(first) = first.as_mut().poll(context) else { panic!("there is room") };
        let mut all = pin!(permits.take(11));
        assert!(all.as_mut().poll(context).is_pending());
        drop(first);
        let Poll::Ready(all) = all.as_mut().poll(context) else { panic!("there is room") };
        assert_eq!(permits.free.get(), 0);
        drop(all);
        assert_eq!(permits.free.get(), 10);
    }
}
