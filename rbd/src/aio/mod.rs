//! Asynchronous operations: futures for any executor, and for threads that wait.

/// An event of an operation for the feature `tracing`: its submission, or its end with the error if there is one. Without
/// the feature nothing is left of it (but in the unit tests, which look at the events).
macro_rules! event {
    ($about:expr) => {
        #[cfg(any(feature = "tracing", test))]
        crate::aio::trace::submitted(&$about);
    };
    ($about:expr, $errno:expr) => {
        #[cfg(any(feature = "tracing", test))]
        crate::aio::trace::ended(&$about, $errno);
    };
}

mod deadline;
mod io;
mod op;
mod opening;
mod reasons;
mod timer;
#[cfg(any(feature = "tracing", test))]
mod trace;
mod wait;

pub use deadline::Deadline;
pub use io::Aio;
pub use op::Op;
pub use opening::{Closing, Opening};
