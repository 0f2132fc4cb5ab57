//! Pools, groups, objects, mirroring, the trash.

use rbd::mirror::{Direction, PeerAccess};

use super::super::Table;
use super::{done, seconds};
use crate::support::wait_for_options;

pub(in super::super) const POOLS: Table = &[
    ("rbd::group::Group::add", |all, _, t| done(all.pool.group(t).add(&all.pool, t))),
    ("rbd::group::Group::remove", |all, _, t| done(all.pool.group(t).remove(&all.pool, t))),
    ("rbd::group::Group::remove_by_id", |all, _, t| done(all.pool.group(t).remove_by_id(&all.pool, t))),
    ("rbd::group::GroupSnapshots::create", |all, _, t| done(all.pool.group(t).snapshots().create(t).run())),
    ("rbd::group::GroupSnapshots::info", |all, _, t| done(all.pool.group(t).snapshots().info(t))),
    ("rbd::group::GroupSnapshots::remove", |all, _, t| done(all.pool.group(t).snapshots().remove(t))),
    ("rbd::group::GroupSnapshots::rename", |all, _, t| done(all.pool.group(t).snapshots().rename(t, t))),
    ("rbd::group::GroupSnapshots::rollback", |all, _, t| {
        done(all.pool.group(t).snapshots().rollback(t).run())
    }),
    ("rbd::group::Groups::create", |all, _, t| done(all.pool.groups().create(t))),
    ("rbd::group::Groups::rename", |all, _, t| done(all.pool.groups().rename(t, t))),
    ("rbd::group::Groups::remove", |all, _, t| done(all.pool.groups().remove(t))),
    ("rbd::config::PoolConfig::set", |all, _, t| {
        done(all.pool.config().set(t, t));
        if all.pool.config().set("rbd_cache", t).is_ok() {
            wait_for_options();
        }
    }),
    ("rbd::config::PoolConfig::remove", |all, _, t| {
        done(all.pool.config().remove(t));
        if all.pool.config().remove("rbd_cache").is_ok() {
            wait_for_options();
        }
    }),
    ("rbd::ioctx::ApplicationMetadata::set", |all, _, t| {
        done(all.pool.applications().metadata("rbd").set(t, t))
    }),
    ("rbd::ioctx::ApplicationMetadata::remove", |all, _, t| {
        done(all.pool.applications().metadata("rbd").remove(t))
    }),
    ("rbd::ioctx::Applications::enable", |all, _, t| done(all.pool.applications().enable(t).run())),
    ("rbd::ioctx::Applications::metadata", |all, _, t| done(all.pool.applications().metadata(t).list())),
    ("rbd::ioctx::IoCtx::group", |all, _, t| done(all.pool.group(t).list())),
    ("rbd::ioctx::IoCtx::migration", |all, _, t| done(all.pool.migration(t).status())),
    ("rbd::ioctx::IoCtx::open", |all, _, t| done(all.pool.open(t).run())),
    ("rbd::ioctx::IoCtx::open_by_id", |all, _, t| done(all.pool.open_by_id(t).run())),
    ("rbd::ioctx::IoCtx::remove", |all, _, t| done(all.pool.remove(t).run())),
    ("rbd::ioctx::IoCtx::rename", |all, _, t| done(all.pool.rename(t, t))),
    ("rbd::ioctx::IoCtx::watch_blocklisting", |all, n, _| {
        done(all.pool.watch_blocklisting(seconds(n), || {}))
    }),
    ("rbd::ioctx::IoCtx::with_namespace", |all, _, t| {
        done(all.pool.with_namespace(t).and_then(|pool| pool.list()))
    }),
    ("rbd::ioctx::Namespaces::create", |all, _, t| done(all.pool.namespaces().create(t))),
    ("rbd::ioctx::Namespaces::exists", |all, _, t| done(all.pool.namespaces().exists(t))),
    ("rbd::ioctx::Namespaces::remove", |all, _, t| done(all.pool.namespaces().remove(t))),
    ("rbd::metadata::PoolMetadata::set", |all, _, t| done(all.pool.metadata().set(t, t))),
    ("rbd::metadata::PoolMetadata::get", |all, _, t| done(all.pool.metadata().get(t))),
    ("rbd::metadata::PoolMetadata::remove", |all, _, t| done(all.pool.metadata().remove(t))),
    ("rbd::mirror::Peers::access", |all, _, t| done(all.pool.mirroring().peers().access(t))),
    ("rbd::mirror::Peers::add", |all, _, t| done(all.pool.mirroring().peers().add(t, t).run())),
    ("rbd::mirror::Peers::remove", |all, _, t| done(all.pool.mirroring().peers().remove(t))),
    ("rbd::mirror::Peers::set_access", |all, _, t| {
        done(all.pool.mirroring().peers().set_access(t, &PeerAccess::default()))
    }),
    ("rbd::mirror::Peers::set_client_name", |all, _, t| {
        done(all.pool.mirroring().peers().set_client_name(t, t))
    }),
    ("rbd::mirror::Peers::set_direction", |all, _, t| {
        done(all.pool.mirroring().peers().set_direction(t, Direction::RxOnly))
    }),
    ("rbd::mirror::Peers::set_site_name", |all, _, t| done(all.pool.mirroring().peers().set_site_name(t, t))),
    ("rbd::mirror::PoolMirroring::set_remote_namespace", |all, _, t| {
        done(all.pool.mirroring().set_remote_namespace(t))
    }),
    ("rbd::rados::Objects::write_full", |all, _, t| done(all.pool.objects().write_full(t, t.as_bytes()))),
    ("rbd::rados::Objects::write_at", |all, n, t| done(all.pool.objects().write_at(t, t.as_bytes(), n))),
    ("rbd::rados::Objects::read_at", |all, n, t| {
        done(all.pool.objects().read_at(t, &mut [0; 512], n));
    }),
    ("rbd::rados::Objects::set_omap", |all, _, t| {
        done(all.pool.objects().set_omap(t, &[(t.as_bytes(), t.as_bytes())]))
    }),
    ("rbd::rados::Objects::execute", |all, _, t| {
        done(all.pool.objects().execute(t, t, t, t.as_bytes()));
    }),
    ("rbd::rados::Objects::omap", |all, _, t| done(all.pool.objects().omap(t))),
    ("rbd::rados::Objects::remove_omap", |all, _, t| {
        done(all.pool.objects().remove_omap(t, &[t.as_bytes()]))
    }),
    ("rbd::rados::Objects::attributes", |all, _, t| done(all.pool.objects().attributes(t))),
    ("rbd::rados::Objects::stat", |all, _, t| done(all.pool.objects().stat(t))),
    ("rbd::rados::Objects::remove", |all, _, t| done(all.pool.objects().remove(t))),
    ("rbd::batch::Batch::max_in_flight", |all, n, t| {
        let names = [t];
        let batch = all.pool.batch(&names).max_in_flight(n as usize);
        done(batch.run(|pool, name| pool.open(name).read_only(true).run().map(drop)));
    }),
    ("rbd::survey::Survey::image", |all, _, t| {
        done(all.pool.survey().image(t).run().map(|images| images.for_each(done)));
    }),
    ("rbd::survey::Survey::max_in_flight", |all, n, _| {
        done(all.pool.survey().max_in_flight(n as usize).run().map(|images| images.take(10).for_each(done)));
    }),
    ("rbd::trash::AddToTrash::delay", |all, n, _| {
        done(all.pool.trash().add("foo").delay(seconds(n)).run());
        done(all.pool.trash().purge().run());
    }),
    ("rbd::trash::RestoreTrashed::name", |all, _, t| done(all.pool.trash().restore(t).name(t).run())),
    ("rbd::trash::Trash::add", |all, _, t| done(all.pool.trash().add(t).run())),
    ("rbd::trash::Trash::get", |all, _, t| done(all.pool.trash().get(t))),
    ("rbd::trash::Trash::remove", |all, _, t| done(all.pool.trash().remove(t).run())),
    ("rbd::trash::Trash::restore", |all, _, t| done(all.pool.trash().restore(t).run())),
];
