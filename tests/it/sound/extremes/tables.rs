//! The functions, each with a call that takes a number and a text.

mod images;
mod pools;

use std::time::Duration;

use rbd::cluster::Key;
use rbd::features::{Features, Flags, OpFeatures};
use rbd::krbd::{self, Credentials, Host, MapOptions};
use rbd::{AccessHints, ClientAddress, Cluster, ClusterBuilder, Errno, ImageSpec, SnapshotRef};

use super::{All, Table};
use crate::support::builder;

pub(super) use images::{IMAGES, IO, NEW_IMAGES, QUEUES};
pub(super) use pools::POOLS;

/// Functions that are not called. Their listed types belong to callbacks or results.
pub(super) const LEFT_OUT: &[&str] = &[
    "rbd::aio::AsyncCursor::poll_write",
    "rbd::batch::Batch::progress",
    "rbd::batch::Batch::run",
    "rbd::group::RollbackGroup::progress",
    "rbd::image::CopyImage::progress",
    "rbd::image::DeepCopyImage::progress",
    "rbd::image::Resize::progress",
    "rbd::ioctx::RemoveImage::progress",
    "rbd::krbd::Device::number",
    // They need a mapped device: tests/it/krbd.
    "rbd::krbd::Unmap::busy_timeout",
    "rbd::krbd::Unmap::timeout",
    "rbd::progress::LongOperation::progress",
    // Unsafe: tests/it/queue/foreign.rs.
    "rbd::queue::Queue::read_raw",
    "rbd::queue::Queue::write_raw",
    "rbd::snapshot::CreateSnapshot::progress",
    "rbd::snapshot::RemoveSnapshot::progress",
    "rbd::trash::PurgeTrash::progress",
    "rbd::trash::RemoveTrashed::progress",
];

/// Drops the result of a call.
fn done<T>(_: T) {}

pub(super) fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn connect(change: impl FnOnce(ClusterBuilder) -> ClusterBuilder) {
    done(change(builder().connect_timeout(Duration::from_secs(5))).connect());
}

pub(super) const VALUES: Table = &[
    ("rbd::AccessHints::from_bits", |_, n, _| done(AccessHints::from_bits(n as u32))),
    ("rbd::AccessHints::from_bits_retain", |_, n, _| {
        done(AccessHints::from_bits_retain(n as u32).bits().to_string());
    }),
    ("rbd::AccessHints::from_bits_truncate", |_, n, _| done(AccessHints::from_bits_truncate(n as u32))),
    ("rbd::AccessHints::from_name", |_, _, t| done(AccessHints::from_name(t))),
    ("rbd::ClientAddress::from_str", |_, _, t| done(t.parse::<ClientAddress>())),
    ("rbd::Errno::new", |_, n, _| done(Errno::new(n as i32).to_string())),
    ("rbd::ImageSpec::from_str", |_, _, t| done(t.parse::<ImageSpec>())),
    ("rbd::ImageSpec::namespace", |_, _, t| done(ImageSpec::new(t, t).namespace(t).to_string())),
    ("rbd::ImageSpec::new", |_, _, t| done(ImageSpec::new(t, t).to_string())),
    ("rbd::ImageSpec::snapshot", |_, _, t| done(ImageSpec::new(t, t).snapshot(t).to_string())),
    ("rbd::SnapshotRef::from", |all, n, t| {
        done(all.image.at_snapshot(SnapshotRef::from(n)));
        done(all.image.at_snapshot(SnapshotRef::from(t)));
    }),
    ("rbd::Version::new", |_, n, _| done(rbd::Version::new(n as i32, n as i32, n as i32).to_string())),
    ("rbd::cluster::Key::from", |_, _, t| done(Key::from(t))),
    ("rbd::cluster::Key::new", |_, _, t| done(Key::new(t))),
    ("rbd::features::Features::from_bits", |_, n, _| done(Features::from_bits(n))),
    ("rbd::features::Features::from_bits_retain", |_, n, _| {
        let features = Features::from_bits_retain(n);
        done((features.to_string(), features.check_create(), features.dependents(), features.creatable()));
    }),
    ("rbd::features::Features::from_bits_truncate", |_, n, _| done(Features::from_bits_truncate(n))),
    ("rbd::features::Features::from_name", |_, _, t| done(Features::from_name(t))),
    ("rbd::features::Features::from_str", |_, n, t| {
        done((t.parse::<Features>(), n.to_string().parse::<Features>()));
    }),
    ("rbd::features::Flags::from_bits", |_, n, _| done(Flags::from_bits(n))),
    ("rbd::features::Flags::from_bits_retain", |_, n, _| done(Flags::from_bits_retain(n).to_string())),
    ("rbd::features::Flags::from_bits_truncate", |_, n, _| done(Flags::from_bits_truncate(n))),
    ("rbd::features::Flags::from_name", |_, _, t| done(Flags::from_name(t))),
    ("rbd::features::OpFeatures::from_bits", |_, n, _| done(OpFeatures::from_bits(n))),
    ("rbd::features::OpFeatures::from_bits_retain", |_, n, _| {
        done(OpFeatures::from_bits_retain(n).to_string());
    }),
    ("rbd::features::OpFeatures::from_bits_truncate", |_, n, _| done(OpFeatures::from_bits_truncate(n))),
    ("rbd::features::OpFeatures::from_name", |_, _, t| done(OpFeatures::from_name(t))),
    ("rbd::mirror::BootstrapToken::new", |_, _, t| done(rbd::mirror::BootstrapToken::new(t))),
];

pub(super) const CLUSTERS: Table = &[
    ("rbd::ClusterBuilder::call_timeout", |_, n, _| connect(|to| to.call_timeout(seconds(n)))),
    ("rbd::ClusterBuilder::cluster_name", |_, _, t| connect(|to| to.cluster_name(t))),
    ("rbd::ClusterBuilder::conf_file", |_, _, t| connect(|to| to.conf_file(t))),
    ("rbd::ClusterBuilder::connect_timeout", |_, n, _| connect(|to| to.connect_timeout(seconds(n)))),
    ("rbd::ClusterBuilder::key_file", |_, _, t| connect(|to| to.key_file(t))),
    ("rbd::ClusterBuilder::keyring", |_, _, t| connect(|to| to.keyring(t))),
    ("rbd::ClusterBuilder::mon_timeout", |_, n, _| connect(|to| to.mon_timeout(seconds(n)))),
    ("rbd::ClusterBuilder::monitors", |_, _, t| connect(|to| to.monitors(t))),
    ("rbd::ClusterBuilder::option", |_, n, t| {
        connect(|to| to.option(t, t));
        connect(|to| to.option("rbd_cache_size", n.to_string()));
    }),
    ("rbd::ClusterBuilder::osd_timeout", |_, n, _| connect(|to| to.osd_timeout(seconds(n)))),
    ("rbd::ClusterBuilder::user", |_, _, t| connect(|to| to.user(t))),
    ("rbd::cluster::AddToBlocklist::duration", |all, n, _| {
        let address: ClientAddress = "10.9.8.7:0/77".parse().unwrap();
        done(all.cluster.blocklist().add(&address).duration(seconds(n)).run());
    }),
    ("rbd::cluster::Blocklist::add_range", |all, n, t| {
        done(all.cluster.blocklist().add_range(t).run());
        done(all.cluster.blocklist().add_range(&format!("{t}/{n}")).run());
    }),
    ("rbd::cluster::Blocklist::remove_range", |all, _, t| done(all.cluster.blocklist().remove_range(t))),
    ("rbd::cluster::Cluster::key_of", |all, _, t| done(all.cluster.key_of(t))),
    ("rbd::cluster::Cluster::ioctx", |all, _, t| done(all.cluster.ioctx(t))),
    ("rbd::cluster::Cluster::ioctx_by_id", |all, n, _| done(all.cluster.ioctx_by_id(n as i64))),
    ("rbd::cluster::Cluster::mgr_command", |all, _, t| done(all.cluster.mgr_command(t, t.as_bytes()))),
    ("rbd::cluster::Cluster::mgr_command_to", |all, _, t| {
        done(all.cluster.mgr_command_to(t, t, t.as_bytes()));
    }),
    ("rbd::cluster::Cluster::mon_command", |all, _, t| done(all.cluster.mon_command(t, t.as_bytes()))),
    ("rbd::cluster::Cluster::mon_command_to", |all, _, t| {
        done(all.cluster.mon_command_to(t, t, t.as_bytes()));
    }),
    ("rbd::cluster::Cluster::osd_command", |all, n, t| {
        done(all.cluster.osd_command(n as u32, t, t.as_bytes()));
    }),
    ("rbd::cluster::Cluster::pg_command", |all, _, t| done(all.cluster.pg_command(t, t, t.as_bytes()))),
    ("rbd::cluster::Cluster::register_service", |_, _, t| {
        let own: Cluster = builder().connect().unwrap();
        done(own.register_service(t, t, &[(t, t)]));
    }),
    ("rbd::cluster::Cluster::set_mirror_site_name", |all, _, t| {
        done(all.cluster.set_mirror_site_name(t));
    }),
    ("rbd::cluster::Cluster::update_service_status", |all, _, t| {
        done(all.cluster.update_service_status(&[(t, t)]));
    }),
    ("rbd::cluster::ClusterConfig::get", |all, _, t| done(all.cluster.config().get(t))),
    ("rbd::cluster::ClusterConfig::set", |_, n, t| {
        let own: Cluster = builder().connect().unwrap();
        done(own.config().set(t, t));
        done(own.config().set("rbd_cache_size", &n.to_string()));
    }),
    ("rbd::cluster::Pools::create", |all, _, t| {
        if all.cluster.pools().create(t).is_ok() {
            all.cluster.pools().remove(t).unwrap();
        }
    }),
    ("rbd::cluster::Pools::id", |all, _, t| done(all.cluster.pools().id(t))),
    ("rbd::cluster::Pools::name", |all, n, _| done(all.cluster.pools().name(n as i64))),
    ("rbd::cluster::Pools::remove", |all, _, t| done(all.cluster.pools().remove(t))),
];

/// Returns a machine without any system directories.
fn nowhere() -> Host {
    Host::at("/nonexistent/rbd")
}

fn map(all: &All, options: MapOptions) {
    done(krbd::map(&all.pool, "foo").host(nowhere()).timeout(seconds(1)).options(options).run());
}

pub(super) const MAPPING: Table = &[
    ("rbd::krbd::CompressionHint::from_str", |_, _, t| done(t.parse::<krbd::CompressionHint>())),
    ("rbd::krbd::Credentials::new", |_, _, t| {
        let credentials = Credentials::new([t], t, t);
        done(krbd::map_with(credentials, ImageSpec::new(t, t)).host(nowhere()).run());
    }),
    ("rbd::krbd::Credentials::without_key", |_, _, t| {
        let credentials = Credentials::without_key([t], t);
        done(krbd::map_with(credentials, ImageSpec::new("rbd", "foo")).host(nowhere()).run());
    }),
    ("rbd::krbd::Host::at", |_, _, t| done(Host::at(t).devices())),
    ("rbd::krbd::Host::dev_dir", |_, _, t| done(nowhere().dev_dir(t).devices())),
    ("rbd::krbd::Host::device", |_, _, t| done(nowhere().device(t))),
    ("rbd::krbd::Host::device_by_id", |_, n, _| done(nowhere().device_by_id(n as u32))),
    ("rbd::krbd::Host::proc_dir", |_, _, t| done(nowhere().proc_dir(t).kernel())),
    ("rbd::krbd::Host::run_dir", |_, _, t| done(nowhere().run_dir(t).devices())),
    ("rbd::krbd::Host::sys_dir", |_, _, t| done(nowhere().sys_dir(t).devices())),
    ("rbd::krbd::KernelVersion::from_str", |_, n, t| {
        done((t.parse::<krbd::KernelVersion>(), format!("{n}.{n}.{n}").parse::<krbd::KernelVersion>()));
    }),
    ("rbd::krbd::KernelVersion::new", |_, n, _| {
        let version = krbd::KernelVersion::new(n as u32, n as u32);
        done((version.features(), version.to_string()));
    }),
    ("rbd::krbd::Map::snapshot", |all, _, t| {
        done(krbd::map(&all.pool, "foo").host(nowhere()).snapshot(t).run());
    }),
    ("rbd::krbd::Map::timeout", |all, n, _| {
        done(krbd::map(&all.pool, "foo").host(nowhere()).timeout(seconds(n)).run());
    }),
    ("rbd::krbd::MapOptions::alloc_size", |all, n, _| map(all, MapOptions::new().alloc_size(n))),
    ("rbd::krbd::MapOptions::crush_location", |all, _, t| map(all, MapOptions::new().crush_location(t))),
    ("rbd::krbd::MapOptions::from_str", |_, n, t| {
        done((t.parse::<MapOptions>(), format!("queue_depth={n},alloc_size={n}").parse::<MapOptions>()));
    }),
    ("rbd::krbd::MapOptions::lock_timeout", |all, n, _| map(all, MapOptions::new().lock_timeout(seconds(n)))),
    ("rbd::krbd::MapOptions::mount_timeout", |all, n, _| {
        map(all, MapOptions::new().mount_timeout(seconds(n)));
    }),
    ("rbd::krbd::MapOptions::osd_idle_ttl", |all, n, _| map(all, MapOptions::new().osd_idle_ttl(seconds(n)))),
    ("rbd::krbd::MapOptions::osd_keepalive", |all, n, _| {
        map(all, MapOptions::new().osd_keepalive(seconds(n)));
    }),
    ("rbd::krbd::MapOptions::osd_request_timeout", |all, n, _| {
        map(all, MapOptions::new().osd_request_timeout(seconds(n)));
    }),
    ("rbd::krbd::MapOptions::queue_depth", |all, n, _| map(all, MapOptions::new().queue_depth(n as u32))),
    ("rbd::krbd::MsMode::from_str", |_, _, t| done(t.parse::<krbd::MsMode>())),
    ("rbd::krbd::ReadFromReplica::from_str", |_, _, t| done(t.parse::<krbd::ReadFromReplica>())),
    ("rbd::krbd::create_mappable", |all, n, t| {
        done(krbd::create_mappable(&all.pool, t, n).and_then(|create| create.run()));
    }),
    ("rbd::krbd::device", |_, _, t| done(krbd::device(t))),
    ("rbd::krbd::device_by_id", |_, n, _| done(krbd::device_by_id(n as u32))),
    ("rbd::krbd::map", |all, _, t| done(krbd::map(&all.pool, t).host(nowhere()).run())),
];
