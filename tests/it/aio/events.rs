//! The events of operations with the feature `tracing`.

use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Dispatch, Event, Metadata, Subscriber};

use super::{Freezer, within};
use crate::support::{Space, alone};

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

/// Returns the events on this thread while `run` runs.
///
/// Two more subscribers exist that receive nothing. If tracing knows a single subscriber, it asks
/// only that of the thread that reaches an event first. A thread of another test has none, which
/// would turn the event off for all threads.
///
/// A thread may be doing so while the two come into being, and store its answer after tracing has
/// looked at all events again. So tracing looks once more, a moment later.
pub(crate) fn during(run: impl FnOnce()) -> Vec<String> {
    static OTHERS: OnceLock<[Dispatch; 2]> = OnceLock::new();
    OTHERS.get_or_init(|| {
        let others = [(); 2].map(|()| Dispatch::new(Listener::default()));
        std::thread::sleep(Duration::from_millis(200));
        tracing::callsite::rebuild_interest_cache();
        others
    });
    let heard = Listener::default();
    with_default(heard.clone(), run);
    Arc::into_inner(heard.0).expect("nobody listens any more").into_inner().unwrap()
}

#[test]
fn an_operation_reports_its_submission_and_its_end() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let name = format!("image=\"rbd/{}/foo\"", space.namespace());

    let events = during(|| drop(image.aio().read(4096, 512).wait().unwrap()));
    let read = format!("operation=\"read\" {name} offset=4096 len=512");
    assert_eq!(events, [format!("TRACE message=submitted {read}"), format!("TRACE message=ended {read}")]);

    let events = during(|| image.aio().flush().wait().unwrap());
    let flush = format!("operation=\"flush\" {name}");
    assert_eq!(events, [format!("TRACE message=submitted {flush}"), format!("TRACE message=ended {flush}")]);

    // An operation that is not submitted has neither event.
    let events = during(|| drop(image.aio().read(1 << 20, 1).wait().unwrap_err()));
    assert!(events.is_empty(), "{events:?}");

    drop(image);
    let image = space.open("foo").read_only(true).run().unwrap();
    let events = during(|| drop(image.aio().write(0, Bytes::from(vec![1; 512])).wait().unwrap_err()));
    let write = format!("operation=\"write\" {name} offset=0 len=512");
    let failed = format!("DEBUG message=failed {write} error=EROFS 30");
    assert_eq!(events, [format!("TRACE message=submitted {write}"), failed]);
}

/// The library has the call and ends it, or lacks it.
#[test]
fn a_submission_that_fails_is_an_end_too() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let data = vec![Bytes::from(vec![0; 512])];
    let mut works = false;
    let events = during(|| {
        works = image.aio().compare_and_write_vectored(0, data.clone(), data.clone()).wait().is_ok();
    });
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0].starts_with("TRACE message=submitted operation=\"compare and write\""), "{events:?}");
    let (level, error) = match works {
        true => ("TRACE message=ended", " len=512"),
        false => ("DEBUG message=failed", " error=rbd_aio_compare_and_writev is missing; it needs Ceph 18.2"),
    };
    assert!(events[1].starts_with(level) && events[1].ends_with(error), "{events:?}");
}

/// A thread of another test, without a subscriber, may be the first to reach an event. In a
/// separate process, because a thread is the first only once.
#[test]
fn an_event_is_heard_though_another_thread_came_to_it_first() {
    if !alone("aio::events::an_event_is_heard_though_another_thread_came_to_it_first") {
        return;
    }
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let read = || drop(image.aio().read(0, 512).wait().unwrap());
    let events = during(|| {
        std::thread::scope(|scope| scope.spawn(read).join().unwrap());
        read();
    });
    assert_eq!(events.len(), 2, "{events:?}");
}

#[test]
fn opening_and_closing_tell_the_same() {
    let space = Space::new();
    space.create("foo", 1 << 20).run().unwrap();
    let name = |image| format!("image=\"rbd/{}/{image}\"", space.namespace());
    let mut image = None;
    let events = during(|| image = Some(space.open("foo").start().wait().unwrap()));
    let open = format!("operation=\"open\" {}", name("foo"));
    assert_eq!(events, [format!("TRACE message=submitted {open}"), format!("TRACE message=ended {open}")]);

    let events = during(|| image.take().unwrap().start_close().wait().unwrap());
    let close = format!("operation=\"close\" {}", name("foo"));
    assert_eq!(events, [format!("TRACE message=submitted {close}"), format!("TRACE message=ended {close}")]);

    // It is one operation, whatever is missing.
    for open in [space.open("bar"), space.open("bar").snapshot("s")] {
        let events = during(|| drop(open.start().wait().unwrap_err()));
        let open = format!("operation=\"open\" {}", name("bar"));
        let failed = format!("DEBUG message=failed {open} error=ENOENT 2");
        assert_eq!(events, [format!("TRACE message=submitted {open}"), failed]);
    }

    // An operation that is not submitted has neither event.
    let events = during(|| drop(space.open("a\0b").start().wait().unwrap_err()));
    assert!(events.is_empty(), "{events:?}");
}

/// Returns the message and the operation of each event.
fn told(events: &[String]) -> Vec<(&str, &str)> {
    let parts = |event| {
        let (message, rest) = str::split_once(event, " operation=\"").unwrap();
        (message.strip_prefix("TRACE message=").unwrap(), rest.split('"').next().unwrap())
    };
    events.iter().map(|event| parts(event.as_str())).collect()
}

#[test]
fn opening_and_closing_that_are_given_up_on_tell_that() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let (name, pool) = (image.name().unwrap(), image.ioctx().clone());
    let busy = image.aio().read(0, 512);
    let frozen = freezer.freeze();
    let events = during(|| {
        let late = pool.open(&name).start().timeout(Duration::from_millis(10)).wait();
        assert!(late.unwrap_err().is_timed_out());
        drop(pool.open(&name).start());
        let late = image.start_close().timeout(Duration::from_millis(10)).wait();
        assert!(late.unwrap_err().is_timed_out());
    });
    drop(frozen);
    let (opened, closed) =
        ([("submitted", "open"), ("detached", "open")], [("submitted", "close"), ("detached", "close")]);
    assert_eq!(told(&events), [opened, opened, closed].concat());
    within(Duration::from_secs(60), || drop(busy.wait()));
    // A failure whose cause is still being looked up is not reported yet.
    let mut opening = pool.open("missing").start();
    let events = during(|| {
        let _ = Pin::new(&mut opening).poll(&mut Context::from_waker(Waker::noop()));
        drop(opening);
    });
    assert_eq!(told(&events), [("detached", "open")]);
}

/// After a timeout or a drop, no caller gets the result, and the events say so.
#[test]
fn a_timed_out_operation_reports_that() {
    let freezer = Freezer::get();
    let image = freezer.image();
    let frozen = freezer.freeze();
    let events = during(|| {
        let late = image.aio().read(0, 512).timeout(Duration::from_millis(10)).wait();
        assert!(late.unwrap_err().is_timed_out());
        drop(image.aio().read(512, 512));
    });
    drop(frozen);
    let (submitted, left) = (("submitted", "read"), ("detached", "read"));
    assert_eq!(told(&events), [submitted, left, submitted, left]);
    within(Duration::from_secs(60), || image.close()).unwrap();
}
