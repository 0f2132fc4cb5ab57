//! What the feature `tracing` tells about operations.

use tracing::{debug, trace};

use super::op::About;
use crate::errno::Errno;

pub(super) fn submitted(about: &About) {
    let (offset, len) = about.range.unzip();
    trace!(target: "rbd::aio", operation = about.operation, image = about.image.spec, offset, len, "submitted");
}

/// Seen by whoever polls, so later than librbd's end of it.
pub(super) fn ended(about: &About, errno: Option<&Errno>) {
    let (offset, len) = about.range.unzip();
    let operation = about.operation;
    match errno {
        None => trace!(target: "rbd::aio", operation, image = about.image.spec, offset, len, "ended"),
        Some(errno) => {
            debug!(target: "rbd::aio", operation, image = about.image.spec, offset, len, %errno, "failed");
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::fmt::Write;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::with_default;
    use tracing::{Event, Metadata, Subscriber};

    use super::*;
    use crate::image::Label;

    /// The events as text.
    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<String>>>);

    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }

    impl Subscriber for Listener {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "rbd::aio"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            panic!("a span for an operation costs more than an event")
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut text = Text(event.metadata().level().to_string());
            event.record(&mut text);
            self.0.lock().unwrap().push(text.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn events_name_operation_image_range_and_errno() {
        let image = Arc::new(Label { spec: "rbd/foo".into(), snapshot: None });
        let about =
            About { image, operation: "read", range: Some((4096, 512)), explain: std::convert::identity };
        let flush = About { operation: "flush", range: None, ..about.clone() };
        let heard = Listener::default();
        with_default(heard.clone(), || {
            event!(about);
            event!(about, None);
            event!(about, Some(&Errno::ETIMEDOUT));
            event!(flush);
        });
        event!(about);
        let range = "offset=4096 len=512";
        assert_eq!(
            *heard.0.lock().unwrap(),
            [
                format!("TRACE message=submitted operation=\"read\" image=\"rbd/foo\" {range}"),
                format!("TRACE message=ended operation=\"read\" image=\"rbd/foo\" {range}"),
                format!(
                    "DEBUG message=failed operation=\"read\" image=\"rbd/foo\" {range} errno=ETIMEDOUT 110"
                ),
                "TRACE message=submitted operation=\"flush\" image=\"rbd/foo\"".to_owned(),
            ]
        );
    }
}
