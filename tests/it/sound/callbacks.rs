//! Callbacks that panic, and callbacks that make calls.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::BytesMut;
use rbd::cluster::LogLevel;
use rbd::{Errno, Queue};

use super::test;
use crate::support::{Space, alone, builder};

/// A payload whose drop panics as well.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("in the drop of what a panic carries"));
    }
}

#[test]
fn a_panic_in_the_log_watch_that_panics_when_dropped_ends_there() {
    if !alone(test!("callbacks::a_panic_in_the_log_watch_that_panics_when_dropped_ends_there")) {
        return;
    }
    let cluster = builder().connect().unwrap();
    let lines = Arc::new(AtomicU32::new(0));
    let (count, (sender, receiver)) = (Arc::clone(&lines), mpsc::channel());
    let watch = cluster
        .watch_log(LogLevel::Info, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = sender.send(());
            std::panic::panic_any(Twice);
        })
        .unwrap();
    for n in 0..2 {
        let line = format!(r#"{{"prefix": "log", "logtext": ["line {n}"], "level": "warn"}}"#);
        cluster.mon_command(&line, b"").unwrap();
        receiver.recv_timeout(Duration::from_secs(60)).expect("the line is told");
    }
    drop(watch);
    assert!(lines.load(Ordering::Relaxed) >= 2, "it goes on after a panic");
}

/// A kind of call that could wait for librbd or librados.
type Call = (&'static str, fn(&Things) -> rbd::Result<()>);

struct Things {
    space: rbd::IoCtx,
    /// The image of the callback.
    own: rbd::Image,
    other: rbd::Image,
    queued: Mutex<Option<rbd::Image>>,
}

const CALLS: &[Call] = &[
    ("a getter", |all| all.own.features().map(drop)),
    ("a getter of another image", |all| all.other.size().map(drop)),
    ("list snapshots", |all| all.own.snapshots().list().map(drop)),
    ("create a snapshot", |all| all.own.snapshots().create("in-a-callback").run()),
    ("read", |all| all.own.read_at(&mut [0; 512], 0).map(drop)),
    ("write", |all| all.own.write_all_at(&[1; 512], 0)),
    ("flush", |all| all.own.flush()),
    ("discard", |all| all.other.discard(0, 4096)),
    ("resize", |all| all.other.resize(8 << 20).run()),
    ("shrink", |all| all.own.resize(15 << 20).allow_shrink(true).run()),
    ("roll back", |all| all.other.snapshots().rollback("s").run()),
    ("open", |all| all.space.open("foo").run().map(drop)),
    ("list", |all| all.space.list().map(drop)),
    ("create", |all| all.space.create("in-a-callback", 1 << 20).run()),
    ("remove", |all| all.space.remove("nothing").run()),
    ("metadata", |all| all.own.metadata().list().map(drop)),
    ("lock", |all| all.own.exclusive_lock().acquire()),
    ("command", |all| all.space.cluster().mon_command(r#"{"prefix": "fsid"}"#, b"").map(drop)),
    ("pools", |all| all.space.cluster().pools().list().map(drop)),
    ("pool", |all| all.space.cluster().ioctx("rbd").map(drop)),
    ("wait for a queue", |all| {
        let mut queue = Queue::new(all.queued.lock().unwrap().take().expect("called once"), 1)?;
        queue.read(0, 0, 4 << 20, BytesMut::new())?;
        queue.wait(None).map(drop)
    }),
    ("wait for a future", |all| all.own.aio().read(0, 4 << 20).wait().map(drop)),
];

/// Callbacks for which librbd or librados waits: calls that could wait for them are refused.
const WAITED_FOR: [&str; 8] =
    ["shrink", "rollback", "remove", "flatten", "copy", "read", "a waker", "a line of the cluster's log"];
/// Callbacks for which neither waits: all calls work.
const FREE: [&str; 2] = ["diff", "watch of updates"];

/// Every kind of call in every callback is refused or done, and never hangs.
#[test]
fn every_kind_of_call_ends_in_every_callback() {
    if !alone(test!("callbacks::every_kind_of_call_ends_in_every_callback")) {
        return;
    }
    for bounded in [true, false] {
        let space = Space::new();
        let timeout = bounded.then_some(Duration::from_secs(60));
        let cluster = builder().call_timeout(timeout).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        for callback in WAITED_FOR.iter().chain(&FREE) {
            for name in ["foo", "other"] {
                pool.create(name, 16 << 20).run().unwrap();
            }
            let open = |name: &str| pool.open(name).run().unwrap();
            let queued = Mutex::new(Some(open("other")));
            let all =
                Arc::new(Things { space: pool.clone(), own: open("foo"), other: open("other"), queued });
            all.own.write_all_at(&vec![1; 12 << 20], 0).unwrap();
            all.own.snapshots().create("s").run().unwrap();
            all.other.snapshots().create("s").run().unwrap();
            let outcomes = Arc::new(Mutex::new(Vec::new()));
            // Only once, because a callback may run many times.
            let (each_all, each_outcomes) = (Arc::clone(&all), Arc::clone(&outcomes));
            let each: Each = Arc::new(move || {
                let mut outcomes = each_outcomes.lock().unwrap();
                if outcomes.is_empty() {
                    *outcomes = CALLS.iter().map(|(name, call)| (*name, call(&each_all))).collect();
                }
            });
            inside(callback, &all, &each);
            drop(each);
            let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
            assert_eq!(outcomes.len(), CALLS.len(), "{callback}: it was called");
            for (call, outcome) in outcomes {
                let refused = outcome.as_ref().is_err_and(|error| error.errno() == Some(Errno::EDEADLK));
                if call == "wait for a future" && outcome.is_ok() {
                    // The operation had completed before the wait began.
                    continue;
                }
                assert_eq!(refused, WAITED_FOR.contains(callback), "{callback}: {call}: {outcome:?}");
                // The system's words for EDEADLK say neither why nor what to do.
                let text = outcome.map_or_else(|error| error.to_string(), |()| String::new());
                assert!(!text.contains("deadlock"), "{callback}: {call}: {text}");
            }
            drop(all);
            clear(&pool);
        }
    }
}

/// The code that runs in a callback.
type Each = Arc<dyn Fn() + Send + Sync>;

fn inside(callback: &str, all: &Things, each: &Each) {
    let progress = |_, _| {
        each();
        ControlFlow::Continue(())
    };
    let Things { space, own, .. } = all;
    match callback {
        "shrink" => own.resize(4 << 20).allow_shrink(true).progress(progress).run().unwrap(),
        "rollback" => {
            own.write_all_at(&[2; 4096], 8 << 20).unwrap();
            own.snapshots().rollback("s").progress(progress).run().unwrap();
        }
        "remove" => {
            space.create("gone", 16 << 20).run().unwrap();
            space.open("gone").run().unwrap().write_all_at(&vec![1; 12 << 20], 0).unwrap();
            space.remove("gone").progress(progress).run().unwrap();
        }
        "flatten" => {
            own.snapshots().protect("s").unwrap();
            space.clone_image("foo", "s", "child").run().unwrap();
            space.open("child").run().unwrap().flatten().progress(progress).run().unwrap();
            own.snapshots().unprotect("s").unwrap();
        }
        "copy" => own.copy_to(space, "copy").progress(progress).run().unwrap(),
        "read" => own
            .read_each(0, 12 << 20, |_, _| {
                each();
                ControlFlow::Continue(())
            })
            .unwrap(),
        "a waker" => {
            // Another thread runs the wake, or this one if the operation has already ended.
            struct Wakes(mpsc::Sender<()>, Each);
            impl std::task::Wake for Wakes {
                fn wake(self: Arc<Self>) {
                    (self.1)();
                    let _ = self.0.send(());
                }
            }
            loop {
                let (sender, receiver) = mpsc::channel();
                let waker = std::task::Waker::from(Arc::new(Wakes(sender, Arc::clone(each))));
                let mut read = own.aio().read(0, 4 << 20);
                let mut context = std::task::Context::from_waker(&waker);
                if std::pin::Pin::new(&mut read).poll(&mut context).is_pending() {
                    receiver.recv_timeout(Duration::from_secs(60)).expect("it is woken");
                    return read.wait().map(drop).unwrap();
                }
            }
        }
        "a line of the cluster's log" => {
            let (each, (sender, receiver)) = (Arc::clone(each), mpsc::channel());
            let cluster = space.cluster().clone();
            let watch = space.cluster().watch_log(LogLevel::Info, move |_| {
                // These calls ask no daemon.
                assert!(cluster.instance_id() > 0 && cluster.fsid().is_ok());
                each();
                let _ = sender.send(());
            });
            let watch = watch.unwrap();
            let line = r#"{"prefix": "log", "logtext": ["a line"], "level": "warn"}"#;
            space.cluster().mon_command(line, b"").unwrap();
            receiver.recv_timeout(Duration::from_secs(60)).expect("the line is told");
            drop(watch);
        }
        "diff" => own
            .diff()
            .for_each(|_| {
                each();
                ControlFlow::Continue(())
            })
            .unwrap(),
        "watch of updates" => {
            let again = Arc::new(space.open("foo").run().unwrap());
            let (each, (sender, receiver)) = (Arc::clone(each), mpsc::channel());
            let watch = again.watch_updates(move || {
                each();
                let _ = sender.send(());
            });
            let watch = watch.unwrap();
            own.resize(20 << 20).run().unwrap();
            receiver.recv_timeout(Duration::from_secs(120)).expect("the change is told");
            drop(watch);
        }
        other => unreachable!("{other}"),
    }
}

fn clear(pool: &rbd::IoCtx) {
    for name in ["child", "copy", "gone", "in-a-callback", "other", "foo"] {
        if let Ok(image) = pool.open(name).run() {
            for snapshot in image.snapshots().list().unwrap() {
                image.snapshots().remove(&snapshot.name).unprotect(true).run().unwrap();
            }
            image.close().unwrap();
            pool.remove(name).run().unwrap();
        }
    }
}
