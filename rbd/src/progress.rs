//! Progress of long operations.

use std::ops::ControlFlow;

type Callback<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + Send + 'a;

/// What a caller wants to hear of a long operation: nothing, or each step.
#[derive(Default)]
pub(crate) struct Progress<'a>(pub(crate) Option<Box<Callback<'a>>>);

impl<'a> Progress<'a> {
    pub(crate) fn new(callback: impl FnMut(u64, u64) -> ControlFlow<()> + Send + 'a) -> Progress<'a> {
        Progress(Some(Box::new(callback)))
    }
}
