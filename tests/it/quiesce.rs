//! Quiesce watches: their events, and their end at any moment of a snapshot.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rbd::{
    Cluster, Errno, Image, IoCtx, Result,
    image::{Quiesce, QuiesceWatch},
};

use crate::aio::Freezer;
use crate::support::{Space, alone, builder};

const SOON: Duration = Duration::from_secs(20);

/// An image, opened by several clients with separate connections.
struct Scene {
    /// Dropped first, because the namespace can be removed only when its images are closed.
    image: Arc<Image>,
    others: Vec<Cluster>,
    space: Space,
}

impl Scene {
    fn new() -> Scene {
        let space = Space::new();
        space.create("foo", 1 << 20).run().unwrap();
        Scene { image: Arc::new(space.open("foo").run().unwrap()), others: Vec::new(), space }
    }

    fn other(&mut self) -> Image {
        let other = builder().connect().unwrap();
        let pool: IoCtx = other.ioctx("rbd").unwrap().with_namespace(self.space.namespace()).unwrap();
        self.others.push(other);
        pool.open("foo").run().unwrap()
    }
}

/// Takes a snapshot on another thread.
fn snapshot(image: Image, name: &'static str) -> JoinHandle<(Image, Result<()>)> {
    thread::spawn(move || {
        let outcome = image.snapshots().create(name).run();
        (image, outcome)
    })
}

/// Returns a watch that passes its events on and answers `Ok`.
fn listen(image: &Arc<Image>) -> (QuiesceWatch, Receiver<Quiesce>) {
    let (sender, events) = channel();
    let watch = image.watch_quiesce(move |event| {
        sender.send(event).unwrap();
        Ok(())
    });
    (watch.unwrap(), events)
}

/// Returns a watch whose freeze lasts until a message arrives.
fn hold(image: &Arc<Image>) -> (QuiesceWatch, Receiver<Quiesce>, Sender<()>) {
    let (sender, events) = channel();
    let (go, goes) = channel::<()>();
    let watch = image.watch_quiesce(move |event| {
        sender.send(event).unwrap();
        if event == Quiesce::Freeze {
            let _ = goes.recv_timeout(SOON);
        }
        Ok(())
    });
    (watch.unwrap(), events, go)
}

/// Drops a value on a separate thread, because this may hang.
fn dropped<T: Send + 'static>(what: T) {
    let (sender, done) = channel();
    thread::spawn(move || {
        drop(what);
        sender.send(()).unwrap();
    });
    done.recv_timeout(SOON).expect("the drop ends");
}

fn assert_told(events: &Receiver<Quiesce>, expected: &[Quiesce]) {
    for event in expected {
        assert_eq!(events.recv_timeout(SOON), Ok(*event));
    }
}

/// Asserts that the callback is freed without further events.
fn assert_ended(events: &Receiver<Quiesce>) {
    assert_eq!(events.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
}

/// Asserts that a watch that starts now receives a snapshot of another client.
fn assert_works(image: &Arc<Image>, theirs: Image, name: &'static str) -> Image {
    let (watch, events) = listen(image);
    let (theirs, outcome) = snapshot(theirs, name).join().unwrap();
    outcome.unwrap();
    assert_told(&events, &[Quiesce::Freeze, Quiesce::Thaw]);
    dropped(watch);
    assert_ended(&events);
    theirs
}

#[test]
fn freeze_and_thaw_surround_a_snapshot_and_an_error_or_a_panic_prevents_it() {
    let mut scene = Scene::new();
    let theirs = scene.other();
    let (sender, events) = channel();
    let mut times = 0;
    let watch = scene.image.watch_quiesce(move |event| {
        sender.send(event).unwrap();
        if event == Quiesce::Thaw {
            return Ok(());
        }
        times += 1;
        match times {
            1 => Ok(()),
            2 => Err(Errno::EBUSY),
            // For librbd, this is a success.
            3 => Err(Errno::new(0)),
            _ => resume_unwind(Box::new("this goes no further")),
        }
    });
    let watch = watch.unwrap();
    // Two watches of one image receive their events.
    let (second, second_events) = listen(&scene.image);
    let (busy, failed) = (Some(Errno::EBUSY), Some(Errno::EIO));
    for (name, expected) in [("one", None), ("two", busy), ("three", failed), ("four", failed)] {
        let outcome = theirs.snapshots().create(name).run();
        assert_eq!(outcome.err().and_then(|error| error.errno()), expected, "{name}");
        assert_told(&events, &[Quiesce::Freeze, Quiesce::Thaw]);
        assert_told(&second_events, &[Quiesce::Freeze, Quiesce::Thaw]);
    }
    let names: Vec<_> =
        theirs.snapshots().list().unwrap().into_iter().map(|snapshot| snapshot.name).collect();
    assert_eq!(names, ["one"]);
    dropped(watch);
    assert_ended(&events);
    let theirs = assert_works(&scene.image, theirs, "five");
    assert_told(&second_events, &[Quiesce::Freeze, Quiesce::Thaw]);
    drop((theirs, second));
}

#[test]
fn dropped_in_the_middle_of_a_freeze_it_fails_and_the_next_works() {
    let mut scene = Scene::new();
    let theirs = scene.other();
    let (watch, events, go) = hold(&scene.image);
    let taken = snapshot(theirs, "one");
    assert_told(&events, &[Quiesce::Freeze]);
    dropped(watch);
    let (theirs, outcome) = taken.join().unwrap();
    assert_eq!(outcome.unwrap_err().errno(), Some(Errno::ECANCELED));
    // The callback is still running. Its answer does not matter any more.
    drop(go);
    assert_ended(&events);
    drop(assert_works(&scene.image, theirs, "one"));
}

#[test]
fn dropped_by_its_own_callback_it_fails_and_the_next_works() {
    let mut scene = Scene::new();
    let theirs = scene.other();
    let slot = Arc::new(Mutex::new(None::<QuiesceWatch>));
    let (sender, events) = channel();
    let own = Arc::clone(&slot);
    let watch = scene.image.watch_quiesce(move |event| {
        drop(own.lock().unwrap().take());
        sender.send(event).unwrap();
        Ok(())
    });
    *slot.lock().unwrap() = Some(watch.unwrap());
    let (theirs, outcome) = snapshot(theirs, "one").join().unwrap();
    assert_eq!(outcome.unwrap_err().errno(), Some(Errno::ECANCELED));
    assert_told(&events, &[Quiesce::Freeze]);
    assert_ended(&events);
    drop(assert_works(&scene.image, theirs, "one"));
}

#[test]
fn dropped_between_freeze_and_thaw_the_snapshot_is_taken_and_the_next_works() {
    let mut scene = Scene::new();
    let theirs = scene.other();
    let slow = Arc::new(scene.other());
    // The client that takes the snapshot waits for this watch, which freezes late.
    let (slow_watch, slow_events, go) = hold(&slow);
    let (watch, events) = listen(&scene.image);
    let taken = snapshot(theirs, "one");
    assert_told(&events, &[Quiesce::Freeze]);
    assert_told(&slow_events, &[Quiesce::Freeze]);
    // There is no signal that the callback has returned and the answer is given.
    thread::sleep(Duration::from_millis(300));
    dropped(watch);
    assert_ended(&events);
    // A watch that begins now does not receive the thaw.
    let (late, late_events) = listen(&scene.image);
    go.send(()).unwrap();
    let (theirs, outcome) = taken.join().unwrap();
    // The second result occurs on a slow machine, if the watch was dropped before its answer.
    let outcome = outcome.map_err(|error| error.errno());
    assert!(matches!(outcome, Ok(()) | Err(Some(Errno::ECANCELED))), "{outcome:?}");
    assert_told(&slow_events, &[Quiesce::Thaw]);
    drop((slow_watch, go));
    drop(assert_works(&scene.image, theirs, "two"));
    assert_told(&late_events, &[Quiesce::Freeze, Quiesce::Thaw]);
    dropped(late);
}

/// librbd 16.2 aborts the process if the first watch of a handle begins during a snapshot.
#[test]
fn a_watch_may_begin_in_the_middle_of_a_snapshot() {
    let mut scene = Scene::new();
    let theirs = scene.other();
    let slow = Arc::new(scene.other());
    let (slow_watch, slow_events, go) = hold(&slow);
    let taken = snapshot(theirs, "one");
    assert_told(&slow_events, &[Quiesce::Freeze]);
    let (watch, events) = listen(&scene.image);
    go.send(()).unwrap();
    let (theirs, outcome) = taken.join().unwrap();
    outcome.unwrap();
    assert_told(&slow_events, &[Quiesce::Thaw]);
    drop((slow_watch, go));
    let theirs = assert_works(&scene.image, theirs, "two");
    // No thaw and no freeze of the first snapshot.
    assert_told(&events, &[Quiesce::Freeze, Quiesce::Thaw]);
    dropped((watch, theirs));
}

/// librbd 16.2 aborts the process if a snapshot begins between the opening of a handle and its
/// first watch.
#[test]
fn a_watch_may_begin_at_any_moment_of_a_snapshot() {
    if !alone("quiesce::a_watch_may_begin_at_any_moment_of_a_snapshot") {
        return;
    }
    let mut scene = Scene::new();
    let takers: Vec<_> = (0..2).map(|_| scene.other()).collect();
    let stop = AtomicBool::new(false);
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (number, theirs) in takers.iter().enumerate() {
            let (stop, taken) = (&stop, &taken);
            scope.spawn(move || {
                let name = format!("of {number}");
                while !stop.load(Relaxed) {
                    // Fails if a watch is dropped before it answers.
                    let outcome = theirs.snapshots().create(&name).run().map_err(|error| error.errno());
                    assert!(matches!(outcome, Ok(()) | Err(Some(Errno::ECANCELED))), "{outcome:?}");
                    if outcome.is_ok() {
                        theirs.snapshots().remove(&name).run().unwrap();
                        taken.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let end = Instant::now() + SOON;
        while Instant::now() < end {
            let (watch, events) = listen(&scene.image);
            let first = events.recv_timeout(SOON);
            dropped(watch);
            // No thaw without its freeze.
            if first != Ok(Quiesce::Freeze) {
                stop.store(true, Relaxed);
                panic!("{first:?}");
            }
        }
        stop.store(true, Relaxed);
    });
    assert!(taken.load(Relaxed) > 0);
    drop(takers);
    let theirs = scene.other();
    drop(assert_works(&scene.image, theirs, "last"));
}

#[test]
fn watches_may_be_dropped_at_any_moment_of_a_snapshot() {
    let mut scene = Scene::new();
    let mut theirs = scene.other();
    let mut taken = 0;
    for round in 0..4 {
        let watches: Vec<_> = (0..8).map(|_| listen(&scene.image)).collect();
        let (all_dropped, is_over) = channel::<()>();
        let taker = thread::spawn(move || {
            // At least one snapshot, for the remaining watches.
            while {
                // The snapshot fails if a watch is dropped before it answers.
                let outcome = theirs.snapshots().create(&format!("s{taken}")).run();
                let outcome = outcome.map_err(|error| error.errno());
                assert!(matches!(outcome, Ok(()) | Err(Some(Errno::ECANCELED))), "{outcome:?}");
                taken += 1;
                is_over.try_recv() == Err(TryRecvError::Empty)
            } {}
            (theirs, taken)
        });
        for (number, (watch, events)) in watches.into_iter().enumerate() {
            let _ = events.recv_timeout(Duration::from_millis(3 * (round + number as u64)));
            dropped(watch);
        }
        drop(all_dropped);
        (theirs, taken) = taker.join().unwrap();
    }
    drop(assert_works(&scene.image, theirs, "last"));
}

#[test]
fn an_image_that_closes_in_the_background_ends_its_watches_there() {
    let freezer = Freezer::get();
    let mut image = freezer.image();
    image.set_close_in_background(true);
    let image = Arc::new(image);
    let (watch, events) = listen(&image);
    let frozen = freezer.freeze();
    dropped((watch, image));
    drop(frozen);
    assert_ended(&events);
}

#[test]
fn an_image_for_reading_cannot_be_watched_for_snapshots() {
    let scene = Scene::new();
    let image = Arc::new(scene.space.open("foo").read_only(true).run().unwrap());
    let error = image.watch_quiesce(|_| Ok(())).err().unwrap();
    assert!(error.to_string().contains("open the image for writing"), "{error}");
}

#[test]
fn a_quiesce_watch_ends_with_the_image() {
    let Scene { image, space, .. } = Scene::new();
    let (watch, events) = listen(&image);
    drop(image);
    drop(watch);
    assert_ended(&events);
    space.remove("foo").run().expect("nobody has it open any more");
}
