//! Foreign code whose panic no caller can resume: wakers, callbacks, drops of buffers.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `foreign`. Returns `None` if it panics; the panic message has been printed by then. The
/// payload is dropped, which runs foreign code again: if that panics, too, its payload is leaked.
pub(crate) fn catch_panic<T>(foreign: impl FnOnce() -> T) -> Option<T> {
    let panic = match catch_unwind(AssertUnwindSafe(foreign)) {
        Ok(value) => return Some(value),
        Err(panic) => panic,
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        std::mem::forget(again);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::panic::{panic_any, resume_unwind};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_payload_of_a_panic_is_freed() {
        let carried = Arc::new(());
        let thrown = Arc::clone(&carried);
        assert_eq!(catch_panic(|| -> u32 { panic_any(thrown) }), None);
        assert_eq!(Arc::strong_count(&carried), 1);
        assert_eq!(catch_panic(|| 7), Some(7));
    }

    #[test]
    fn a_panic_whose_own_drop_panics_does_not_escape() {
        struct Twice;
        impl Drop for Twice {
            fn drop(&mut self) {
                resume_unwind(Box::new("in the drop of what a panic carries"));
            }
        }
        assert_eq!(catch_panic(|| -> u32 { panic_any(Twice) }), None);
    }
}
