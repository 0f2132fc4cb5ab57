//! The faults.

use std::time::{Duration, Instant};

use rbd::{Cluster, Features, Image};
use rbd_testcluster::Daemon;
use rustix::process::Signal;
use serde_json::json;

use crate::client::Spec;
use crate::journal::BLOCK;
use crate::oracle::Wrong;
use crate::round::{BLOCKS, Round, TAIL};

type Apply = fn(&mut Round, usize);

/// The faults, and the weight of each. The second argument is the number of an image.
const FAULTS: &[(&str, u64, Apply)] = &[
    ("OSD ended and started", 3, |round, _| round.osd_ended()),
    ("OSD stopped and continued", 2, |round, _| round.paused(Daemon::Osd(0))),
    ("monitor killed and started", 2, |round, _| round.monitor_killed()),
    ("monitor stopped and continued", 1, |round, _| round.paused(Daemon::Mon)),
    ("client killed", 4, Round::client_killed),
    ("client stopped and continued", 2, Round::client_stopped),
    ("client fenced", 2, Round::client_fenced),
    ("lock stolen", 2, Round::lock_stolen),
    ("image resized by another", 2, Round::resized),
    ("image shrunk by another", 2, Round::shrunk),
    ("image snapshotted by another", 2, Round::snapshotted),
    ("clone flattened by another", 2, Round::flattened),
    ("pool full and emptied", 1, |round, _| round.pool_full()),
    ("pool deleted", 1, |round, _| round.pool_deleted()),
];

impl Round {
    /// Causes a fault.
    pub(crate) fn next_fault(&mut self) {
        let sum = FAULTS.iter().map(|(_, weight, _)| weight).sum();
        let mut drawn = self.random.below(sum);
        let (name, _, apply) = FAULTS
            .iter()
            .find(|(_, weight, _)| {
                let here = drawn < *weight;
                drawn = drawn.saturating_sub(*weight);
                here
            })
            .unwrap();
        let site = self.random.below(4) as usize;
        self.number += 1;
        let begun = Instant::now();
        apply(self, site);
        println!("    {name} ({}), {:.1} s", self.sites[site].name(), begun.elapsed().as_secs_f64());
        *self.outcome.faults.entry(name).or_default() += 1;
    }

    /// Waits, and watches the clients meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.watch();
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits while the cluster cannot answer, or a pool is full.
    fn pass_outage(&mut self, time: Duration) {
        self.outage = true;
        self.pass(time);
        self.outage = false;
    }

    fn some_seconds(&mut self) -> Duration {
        Duration::from_millis(300 + self.random.below(4000))
    }

    fn osd_ended(&mut self) {
        let going = self.weather.begin(&["TimedOut"], "");
        if self.durable_osd {
            self.daemons.kill_osd(0).unwrap();
        } else {
            // An OSD in memory keeps its data only after an orderly stop.
            self.daemons.stop_osd(0).unwrap();
        }
        // Sometimes longer than the OSD timeout of a client.
        let time = self.some_seconds() + Duration::from_secs(if self.random.chance(30) { 8 } else { 0 });
        self.pass_outage(time);
        self.daemons.start_osd(0).unwrap();
        self.weather.end(going);
    }

    fn paused(&mut self, daemon: Daemon) {
        let going = self.weather.begin(&["TimedOut"], "");
        self.daemons.pause(daemon).unwrap();
        let time = self.some_seconds();
        self.pass_outage(time);
        self.daemons.resume(daemon).unwrap();
        self.weather.end(going);
    }

    fn monitor_killed(&mut self) {
        let going = self.weather.begin(&["TimedOut"], "");
        self.daemons.kill_daemon(Daemon::Mon).unwrap();
        let time = self.some_seconds() / 2;
        self.pass_outage(time);
        self.daemons.start_daemon(Daemon::Mon).unwrap();
        self.weather.end(going);
    }

    fn client_killed(&mut self, at: usize) {
        self.kill(at);
    }

    fn client_stopped(&mut self, at: usize) {
        let Some(process) = &self.sites[at].process else { return };
        process.signal(Signal::STOP);
        let going = self.weather.begin(&["TimedOut"], &self.sites[at].name());
        let time = self.some_seconds();
        self.pass(time);
        if let Some(process) = &self.sites[at].process {
            process.signal(Signal::CONT);
        }
        self.weather.end(going);
    }

    fn client_fenced(&mut self, at: usize) {
        let going = self.weather.begin(&["Blocklisted"], &self.sites[at].name());
        let addresses: Vec<String> = self
            .handle(at)
            .and_then(|image| image.other_watchers())
            .map(|watchers| watchers.iter().map(|watcher| watcher.address.to_string()).collect())
            .unwrap_or_default();
        for address in &addresses {
            let command = json!({"blocklistop": "add", "addr": address});
            self.daemons.mon_query("osd blocklist", command).unwrap();
        }
        if !addresses.is_empty() {
            self.must_end(at, "is fenced");
        }
        self.weather.end(going);
    }

    /// Another client breaks the exclusive lock, which fences the owner, and keeps the lock for a
    /// moment.
    fn lock_stolen(&mut self, at: usize) {
        if !self.sites[at].features.contains(Features::EXCLUSIVE_LOCK) {
            return;
        }
        // Otherwise the lock of a dead client would be broken, which does not affect the living
        // one.
        if self.sites[at].ended.is_some_and(|ended| ended.elapsed() < Duration::from_secs(45)) {
            return;
        }
        let name = self.sites[at].name();
        let going = self.weather.begin(&["Blocklisted"], &name);
        let steal = |cluster: &Cluster| -> rbd::Result<bool> {
            let image = cluster.ioctx(&self.sites[at].spec.pool)?.open(&self.sites[at].spec.image).run()?;
            let Some(owner) = image.exclusive_lock().owner()? else { return Ok(false) };
            image.exclusive_lock().break_lock(&owner)?;
            image.exclusive_lock().acquire()?;
            image.close()?;
            Ok(true)
        };
        match steal(&self.cluster) {
            Ok(true) => self.must_end(at, "has lost its lock"),
            Ok(false) => {}
            Err(error) => self.note("stealing the lock", &error),
        }
        self.weather.end(going);
    }

    /// A fenced client must get an error.
    fn must_end(&mut self, at: usize, why: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.sites[at].process.is_some() {
            if Instant::now() > end {
                let oracle = &self.sites[at].oracle;
                oracle.lock().unwrap().blame(Wrong::Hang, format!("the client {why}, and does not notice"));
                return self.kill(at);
            }
            self.pass(Duration::from_millis(100));
        }
    }

    fn resized(&mut self, at: usize) {
        let result = self.handle(at).and_then(|image| {
            let size = image.size()?;
            image.resize(size + TAIL).run()?;
            image.resize(size).allow_shrink(true).run()
        });
        self.noted("resizing", result);
    }

    /// Another client shrinks the image to half of the used blocks for a while.
    fn shrunk(&mut self, at: usize) {
        if self.sites[at].spec.encrypted {
            return;
        }
        let going = self.weather.begin(&["OutOfRange"], &self.sites[at].name());
        let half = BLOCKS / 2;
        self.sites[at].oracle.lock().unwrap().begin_cut(half);
        let handle = self.handle(at);
        let size = handle.as_ref().map_or(0, |image| image.size().unwrap_or(0));
        let cut = handle.and_then(|image| image.resize(half * BLOCK).allow_shrink(true).run());
        if cut.is_ok() {
            self.must_have_size(at, half * BLOCK);
        }
        self.noted("shrinking", cut);
        // Without watching: an ended client is checked when the image has grown again.
        std::thread::sleep(Duration::from_secs(1));
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.handle(at).and_then(|image| image.resize(size).run()) {
            self.note("growing again", &error);
            assert!(Instant::now() < end, "the image cannot grow again");
        }
        self.must_have_size(at, size);
        self.sites[at].oracle.lock().unwrap().cut(half);
        self.weather.end(going);
    }

    /// No other client resizes, so every client must see a successful resize.
    fn must_have_size(&self, at: usize, wanted: u64) {
        let Spec { pool, image, .. } = &self.sites[at].spec;
        let found = self.cluster.ioctx(pool).and_then(|pool| pool.open(image).read_only(true).run()?.size());
        if let Ok(found) = found {
            if found != wanted {
                let what = format!("resized to {wanted} with Ok, the image has {found} bytes");
                self.sites[at].oracle.lock().unwrap().blame(Wrong::Lost, what);
            }
        }
    }

    fn snapshotted(&mut self, at: usize) {
        let name = format!("by-another-{}", self.number);
        let result = self.handle(at).and_then(|image| image.snapshots().create(&name).run());
        self.noted("a snapshot", result);
        self.pass(Duration::from_secs(1));
        if self.random.chance(70) {
            let removed = self.handle(at).and_then(|image| match image.snapshots().exists(&name)? {
                true => image.snapshots().remove(&name).run(),
                false => Ok(()),
            });
            self.noted("removing a snapshot", removed);
        }
    }

    fn flattened(&mut self, at: usize) {
        if std::mem::take(&mut self.sites[at].clone) {
            let result = self.handle(at).and_then(|image| match image.parent()? {
                Some(_) => image.flatten().run(),
                None => Ok(()),
            });
            self.noted("flattening", result);
        }
    }

    /// The quota of the pool is reached for a while.
    fn pool_full(&mut self) {
        let going = self.weather.begin(&["QuotaExceeded", "TimedOut"], "full");
        let quota = |max: u64| json!({"pool": "full", "field": "max_objects", "val": max.to_string()});
        self.daemons.mon_query("osd pool set-quota", quota(1)).unwrap();
        let time = Duration::from_secs(3) + self.some_seconds();
        self.pass_outage(time);
        self.daemons.mon_query("osd pool set-quota", quota(0)).unwrap();
        self.pass(Duration::from_secs(2));
        self.weather.end(going);
    }

    /// The pool of the last image is deleted while its client works, and created again.
    fn pool_deleted(&mut self) {
        let at = self.sites.len() - 1;
        let pool = self.sites[at].spec.pool.clone();
        let going = self.weather.begin(&["NotFound", "TimedOut"], &pool);
        let command = json!({"pool": pool, "pool2": pool, "yes_i_really_really_mean_it": true});
        self.daemons.mon_query("osd pool delete", command).unwrap();
        let end = Instant::now() + Duration::from_secs(30);
        let mut ended = false;
        while !ended && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(100));
            ended = self.sites[at].process.as_mut().is_none_or(|process| process.has_ended());
        }
        match self.sites[at].process.take() {
            Some(mut process) if ended => {
                process.pool_deleted = true;
                process.stop();
            }
            Some(process) => {
                // librbd keeps some operations forever, for example those of a journal.
                *self.outcome.failed.entry("stuck in a deleted pool".to_owned()).or_default() += 1;
                process.kill();
            }
            None => {}
        }
        self.sum_up(at);
        let site = self.sites.pop().unwrap();
        // The new pool has another name, because clients keep the old one for a while.
        let pool = format!("doomed-{}", self.number);
        self.daemons.create_pool(&pool).unwrap();
        self.weather.end(going);
        self.make_site(&pool, "doomed-0", site.spec.way);
    }

    /// Opens the handle of another client.
    fn handle(&self, at: usize) -> rbd::Result<Image> {
        self.cluster.ioctx(&self.sites[at].spec.pool)?.open(&self.sites[at].spec.image).run()
    }

    fn noted(&mut self, what: &str, result: rbd::Result<()>) {
        if let Err(error) = result {
            self.note(what, &error);
        }
    }

    /// Records a failure of the other client: requests to librbd's peers time out under load, which
    /// is no fault.
    fn note(&mut self, what: &str, error: &rbd::Error) {
        println!("    {what}: {error}");
        *self.outcome.failed.entry(format!("by another: {what}")).or_default() += 1;
    }
}
