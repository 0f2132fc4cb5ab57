//! Two clusters with a mirroring daemon each.

use std::time::{Duration, Instant};

use rbd::mirror::{Direction, ImageMode, ImageState, PoolMode, ReplicationState};
use rbd::{Cluster, Features, Image, IoCtx};
use rbd_testcluster::TestCluster;

/// The longest time of the daemons for one step. They usually need two seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// An image mirrored in each mode.
const IMAGES: [(&str, ImageMode); 2] = [("journal", ImageMode::Journal), ("snapshot", ImageMode::Snapshot)];

struct Site {
    daemons: TestCluster,
    pool: IoCtx,
}

impl Site {
    fn start(name: &str) -> Site {
        let daemons = TestCluster::builder().start().unwrap();
        let cluster =
            Cluster::builder().ignore_environment(true).conf_file(daemons.conf()).connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap();
        cluster.set_mirror_site_name(name).unwrap();
        pool.mirroring().set_mode(PoolMode::Image).unwrap();
        Site { daemons, pool }
    }

    fn open(&self, image: &str) -> Image {
        self.pool.open(image).run().unwrap()
    }

    /// Writes to the image, which is primary here, and replicates the write.
    fn write(&self, image: &str, mode: ImageMode, content: &[u8]) {
        let image = self.open(image);
        take_writes(&image, content);
        if mode == ImageMode::Snapshot {
            image.mirroring().create_snapshot().run().unwrap();
        }
    }

    /// Waits until the image exists here and begins with `content`.
    fn await_content(&self, image: &str, content: &[u8]) {
        until(&format!("'{image}' to hold {content:?}"), || {
            let image = self.pool.open(image).read_only(true).run().map_err(|error| error.to_string())?;
            let mut found = vec![0; content.len()];
            image.read_exact_at(&mut found, 0).map_err(|error| error.to_string())?;
            if found == content { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    /// Waits until the daemon here reports this state of the image.
    fn await_state(&self, image: &str, state: ReplicationState) {
        until(&format!("'{image}' to be {state}"), || {
            let image = self.pool.open(image).read_only(true).run().map_err(|error| error.to_string())?;
            let local = image.mirroring().status().map_err(|error| error.to_string())?.local();
            if local.state == state && local.up { Ok(()) } else { Err(format!("{local:?}")) }
        });
    }
}

/// Writes to an image that is primary, but whose lock the daemon may still have.
fn take_writes(image: &Image, content: &[u8]) {
    until("writes to be taken", || {
        image.write_all_at(content, 0).map_err(|error| {
            assert!(error.is_read_only() || error.is_busy(), "{error}");
            error.to_string()
        })
    });
}

fn until(what: &str, mut probe: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(seen) = probe() {
        assert!(start.elapsed() < PATIENCE, "waited for {what}, saw {seen}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn images_go_to_the_other_cluster_and_come_back() {
    let (here, there) = std::thread::scope(|scope| {
        let there = scope.spawn(|| Site::start("there"));
        (Site::start("here"), there.join().unwrap())
    });
    bring_together(&here, &there);
    for (name, mode) in IMAGES {
        let features = Features::LAYERING | Features::EXCLUSIVE_LOCK;
        here.pool.create(name, 4 << 20).features(features).run().unwrap();
        let image = here.open(name);
        image.mirroring().enable(mode).unwrap();
        assert_eq!(image.features().unwrap().contains(Features::JOURNALING), mode == ImageMode::Journal);
        drop(image);
        here.write(name, mode, b"first");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| here.daemons.start_rbd_mirror().unwrap());
        there.daemons.start_rbd_mirror().unwrap();
    });
    for (name, mode) in IMAGES {
        there.await_content(name, b"first");
        a_copy_is_no_primary(&there, name, mode);
        move_primary(&here, &there, name, mode);
        split_brain(&here, &there, name, mode);
    }
    what_the_pools_tell(&here, &there);
    for (name, _) in IMAGES {
        there.open(name).mirroring().disable().run().unwrap();
        until(&format!("'{name}' to be removed"), || match here.pool.open(name).run() {
            Err(error) if error.is_not_found() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(there.open(name).mirroring().info().unwrap().state, ImageState::Disabled);
    }
}

fn bring_together(here: &Site, there: &Site) {
    let token = here.pool.mirroring().create_bootstrap_token().unwrap();
    there.pool.mirroring().import_bootstrap_token(&token, Direction::RxTx).unwrap();
    for (site, other) in [(here, "there"), (there, "here")] {
        let peer = site.pool.mirroring().peers().list().unwrap().remove(0);
        assert_eq!((peer.site_name.as_str(), peer.direction), (other, Direction::RxTx));
        let access = site.pool.mirroring().peers().access(&peer.uuid).unwrap();
        assert!(access.key.is_some() && access.mon_host.unwrap().contains("127.0.0.1"));
    }
}

fn a_copy_is_no_primary(there: &Site, name: &str, mode: ImageMode) {
    let copy = there.open(name);
    assert_eq!(copy.mirroring().mode().unwrap(), Some(mode));
    assert!(!copy.mirroring().info().unwrap().primary);
    assert!(copy.write_all_at(b"x", 0).unwrap_err().is_read_only());
    assert!(copy.mirroring().demote().unwrap_err().is_read_only());
    let error = copy.mirroring().promote().run().unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("still primary"), "{error}");
    let error = copy.mirroring().promote().start().wait().unwrap_err();
    assert!(error.is_busy() && error.to_string().contains("still primary"), "{error}");
}

/// The copy at the other site becomes primary, and writes to it are replicated back.
fn move_primary(here: &Site, there: &Site, name: &str, mode: ImageMode) {
    here.open(name).mirroring().demote().unwrap();
    until(&format!("'{name}' to be promoted"), || {
        there.open(name).mirroring().promote().run().map_err(|error| error.to_string())
    });
    there.write(name, mode, b"second");
    here.await_content(name, b"second");
}

/// The other cluster was thought to be lost.
fn split_brain(here: &Site, there: &Site, name: &str, mode: ImageMode) {
    let image = here.open(name);
    image.mirroring().promote().force(true).run().unwrap();
    take_writes(&image, b"other");
    image.mirroring().demote().unwrap();
    drop(image);
    here.await_state(name, ReplicationState::Error);
    let image = here.open(name);
    assert!(image.mirroring().status().unwrap().local().description.contains("split-brain"));
    image.mirroring().resync().unwrap();
    drop(image);
    here.await_content(name, b"second");
    there.write(name, mode, b"third");
    here.await_content(name, b"third");
}

fn what_the_pools_tell(here: &Site, there: &Site) {
    let peer = here.pool.mirroring().peers().list().unwrap().remove(0);
    assert_eq!(peer.mirror_uuid, there.pool.mirroring().uuid().unwrap());
    for (name, mode) in IMAGES {
        let (copy, info) = (here.open(name), there.open(name).mirroring().info().unwrap());
        assert!(info.primary);
        let id = copy.id().unwrap();
        assert_eq!(copy.mirroring().info().unwrap().global_id, info.global_id);
        let listed = here.pool.mirroring().images(mode).unwrap();
        assert_eq!(listed.iter().map(|image| &image.id).collect::<Vec<_>>(), [&id]);
        // The daemons report the state of the image a little later.
        let mut told = None;
        until(&format!("the state of '{name}'"), || {
            told = copy.mirroring().instance_id().map_err(|error| error.to_string())?;
            told.as_ref().map(drop).ok_or_else(|| "no daemon".to_owned())
        });
        assert_eq!(here.pool.mirroring().instance_ids().unwrap().get(&id), told.as_ref());
        // The other site's daemon writes its part here a little later.
        until(&format!("the status of '{name}'"), || {
            let found = copy.mirroring().status().map_err(|error| error.to_string())?;
            let whole = found.local().up
                && found.local().last_update.is_some()
                && found.remote().any(|site| site.mirror_uuid == peer.mirror_uuid);
            // The daemons write a new one now and then, so both queries may see different ones.
            let all = here.pool.mirroring().statuses().map_err(|error| error.to_string())?;
            let listed = all.get(&id).map(|status| &status.sites);
            let text = format!("{found:?}, and in the list {listed:?}");
            (whole && listed == Some(&found.sites)).then_some(()).ok_or(text)
        });
    }
    assert_eq!(here.pool.mirroring().summary().unwrap().values().sum::<u64>(), 2);
}
