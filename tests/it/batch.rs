//! Actions on many images.

use std::ops::ControlFlow;
use std::panic::{catch_unwind, panic_any, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbd::image::CloneFormat;
use rbd::{Errno, ErrorKind, Image};

use crate::support::{Space, alone, builder, pattern};

const SIZE: u64 = 8 << 20;

/// Creates images and returns their names.
fn images(space: &Space, count: usize) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|number| format!("image{number:02}")).collect();
    let report = space.batch(&names).run(|pool, name| pool.create(name, SIZE).run()).unwrap();
    assert!(report.is_complete(), "{report:?}");
    names
}

#[test]
fn many_are_snapshotted_trashed_and_removed() {
    let space = Space::new();
    let names = images(&space, 30);
    let mut reports = Vec::new();
    let progress = |done, total| {
        reports.push((done, total));
        ControlFlow::Continue(())
    };
    let snapshot = |pool: &rbd::IoCtx, name: &str| {
        let image = pool.open(name).run()?;
        image.snapshots().create("monday").run()?;
        image.close()
    };
    assert!(space.batch(&names).progress(progress).run(snapshot).unwrap().is_complete());
    assert!(reports.iter().copied().eq((1..=30).map(|done| (done, 30))), "{reports:?}");
    let found = space.survey().snapshots(true).run().unwrap();
    assert!(found.map(Result::unwrap).all(|image| image.snapshots[0].name == "monday"));

    // Their snapshots keep all of them, and one does not exist.
    let mut some = names[..5].to_vec();
    some.insert(2, "none".into());
    let report = space.batch(&some).run(|pool, name| pool.remove(name).run()).unwrap();
    assert!(report.done.is_empty() && report.skipped.is_empty() && !report.is_complete(), "{report:?}");
    assert!(report.failed.iter().map(|(name, _)| name).eq(&some));
    for (name, error) in &report.failed {
        let expected =
            if name == "none" { error.is_not_found() } else { *error.kind() == ErrorKind::HasSnapshots };
        assert!(expected && error.to_string().contains(&format!("/{name}'")), "{name}: {error}");
    }
    let purge = |pool: &rbd::IoCtx, name: &str| {
        let image = pool.open(name).run()?;
        image.snapshots().remove("monday").run()?;
        image.close()
    };
    assert!(space.batch(&names).run(purge).unwrap().is_complete());
    let trash = space.batch(&names[..10]).run(|pool, name| pool.trash().add(name).run()).unwrap();
    assert_eq!(trash.done.len(), 10);
    assert_eq!(space.trash().list().unwrap().len(), 10);
    assert!(space.batch(&names[10..]).run(|pool, name| pool.remove(name).run()).unwrap().is_complete());
    assert!(space.list().unwrap().is_empty());
    let ids: Vec<_> = space.trash().list().unwrap().into_iter().map(|entry| entry.id).collect();
    assert!(space.batch(&ids).run(|pool, id| pool.trash().remove(id).run()).unwrap().is_complete());
}

#[test]
fn many_are_flattened() {
    let space = Space::new();
    space.create("parent", SIZE).run().unwrap();
    let parent = space.open("parent").run().unwrap();
    parent.write_all_at(&pattern(1, 4096), 0).unwrap();
    parent.snapshots().create("base").run().unwrap();
    let clones: Vec<_> = (0..8).map(|number| format!("clone{number}")).collect();
    let clone = |pool: &rbd::IoCtx, name: &str| {
        pool.clone_image("parent", "base", name).format(CloneFormat::V2).run()
    };
    assert!(space.batch(&clones).run(clone).unwrap().is_complete());
    let flatten = |pool: &rbd::IoCtx, name: &str| {
        let image = pool.open(name).run()?;
        image.flatten().run()?;
        image.close()
    };
    assert!(space.batch(&clones).max_in_flight(3).run(flatten).unwrap().is_complete());
    // A second time there is nothing to flatten.
    let report = space.batch(&clones).run(flatten).unwrap();
    assert_eq!(report.failed.len(), 8);
    assert_eq!(report.failed[0].1.errno(), Some(Errno::EINVAL));
    assert!(parent.children().unwrap().is_empty());
}

#[test]
fn no_more_run_at_once_and_a_break_skips_the_rest() {
    let space = Space::new();
    let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let action = |_: &rbd::IoCtx, name: &str| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(5));
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(name.len())
    };
    let report = space.batch(&names).max_in_flight(4).run(action).unwrap();
    assert!(
        report.done.iter().map(|(name, len)| (name, *len)).eq(names.iter().map(|name| (name, name.len())))
    );
    assert!((2..=4).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    let stop = |done, _| if done == 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let report = space.batch(&names).max_in_flight(2).progress(stop).run(action).unwrap();
    assert!((6..=12).contains(&report.done.len()), "{}", report.done.len());
    assert_eq!(report.done.len() + report.skipped.len(), 40);
    assert_eq!(report.skipped.last().unwrap(), "39");
    let none: [&str; 0] = [];
    assert!(space.batch(&none).run(action).unwrap().is_complete());
    let panic = std::panic::catch_unwind(|| {
        space.batch(&names).run(|_, name| if name == "7" { panic!("of the action") } else { Ok(()) })
    });
    assert!(panic.is_err());
}

/// Each action has a thread, and Ceph ends the process if it cannot start a thread itself.
#[test]
fn the_actions_at_once_are_from_1_to_1024() {
    // Other tests need threads, too.
    if !alone("batch::the_actions_at_once_are_from_1_to_1024") {
        return;
    }
    let space = Space::new();
    let names: Vec<_> = (0..1200).map(|number| number.to_string()).collect();
    let caller = thread::current().id();
    for (wanted, limit) in [(usize::MAX, 1024), (0, 1)] {
        let (now, most, end) =
            (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now() + Duration::from_secs(60));
        let action = |_: &rbd::IoCtx, _: &str| {
            // The progress callback would not be called meanwhile.
            assert_ne!(thread::current().id(), caller);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // The first actions end when all threads have started, and more could have.
            while most.load(Ordering::SeqCst) < limit && Instant::now() < end {
                thread::sleep(Duration::from_millis(10));
            }
            if most.load(Ordering::SeqCst) == limit && limit > 1 {
                thread::sleep(Duration::from_millis(200));
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        let report = space.batch(&names).max_in_flight(wanted).run(action).unwrap();
        assert_eq!(report.done.len(), names.len());
        assert_eq!(most.load(Ordering::SeqCst), limit, "{wanted}");
    }
}

/// A panic whose payload panics when it is dropped.
struct Twice;

impl Drop for Twice {
    fn drop(&mut self) {
        resume_unwind(Box::new("in the drop of what a panic carries"));
    }
}

/// The library dropped it, which ended the process.
#[test]
fn an_action_panics_with_a_payload_that_panics_when_dropped() {
    if !alone("batch::an_action_panics_with_a_payload_that_panics_when_dropped") {
        return;
    }
    let space = Space::new();
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let run = || space.batch(&names).run(|_, _| -> rbd::Result<()> { panic_any(Twice) });
    let payload = catch_unwind(run).expect_err("it panics");
    assert!(payload.is::<Twice>());
    std::mem::forget(payload);
}

/// A connection of its own, so that the watches are only those of this test.
#[test]
fn many_are_opened_read_only_without_a_watch() {
    let connection = builder().connect().unwrap();
    let space = Space::on(&connection);
    let names = images(&space, 20);
    let open = |pool: &rbd::IoCtx, name: &str| pool.open(name).read_only(true).run();
    let report = space.batch(&names).max_in_flight(16).run(open).unwrap();
    assert!(report.is_complete(), "{report:?}");
    let open: Vec<Image> = report.done.into_iter().map(|(_, image)| image).collect();
    for image in &open {
        assert_eq!(image.size().unwrap(), SIZE);
        assert!(image.watchers().unwrap().is_empty());
    }
}
