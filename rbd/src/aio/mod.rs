//! Reads and writes asynchronously: futures for any executor, and for threads that wait.
//!
//! ```no_run
//! # async fn example(image: rbd::Image) -> rbd::Result<()> {
//! use std::time::Duration;
//! let data = image.aio().read(0, 4096).timeout(Duration::from_secs(30)).await?;
//! image.aio().write(4096, data).await?;
//! image.aio().flush().await
//! # }
//! ```

/// Emits an event of an operation for the feature `tracing`: its submission, or its end with the
/// error if there is one. Opening and closing are operations too. Without the feature, it expands
/// to nothing.
macro_rules! event {
    ($about:expr) => {
        #[cfg(feature = "tracing")]
        crate::events::submitted($about.subject());
    };
    ($about:expr, $error:expr) => {
        #[cfg(feature = "tracing")]
        crate::events::ended($about.subject(), $error);
    };
}

mod closing;
mod io;
mod op;
mod opening;
mod reasons;
#[cfg(feature = "tokio")]
mod stream;
mod timeout;
pub(crate) mod timer;

pub use closing::Closing;
pub use io::Aio;
pub use op::Op;
#[cfg(feature = "mirror")]
pub(crate) use op::{ErrorQuery, Explain};
pub use opening::Opening;
#[cfg(feature = "tokio")]
pub use stream::AsyncCursor;
pub use timeout::Timeout;
