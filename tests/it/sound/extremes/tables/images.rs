//! New images, open images, and I/O.

use std::ops::ControlFlow::{Break, Continue};

use bytes::{Bytes, BytesMut};
use rbd::aio::AsyncCursor;
use rbd::queue::Buffer;
use rbd::{AccessHints, Queue, Result};
use tokio::io::AsyncReadExt;

use super::super::{All, MIB, Table};
use super::{done, seconds};
use crate::support::block_on;

const SOURCE: &str = r#"{"type": "raw", "stream": {"type": "file", "file_path": "/nonexistent"}}"#;

/// Removes the image that was created.
fn new(all: &All, made: Result<()>) {
    if made.is_err() {
        return;
    }
    done(all.pool.migration("new").abort().run());
    if let Ok(image) = all.pool.open("new").run() {
        for snapshot in image.snapshots().list().unwrap() {
            done(image.snapshots().remove(&snapshot.name).unprotect(true).run());
        }
        image.close().unwrap();
        done(all.pool.remove("new").run());
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn cursor(all: &All, at: u64, with: impl FnOnce(&mut rbd::image::Cursor<&rbd::Image>)) {
    let mut cursor = rbd::image::Cursor::new(&all.huge);
    done(std::io::Seek::seek(&mut cursor, std::io::SeekFrom::Start(at)));
    with(&mut cursor);
}

fn hinted(all: &All, hints: u64) -> rbd::image::Hinted<'_> {
    all.huge.hints(AccessHints::from_bits_retain(hints as u32))
}

/// Submits to a queue and waits until it is empty.
fn queue(all: &All, submit: impl FnOnce(&mut Queue)) {
    let mut queue = Queue::new(all.pool.open("foo").run().unwrap(), 2).unwrap();
    submit(&mut queue);
    while queue.in_flight() > 0 {
        queue.wait(None).unwrap();
        while queue.reap().is_some() {}
    }
}

pub(in super::super) const NEW_IMAGES: Table = &[
    ("rbd::image::CloneImage::data_pool", |all, _, t| {
        new(all, all.pool.clone_image("foo", "s", "new").data_pool(t).run())
    }),
    ("rbd::image::CloneImage::journal_pool", |all, _, t| {
        new(all, all.pool.clone_image("foo", "s", "new").journal_pool(t).run())
    }),
    ("rbd::image::CloneImage::journal_object_size", |all, n, _| {
        new(all, all.pool.clone_image("foo", "s", "new").journal_object_size(n).run())
    }),
    ("rbd::image::CloneImage::journal_splay_width", |all, n, _| {
        new(all, all.pool.clone_image("foo", "s", "new").journal_splay_width(n).run())
    }),
    ("rbd::image::CloneImage::object_size", |all, n, _| {
        new(all, all.pool.clone_image("foo", "s", "new").object_size(n).run())
    }),
    ("rbd::image::CloneImage::striping", |all, n, _| {
        new(all, all.pool.clone_image("foo", "s", "new").striping(n, n).run());
        new(all, all.pool.clone_image("foo", "s", "new").striping(4096, n).run());
    }),
    ("rbd::image::CopyImage::data_pool", |all, _, t| {
        new(all, all.image.copy_to(&all.pool, "new").data_pool(t).run())
    }),
    ("rbd::image::CopyImage::journal_pool", |all, _, t| {
        new(all, all.image.copy_to(&all.pool, "new").journal_pool(t).run())
    }),
    ("rbd::image::CopyImage::journal_object_size", |all, n, _| {
        new(all, all.image.copy_to(&all.pool, "new").journal_object_size(n).run())
    }),
    ("rbd::image::CopyImage::journal_splay_width", |all, n, _| {
        new(all, all.image.copy_to(&all.pool, "new").journal_splay_width(n).run())
    }),
    ("rbd::image::CopyImage::object_size", |all, n, _| {
        new(all, all.image.copy_to(&all.pool, "new").object_size(n).run())
    }),
    ("rbd::image::CopyImage::striping", |all, n, _| {
        new(all, all.image.copy_to(&all.pool, "new").striping(n, n).run());
        new(all, all.image.copy_to(&all.pool, "new").striping(4096, n).run());
    }),
    ("rbd::image::CopyImage::sparse_size", |all, n, _| {
        new(all, all.image.copy_to(&all.pool, "new").sparse_size(n).run())
    }),
    ("rbd::image::DeepCopyImage::data_pool", |all, _, t| {
        new(all, all.image.deep_copy_to(&all.pool, "new").data_pool(t).run())
    }),
    ("rbd::image::DeepCopyImage::journal_pool", |all, _, t| {
        new(all, all.image.deep_copy_to(&all.pool, "new").journal_pool(t).run())
    }),
    ("rbd::image::DeepCopyImage::journal_object_size", |all, n, _| {
        new(all, all.image.deep_copy_to(&all.pool, "new").journal_object_size(n).run())
    }),
    ("rbd::image::DeepCopyImage::journal_splay_width", |all, n, _| {
        new(all, all.image.deep_copy_to(&all.pool, "new").journal_splay_width(n).run())
    }),
    ("rbd::image::DeepCopyImage::object_size", |all, n, _| {
        new(all, all.image.deep_copy_to(&all.pool, "new").object_size(n).run())
    }),
    ("rbd::image::DeepCopyImage::striping", |all, n, _| {
        new(all, all.image.deep_copy_to(&all.pool, "new").striping(n, n).run());
        // Each unit becomes an object, and costs 40 ms of processor time: few are enough.
        all.pool.create("few", 16 * 4096).run().unwrap();
        let few = all.pool.open("few").run().unwrap();
        few.snapshots().create("s").run().unwrap();
        new(all, few.deep_copy_to(&all.pool, "new").striping(4096, n).run());
        few.snapshots().remove("s").run().unwrap();
        few.close().unwrap();
        all.pool.remove("few").run().unwrap();
    }),
    ("rbd::ioctx::CreateImage::data_pool", |all, _, t| {
        new(all, all.pool.create("new", MIB).data_pool(t).run())
    }),
    ("rbd::ioctx::CreateImage::journal_pool", |all, _, t| {
        new(all, all.pool.create("new", MIB).journal_pool(t).run())
    }),
    ("rbd::ioctx::CreateImage::journal_object_size", |all, n, _| {
        new(all, all.pool.create("new", MIB).journal_object_size(n).run())
    }),
    ("rbd::ioctx::CreateImage::journal_splay_width", |all, n, _| {
        new(all, all.pool.create("new", MIB).journal_splay_width(n).run())
    }),
    ("rbd::ioctx::CreateImage::object_size", |all, n, _| {
        new(all, all.pool.create("new", MIB).object_size(n).run())
    }),
    ("rbd::ioctx::CreateImage::striping", |all, n, _| {
        new(all, all.pool.create("new", MIB).striping(n, n).run());
        new(all, all.pool.create("new", MIB).striping(4096, n).run());
    }),
    ("rbd::migration::PrepareImport::data_pool", |all, _, t| {
        new(all, all.pool.prepare_import(SOURCE, "new").data_pool(t).run())
    }),
    ("rbd::migration::PrepareImport::journal_pool", |all, _, t| {
        new(all, all.pool.prepare_import(SOURCE, "new").journal_pool(t).run())
    }),
    ("rbd::migration::PrepareImport::journal_object_size", |all, n, _| {
        new(all, all.pool.prepare_import(SOURCE, "new").journal_object_size(n).run())
    }),
    ("rbd::migration::PrepareImport::journal_splay_width", |all, n, _| {
        new(all, all.pool.prepare_import(SOURCE, "new").journal_splay_width(n).run())
    }),
    ("rbd::migration::PrepareImport::object_size", |all, n, _| {
        new(all, all.pool.prepare_import(SOURCE, "new").object_size(n).run())
    }),
    ("rbd::migration::PrepareImport::striping", |all, n, _| {
        new(all, all.pool.prepare_import(SOURCE, "new").striping(n, n).run());
        new(all, all.pool.prepare_import(SOURCE, "new").striping(4096, n).run());
    }),
    ("rbd::migration::PrepareMigration::data_pool", |all, _, t| {
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").data_pool(t).run())
    }),
    ("rbd::migration::PrepareMigration::journal_pool", |all, _, t| {
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").journal_pool(t).run())
    }),
    ("rbd::migration::PrepareMigration::journal_object_size", |all, n, _| {
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").journal_object_size(n).run())
    }),
    ("rbd::migration::PrepareMigration::journal_splay_width", |all, n, _| {
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").journal_splay_width(n).run())
    }),
    ("rbd::migration::PrepareMigration::object_size", |all, n, _| {
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").object_size(n).run())
    }),
    ("rbd::migration::PrepareMigration::striping", |all, n, _| {
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").striping(n, n).run());
        new(all, all.pool.prepare_migration("foo", &all.pool, "new").striping(4096, n).run());
    }),
    ("rbd::ioctx::IoCtx::create", |all, n, t| {
        done(all.pool.create(t, MIB).run());
        new(all, all.pool.create("new", n).run());
    }),
    ("rbd::ioctx::IoCtx::clone_image", |all, n, t| {
        done(all.pool.clone_image(t, t, t).run());
        new(all, all.pool.clone_image("foo", n, "new").run());
    }),
    ("rbd::ioctx::IoCtx::prepare_import", |all, _, t| done(all.pool.prepare_import(t, t).run())),
    ("rbd::ioctx::IoCtx::prepare_migration", |all, _, t| {
        done(all.pool.prepare_migration(t, &all.pool, t).run())
    }),
    ("rbd::image::Image::copy_to", |all, _, t| done(all.image.copy_to(&all.pool, t).run())),
    ("rbd::image::Image::deep_copy_to", |all, _, t| done(all.image.deep_copy_to(&all.pool, t).run())),
];

pub(in super::super) const IMAGES: Table = &[
    ("rbd::config::ImageConfig::set", |all, _, t| {
        done((all.image.config().set(t, t), all.image.config().set("rbd_cache", t)))
    }),
    ("rbd::config::ImageConfig::remove", |all, _, t| {
        done((all.image.config().remove(t), all.image.config().remove("rbd_cache")))
    }),
    ("rbd::diff::Diff::from_snapshot", |all, n, t| {
        done(all.image.diff().from_snapshot(t).for_each(|_| Continue(())));
        done(all.image.diff().from_snapshot(n).for_each(|_| Continue(())));
    }),
    ("rbd::diff::Diff::range", |all, n, _| {
        done(all.image.diff().range(n, n).for_each(|_| Continue(())));
        done(all.image.diff().range(0, n).for_each(|_| Continue(())));
    }),
    ("rbd::image::Image::at_snapshot", |all, n, t| {
        done((all.image.at_snapshot(t), all.image.at_snapshot(n)))
    }),
    ("rbd::image::Image::sparsify", |all, n, _| done(all.image.sparsify(n).run())),
    ("rbd::image::OpenImage::snapshot", |all, n, t| {
        done((all.pool.open("foo").snapshot(t).run(), all.pool.open("foo").snapshot(n).run()))
    }),
    ("rbd::lock::AdvisoryLocks::acquire_exclusive", |all, _, t| {
        done(all.image.advisory_locks().acquire_exclusive(t))
    }),
    ("rbd::lock::AdvisoryLocks::release", |all, _, t| done(all.image.advisory_locks().release(t))),
    ("rbd::lock::AdvisoryLocks::acquire_shared", |all, _, t| {
        done(all.image.advisory_locks().acquire_shared(t, t));
        done(all.image.advisory_locks().list());
        done(all.image.advisory_locks().release(t));
    }),
    ("rbd::metadata::ImageMetadata::set", |all, _, t| done(all.image.metadata().set(t, t))),
    ("rbd::metadata::ImageMetadata::get", |all, _, t| done(all.image.metadata().get(t))),
    ("rbd::metadata::ImageMetadata::remove", |all, _, t| done(all.image.metadata().remove(t))),
    ("rbd::snapshot::Snapshots::create", |all, _, t| done(all.image.snapshots().create(t).run())),
    ("rbd::snapshot::Snapshots::created", |all, n, _| done(all.image.snapshots().created(n))),
    ("rbd::snapshot::Snapshots::exists", |all, _, t| done(all.image.snapshots().exists(t))),
    ("rbd::snapshot::Snapshots::id", |all, _, t| done(all.image.snapshots().id(t))),
    ("rbd::snapshot::Snapshots::is_protected", |all, _, t| done(all.image.snapshots().is_protected(t))),
    ("rbd::snapshot::Snapshots::name", |all, n, _| done(all.image.snapshots().name(n))),
    ("rbd::snapshot::Snapshots::origin", |all, n, _| done(all.image.snapshots().origin(n))),
    ("rbd::snapshot::Snapshots::protect", |all, _, t| done(all.image.snapshots().protect(t))),
    ("rbd::snapshot::Snapshots::unprotect", |all, _, t| done(all.image.snapshots().unprotect(t))),
    ("rbd::snapshot::Snapshots::rename", |all, _, t| done(all.image.snapshots().rename(t, t))),
    ("rbd::snapshot::Snapshots::rollback", |all, _, t| done(all.image.snapshots().rollback(t).run())),
    ("rbd::snapshot::Snapshots::remove", |all, _, t| done(all.image.snapshots().remove(t).run())),
    ("rbd::snapshot::Snapshots::remove_by_id", |all, n, _| done(all.image.snapshots().remove_by_id(n))),
    ("rbd::snapshot::Snapshots::set_limit", |all, n, _| done(all.image.snapshots().set_limit(n))),
    ("rbd::image::Image::resize", |all, n, _| done(all.image.resize(n).run())),
];

pub(in super::super) const IO: Table = &[
    ("rbd::aio::Aio::compare_and_write", |all, n, t| {
        done(all.huge.aio().compare_and_write(n, bytes(t), bytes(t)).wait())
    }),
    ("rbd::aio::Aio::compare_and_write_vectored", |all, n, t| {
        done(all.huge.aio().compare_and_write_vectored(n, vec![bytes(t)], vec![bytes(t)]).wait())
    }),
    ("rbd::aio::Aio::discard", |all, n, _| {
        done(all.image.aio().discard(n, n).wait());
        done(all.image.aio().discard(0, n).wait());
    }),
    ("rbd::aio::Aio::read", |all, n, _| {
        done(all.huge.aio().read(n, 512).wait());
        done(all.huge.aio().read(0, n as usize).wait());
    }),
    ("rbd::aio::Aio::read_into", |all, n, _| {
        done(all.huge.aio().read_into(0, n as usize, BytesMut::new()).wait())
    }),
    ("rbd::aio::Aio::read_vectored", |all, n, t| {
        done(all.huge.aio().read_vectored(n, vec![BytesMut::zeroed(t.len())]).wait())
    }),
    ("rbd::aio::Aio::write", |all, n, t| done(all.huge.aio().write(n, bytes(t)).wait())),
    ("rbd::aio::Aio::write_same", |all, n, t| {
        done(all.image.aio().write_same(n, n, bytes(t)).wait());
        done(all.image.aio().write_same(0, n, bytes("x")).wait());
    }),
    ("rbd::aio::Aio::write_vectored", |all, n, t| {
        done(all.huge.aio().write_vectored(n, vec![bytes(t)]).wait())
    }),
    ("rbd::aio::Aio::write_zeroes", |all, n, _| {
        done(all.image.aio().write_zeroes(0, n).wait());
        done(all.image.aio().write_zeroes(n, n).wait());
    }),
    ("rbd::aio::Aio::write_zeroes_thick", |all, n, _| {
        done(all.image.aio().write_zeroes_thick(0, n).wait());
        done(all.image.aio().write_zeroes_thick(n, n).wait());
    }),
    ("rbd::aio::AsyncCursor::chunk_size", |all, n, _| {
        done(block_on(AsyncCursor::new(&*all.image).chunk_size(n as usize).read(&mut [0; 512])));
    }),
    ("rbd::aio::AsyncCursor::max_in_flight", |all, n, _| {
        done(block_on(AsyncCursor::new(&*all.image).max_in_flight(n as usize).read(&mut [0; 512])));
    }),
    ("rbd::aio::Closing::timeout", |all, n, _| {
        done(all.pool.open("foo").run().unwrap().start_close().timeout(seconds(n)).wait())
    }),
    ("rbd::aio::Op::timeout", |all, n, _| done(all.huge.aio().read(0, 512).timeout(seconds(n)).wait())),
    ("rbd::aio::Opening::timeout", |all, n, _| done(all.pool.open("foo").start().timeout(seconds(n)).wait())),
    ("rbd::image::Cursor::read", |all, n, _| {
        cursor(all, n, |cursor| done(std::io::Read::read(cursor, &mut [0; 512])));
    }),
    ("rbd::image::Cursor::write", |all, n, t| {
        cursor(all, n, |cursor| done(std::io::Write::write(cursor, t.as_bytes())))
    }),
    ("rbd::image::Hinted::read_at", |all, n, _| {
        done(hinted(all, n).read_at(&mut [0; 512], n));
    }),
    ("rbd::image::Hinted::read_exact_at", |all, n, _| {
        done(hinted(all, n).read_exact_at(&mut [0; 512], n));
    }),
    ("rbd::image::Hinted::write_all_at", |all, n, t| done(hinted(all, n).write_all_at(t.as_bytes(), n))),
    ("rbd::image::Hinted::write_at", |all, n, t| done(hinted(all, n).write_at(t.as_bytes(), n))),
    ("rbd::image::Image::compare_and_write", |all, n, t| {
        done(all.huge.compare_and_write(n, t.as_bytes(), t.as_bytes()))
    }),
    ("rbd::image::Image::discard", |all, n, _| done((all.image.discard(0, n), all.image.discard(n, n)))),
    ("rbd::image::Image::read_at", |all, n, _| {
        done(all.huge.read_at(&mut [0; 512], n));
    }),
    ("rbd::image::Image::read_each", |all, n, _| {
        done(all.huge.read_each(n, 512, |_, _| Continue(())));
        // Reading all of it would take years.
        done(all.huge.read_each(0, n, |_, _| Break(())));
    }),
    ("rbd::image::Image::read_exact_at", |all, n, _| {
        done(all.huge.read_exact_at(&mut [0; 512], n));
    }),
    ("rbd::image::Image::write_all_at", |all, n, t| done(all.huge.write_all_at(t.as_bytes(), n))),
    ("rbd::image::Image::write_at", |all, n, t| done(all.huge.write_at(t.as_bytes(), n))),
    ("rbd::image::Image::write_same", |all, n, t| {
        done((all.image.write_same(0, n, b"x"), all.image.write_same(n, n, t.as_bytes())))
    }),
    ("rbd::image::Image::write_zeroes", |all, n, _| {
        done((all.image.write_zeroes(0, n), all.image.write_zeroes(n, n)))
    }),
    ("rbd::image::Image::write_zeroes_thick", |all, n, _| {
        done((all.image.write_zeroes_thick(0, n), all.image.write_zeroes_thick(n, n)))
    }),
];

pub(in super::super) const QUEUES: Table = &[
    ("rbd::queue::Buffer::from", |_, _, t| done((Buffer::from(bytes(t)), Buffer::from(vec![bytes(t)])))),
    ("rbd::queue::Queue::new", |all, n, _| done(Queue::new(all.pool.open("foo").run().unwrap(), n as usize))),
    ("rbd::queue::Queue::compare_and_write", |all, n, t| {
        queue(all, |queue| done(queue.compare_and_write(n, n, bytes(t), bytes(t))))
    }),
    ("rbd::queue::Queue::compare_and_write_vectored", |all, n, t| {
        queue(all, |queue| done(queue.compare_and_write_vectored(n, n, vec![bytes(t)], vec![bytes(t)])))
    }),
    ("rbd::queue::Queue::discard", |all, n, _| queue(all, |queue| done(queue.discard(n, 0, n)))),
    ("rbd::queue::Queue::flush", |all, n, _| queue(all, |queue| done(queue.flush(n)))),
    ("rbd::queue::Queue::read", |all, n, _| {
        queue(all, |queue| done(queue.read(n, 0, n as usize, BytesMut::new())))
    }),
    ("rbd::queue::Queue::read_vectored", |all, n, t| {
        queue(all, |queue| done(queue.read_vectored(n, n, vec![BytesMut::zeroed(t.len())])))
    }),
    ("rbd::queue::Queue::write", |all, n, t| queue(all, |queue| done(queue.write(n, n, bytes(t))))),
    ("rbd::queue::Queue::write_same", |all, n, _| {
        queue(all, |queue| done(queue.write_same(n, 0, n, bytes("x"))))
    }),
    ("rbd::queue::Queue::write_vectored", |all, n, t| {
        queue(all, |queue| done(queue.write_vectored(n, n, vec![bytes(t)])))
    }),
    ("rbd::queue::Queue::write_zeroes", |all, n, _| queue(all, |queue| done(queue.write_zeroes(n, 0, n)))),
    ("rbd::queue::Queue::write_zeroes_thick", |all, n, _| {
        queue(all, |queue| done(queue.write_zeroes_thick(n, 0, n)))
    }),
    ("rbd::queue::Queue::set_timeout", |all, n, _| queue(all, |queue| queue.set_timeout(seconds(n)))),
    ("rbd::queue::Queue::wait", |all, n, _| queue(all, |queue| done(queue.wait(seconds(n))))),
];
