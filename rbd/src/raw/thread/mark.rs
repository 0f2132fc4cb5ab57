//! Marks of Ceph's threads, on which some calls must not run.
//!
//! `rbd_close` and `rados_shutdown` wait for Ceph's own threads. On one of those they would wait
//! for themselves forever. So every function of this crate that C calls marks its thread while it
//! runs. If the Drop of a handle sees the mark, it passes the work to the background thread. The
//! timer's thread is marked as well, because all deadlines share it.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The nesting depth of the callback that may make calls.
    static ALLOWED_AT: Cell<u32> = const { Cell::new(0) };
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// A mark: while it lives, this thread counts as one of Ceph's, and this crate does not block on
/// it.
pub(crate) struct CallbackMark(());

impl CallbackMark {
    pub(crate) fn set() -> CallbackMark {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        CallbackMark(())
    }
}

impl Drop for CallbackMark {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// A permission: while it lives, a callback may make blocking calls, because librbd holds no lock
/// that they need.
pub(crate) struct CallsAllowed(u32);

impl CallsAllowed {
    pub(crate) fn set() -> CallsAllowed {
        CallsAllowed(ALLOWED_AT.replace(DEPTH.get()))
    }
}

impl Drop for CallsAllowed {
    fn drop(&mut self) {
        ALLOWED_AT.set(self.0);
    }
}

/// Returns whether this thread runs a callback in which a blocking call might wait for this same
/// thread.
pub(crate) fn must_not_call() -> bool {
    in_callback() && ALLOWED_AT.get() != DEPTH.get()
}

/// Returns whether this thread is running a callback of Ceph.
pub(crate) fn in_callback() -> bool {
    DEPTH.with(|depth| depth.get() > 0)
}

/// Returns whether other work waits for this thread. Such a thread must not wait for I/O, which may
/// be stuck.
pub(crate) fn must_not_block() -> bool {
    in_callback() || OURS.with(Cell::get)
}

/// A mark: while it lives, this thread runs user code that may block, and no other work waits for
/// it.
pub(crate) struct ThreadOfUser(bool);

impl ThreadOfUser {
    pub(crate) fn set() -> ThreadOfUser {
        ThreadOfUser(OURS.replace(false))
    }
}

impl Drop for ThreadOfUser {
    fn drop(&mut self) {
        OURS.set(self.0);
    }
}

/// Marks this thread, until it ends, as one that other work waits for: blocking work goes to other
/// threads.
pub(in crate::raw) fn mark_ours() {
    OURS.with(|ours| ours.set(true));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_mark_counts() {
        assert!(!in_callback() && !must_not_block());
        let outer = CallbackMark::set();
        drop(CallbackMark::set());
        assert!(in_callback() && must_not_block());
        drop(outer);
        assert!(!in_callback() && !must_not_block());
    }

    #[test]
    fn code_of_the_user_may_block_on_a_thread_of_this_crate() {
        std::thread::spawn(|| {
            mark_ours();
            let user = ThreadOfUser::set();
            assert!(!must_not_block());
            drop(user);
            assert!(must_not_block());
        })
        .join()
        .unwrap();
    }
}
