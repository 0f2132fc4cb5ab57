//! A round: a cluster, clients on images of all kinds, and a fault every few seconds, all chosen by
//! a seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rbd::encryption::{Cipher, EncryptionFormat, Passphrase};
use rbd::image::CloneFormat;
use rbd::{Cluster, Features, Image};
use rbd_testcluster::{ObjectStore, TestCluster};

use crate::client::{PASSPHRASE, Spec, WAYS, Way};
use crate::journal::{BLOCK, Content};
use crate::oracle::{Oracle, Wrong};
use crate::process::Process;
use crate::random::Random;
use crate::weather::Weather;

/// How many blocks the clients use. The image is larger, so that its tail can be cut off and added
/// again.
pub(crate) const BLOCKS: u64 = 512;
pub(crate) const TAIL: u64 = 4 << 20;
/// The size of the encryption header with objects of 4 MiB.
const HEADER: u64 = 4 << 20;

/// An image, its current client, and its oracle.
pub(crate) struct Site {
    pub(crate) spec: Spec,
    pub(crate) features: Features,
    pub(crate) clone: bool,
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    pub(crate) process: Option<Process>,
    /// When the last client ended. Its lock may remain until its watch expires.
    pub(crate) ended: Option<Instant>,
}

/// The outcome of a round.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) slowest: Duration,
    pub(crate) wrong: Vec<(Wrong, String)>,
}

pub(crate) struct Round {
    pub(crate) daemons: TestCluster,
    pub(crate) durable_osd: bool,
    pub(crate) cluster: Cluster,
    /// A connection for what tests no fault. Encryption takes seconds of processor time, and much
    /// longer on a busy machine.
    patient: Cluster,
    /// Whether the cluster cannot answer now, or a pool is full. No image is checked meanwhile.
    pub(crate) outage: bool,
    pub(crate) weather: Arc<Weather>,
    pub(crate) sites: Vec<Site>,
    pub(crate) random: Random,
    pub(crate) outcome: Outcome,
    pub(crate) number: u64,
}

impl Round {
    pub(crate) fn start(seed: u64, durable_osd: bool) -> Round {
        let store = if durable_osd { ObjectStore::Bluestore } else { ObjectStore::Memstore };
        let pools = ["steady", "full", "doomed"];
        let daemons = TestCluster::builder().object_store(store).pools(pools).start().unwrap();
        let connect = |seconds| {
            let builder = Cluster::builder().conf_file(daemons.conf());
            builder.call_timeout(Duration::from_secs(seconds)).connect().unwrap()
        };
        let (cluster, patient) = (connect(40), connect(600));
        let mut round = Round {
            daemons,
            durable_osd,
            cluster,
            patient,
            outage: false,
            weather: Arc::new(Weather::new()),
            sites: Vec::new(),
            random: Random::new(seed),
            outcome: Outcome::default(),
            number: 0,
        };
        // Each way of I/O has an image in a pool without faults of its own. Two more images are in
        // pools with faults.
        let first = round.random.below(4) as usize;
        for at in 0..4 {
            round.make_site("steady", &format!("steady-{at}"), WAYS[(first + at) % 4]);
        }
        let ways = [round.random.pick(&WAYS), round.random.pick(&WAYS)];
        round.make_site("full", "full-0", ways[0]);
        round.make_site("doomed", "doomed-0", ways[1]);
        round
    }

    /// Makes an image of random features, sometimes a clone or encrypted, and its first client.
    pub(crate) fn make_site(&mut self, pool: &str, image: &str, way: Way) {
        let random = &mut self.random;
        let layering = Features::LAYERING;
        let features = random.pick(&[layering, Features::DEFAULT, Features::DEFAULT | Features::JOURNALING]);
        let encrypted = !features.contains(Features::JOURNALING) && random.chance(20);
        let clone = !encrypted && random.chance(40);
        let spec = Spec {
            conf: self.daemons.conf().to_owned(),
            pool: pool.to_owned(),
            image: image.to_owned(),
            way,
            policy: random.pick(&["writearound", "writeback", "writethrough", "off"]).to_owned(),
            // librbd's journal may hang forever after one of its operations has timed out.
            osd_timeout: match features.contains(Features::JOURNALING) {
                true => 0,
                false => random.pick(&[0, 0, 5]),
            },
            encrypted,
            blocks: BLOCKS,
            seed: random.next(),
            first_id: 1 << 32,
        };
        let mut oracle = Oracle::new(&format!("{pool}/{image}"), BLOCKS);
        oracle.stream = way == Way::Cursor;
        if encrypted {
            // Unwritten blocks may contain anything.
            oracle.cut(0);
        }
        let site =
            Site { spec, features, clone, oracle: Arc::new(Mutex::new(oracle)), process: None, ended: None };
        println!("  {}", site.describe());
        site.make(&self.patient).unwrap_or_else(|error| panic!("{error:#}"));
        self.sites.push(site);
    }

    /// Starts a client on each image that has none.
    pub(crate) fn start_clients(&mut self) {
        for site in &mut self.sites {
            if site.process.is_none() {
                site.start(&self.weather);
            }
        }
    }

    /// Checks all clients: whether they have ended, and their resources.
    pub(crate) fn watch(&mut self) {
        for at in 0..self.sites.len() {
            let Some(process) = &mut self.sites[at].process else { continue };
            if !process.has_ended() {
                process.watch();
            } else if !self.outage {
                self.take_over(at);
            }
        }
    }

    /// Ends the client of an image, if it still runs, and checks the content of the image.
    pub(crate) fn take_over(&mut self, at: usize) {
        let Some(process) = self.sites[at].process.take() else { return };
        self.sites[at].ended = Some(Instant::now());
        process.stop();
        let early = {
            let mut oracle = self.sites[at].oracle.lock().unwrap();
            oracle.fatal.take().is_none() && oracle.open
        };
        if early {
            let what = "the client ended without closing its image".to_owned();
            self.sites[at].oracle.lock().unwrap().blame(Wrong::Died, what);
        }
        self.verify(at);
    }

    pub(crate) fn kill(&mut self, at: usize) {
        let Some(process) = self.sites[at].process.take() else { return };
        self.sites[at].ended = Some(Instant::now());
        process.kill();
        // Its last requests may still be in flight.
        std::thread::sleep(Duration::from_secs(1));
        self.verify(at);
    }

    /// Reads the image and compares it with the oracle.
    fn verify(&self, at: usize) {
        let site = &self.sites[at];
        let read = || -> rbd::Result<Vec<u8>> {
            if site.features.contains(Features::JOURNALING) {
                // The journal counts as content: the next owner of the lock replays it.
                let image = site.spec.open(&self.patient, false)?;
                if let Some(dead) = image.exclusive_lock().owner()? {
                    let _ = image.exclusive_lock().break_lock(&dead);
                }
                image.exclusive_lock().acquire()?;
                image.close()?;
            }
            let image = site.spec.open(&self.patient, true)?;
            let mut found = vec![0xee; (BLOCKS * BLOCK) as usize];
            image.read_exact_at(&mut found, 0)?;
            Ok(found)
        };
        let begun = Instant::now();
        let found = loop {
            match read() {
                Ok(found) => break found,
                Err(error) if begun.elapsed() > Duration::from_secs(60) => {
                    let wrong = if error.is_timed_out() { Wrong::Unchecked } else { Wrong::Lost };
                    let what = format!("the image cannot be read: {error:#}");
                    return site.oracle.lock().unwrap().blame(wrong, what);
                }
                Err(_) => std::thread::sleep(Duration::from_secs(1)),
            }
        };
        let blocks = found.chunks_exact(BLOCK as usize).zip(0..);
        site.oracle.lock().unwrap().settle(blocks.map(|(data, block)| Content::of(block, data)));
    }

    /// Ends all clients and returns the outcome.
    pub(crate) fn finish(mut self) -> Outcome {
        for site in &mut self.sites {
            site.process.iter_mut().for_each(Process::ask_to_stop);
        }
        for at in 0..self.sites.len() {
            self.take_over(at);
        }
        for at in 0..self.sites.len() {
            self.sum_up(at);
        }
        self.outcome
    }

    /// Adds the counts of an image.
    pub(crate) fn sum_up(&mut self, at: usize) {
        let site = &self.sites[at];
        let mut oracle = site.oracle.lock().unwrap();
        self.outcome.operations += oracle.done;
        self.outcome.slowest = self.outcome.slowest.max(oracle.slowest);
        for (kind, count) in oracle.failed.drain() {
            *self.outcome.failed.entry(kind).or_default() += count;
        }
        let told = site.describe();
        let wrong = oracle.wrong.drain(..).map(|(wrong, what)| (wrong, format!("{told}: {what}")));
        self.outcome.wrong.extend(wrong);
    }
}

impl Site {
    fn describe(&self) -> String {
        let Spec { pool, image, way, policy, osd_timeout, encrypted, .. } = &self.spec;
        let mut text = format!("{pool}/{image} ({way:?}, {policy}, {}", self.features);
        if *osd_timeout > 0 {
            text += &format!(", OSD timeout {osd_timeout} s");
        }
        text += if *encrypted { ", encrypted" } else { "" };
        text + if self.clone { ", clone)" } else { ")" }
    }

    fn make(&self, cluster: &Cluster) -> rbd::Result<()> {
        let (pool, name) = (cluster.ioctx(&self.spec.pool)?, self.spec.image.as_str());
        let header = if self.spec.encrypted { HEADER } else { 0 };
        let size = BLOCKS * BLOCK + TAIL + header;
        if self.clone {
            let parent = format!("{name}-parent");
            pool.create(&parent, size).features(self.features).run()?;
            let image = pool.open(&parent).run()?;
            self.fill(&image)?;
            image.snapshots().create("s").run()?;
            image.close()?;
            pool.clone_image(&parent, "s", name).format(CloneFormat::V2).run()?;
        } else {
            pool.create(name, size).features(self.features).run()?;
        }
        if self.spec.encrypted {
            let image = pool.open(name).run()?;
            let secret = Passphrase::new(PASSPHRASE);
            image.encryption().format(EncryptionFormat::Luks1, Cipher::Aes128, &secret)?;
            image.close()?;
        }
        Ok(())
    }

    /// Writes data to some blocks of a parent.
    fn fill(&self, image: &Image) -> rbd::Result<()> {
        let mut oracle = self.oracle.lock().unwrap();
        for block in (0..BLOCKS).step_by(3) {
            let mut data = vec![0; BLOCK as usize];
            Content::fill(block, block + 1, &mut data);
            image.write_all_at(&data, block * BLOCK)?;
            oracle.begin_with(block, block + 1);
        }
        image.flush()
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.spec.pool, self.spec.image)
    }

    pub(crate) fn start(&mut self, weather: &Arc<Weather>) {
        {
            let mut oracle = self.oracle.lock().unwrap();
            (oracle.fatal, oracle.open) = (None, false);
            // These ids are unused.
            self.spec.first_id = self.spec.first_id.max(oracle.last_id) + 1;
        }
        self.spec.seed = self.spec.seed.wrapping_add(1);
        self.process = Some(Process::start(&self.spec, &self.oracle, weather));
    }
}
