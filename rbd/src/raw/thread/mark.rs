//! Which threads are Ceph's, and what must not happen on them.
//!
//! `rbd_close` and `rados_shutdown` wait for Ceph's own threads; called on one of those they wait
//! for themselves, for ever. Every function of this crate that C calls therefore marks its thread
//! for as long as it runs. Where the Drop of a handle sees the mark, it hands the work to the
//! background thread. The timer marks its thread, too, since all deadlines share it.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// The depth of the callback that may make calls.
    static ALLOWED_AT: Cell<u32> = const { Cell::new(0) };
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread counts as one of Ceph's: this crate never blocks on it.
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

/// While it lives, a callback may make calls that block: nothing that librbd holds stands in their
/// way.
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

/// Whether this thread runs a callback in which a call that blocks might wait for this very thread.
pub(crate) fn must_not_call() -> bool {
    in_callback() && ALLOWED_AT.get() != DEPTH.get()
}

/// Whether this thread runs a callback of Ceph's at the moment.
pub(crate) fn in_callback() -> bool {
    DEPTH.with(|depth| depth.get() > 0)
}

/// Whether others wait for this thread: it must not wait for an image's I/O, which may be stuck.
pub(crate) fn must_not_block() -> bool {
    in_callback() || OURS.with(Cell::get)
}

/// While it lives, this thread runs code of the user that may block: others do not wait for it.
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

/// Others may wait for this thread from here on, until it ends: what blocks goes elsewhere.
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
