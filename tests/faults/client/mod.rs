//! A client: a process that works on one image, in one of the ways, until it is told to stop.

mod blocking;
mod cursor;
mod futures;
mod queue;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rbd::image::Compare;
use rbd::{Cluster, Image, Queue};

use crate::journal::{BLOCK, Content, Journal, Kind};
use crate::random::Random;

pub(crate) const PASSPHRASE: &str = "campaign";

/// The way in which a client does I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Blocking,
    Futures,
    Queue,
    Cursor,
}

pub(crate) const WAYS: [Way; 4] = [Way::Blocking, Way::Futures, Way::Queue, Way::Cursor];

/// The settings of a client, passed in its environment.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) conf: PathBuf,
    pub(crate) pool: String,
    pub(crate) image: String,
    pub(crate) way: Way,
    pub(crate) policy: String,
    /// In seconds; 0 for the default.
    pub(crate) osd_timeout: u64,
    pub(crate) encrypted: bool,
    pub(crate) blocks: u64,
    pub(crate) seed: u64,
    pub(crate) first_id: u64,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spec { conf, pool, image, policy, osd_timeout, encrypted, blocks, seed, first_id, .. } = self;
        let way = WAYS.iter().position(|way| *way == self.way).unwrap_or(0);
        write!(f, "{}\t{pool}\t{image}\t{way}\t{policy}\t{osd_timeout}\t{encrypted}", conf.display())?;
        write!(f, "\t{blocks}\t{seed}\t{first_id}")
    }
}

impl Spec {
    pub(crate) fn parse(text: &str) -> Spec {
        let words: Vec<&str> = text.split('\t').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        Spec {
            conf: words[0].into(),
            pool: words[1].to_owned(),
            image: words[2].to_owned(),
            way: WAYS[number(3) as usize],
            policy: words[4].to_owned(),
            osd_timeout: number(5),
            encrypted: words[6] == "true",
            blocks: number(7),
            seed: number(8),
            first_id: number(9),
        }
    }

    fn connect(&self) -> rbd::Result<Cluster> {
        let mut builder =
            Cluster::builder().conf_file(&self.conf).option("rbd_skip_partial_discard", "false");
        builder = match self.policy.as_str() {
            "off" => builder.option("rbd_cache", "false"),
            policy => builder.option("rbd_cache_policy", policy),
        };
        builder = builder.call_timeout(Duration::from_secs(30));
        if self.osd_timeout > 0 {
            builder = builder.osd_timeout(Duration::from_secs(self.osd_timeout));
        }
        builder.connect()
    }

    pub(crate) fn open(&self, cluster: &Cluster, read_only: bool) -> rbd::Result<Image> {
        let pool = cluster.ioctx(&self.pool)?;
        let open = pool.open(&self.image);
        let image = open.read_only(read_only).run()?;
        if self.encrypted {
            let secret = rbd::encryption::Passphrase::new(PASSPHRASE);
            image.encryption().load(rbd::encryption::EncryptionFormat::Luks1, &secret)?;
        }
        Ok(image)
    }
}

/// The next operation. Its blocks belong to one lane, so no two operations use a block at the same
/// time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Todo {
    Write {
        block: u64,
        count: u64,
    },
    WriteSame {
        block: u64,
    },
    WriteZeroes {
        block: u64,
        count: u64,
    },
    Discard {
        block: u64,
        count: u64,
    },
    Read {
        block: u64,
        count: u64,
    },
    /// A compare-and-write that must not write: no block contains the expected data.
    Compare {
        block: u64,
    },
    Flush,
}

impl Todo {
    fn begin(self, journal: &Journal) -> u64 {
        match self {
            Todo::Write { block, count } => journal.begin(Kind::Write, block, count),
            Todo::WriteSame { block } => journal.begin(Kind::Write, block, 1),
            Todo::WriteZeroes { block, count } | Todo::Discard { block, count } => {
                journal.begin(Kind::Zero, block, count)
            }
            Todo::Read { block, count } => journal.begin(Kind::Read, block, count),
            Todo::Compare { block } => journal.begin(Kind::Read, block, 1),
            Todo::Flush => journal.begin(Kind::Flush, 0, 0),
        }
    }
}

/// A part of the image that one operation at a time uses.
pub(crate) struct Lane {
    random: Random,
    first: u64,
    blocks: u64,
    compares: bool,
}

impl Lane {
    fn all(spec: &Spec, lanes: u64) -> Vec<Lane> {
        let blocks = spec.blocks / lanes;
        let compares = !spec.encrypted;
        let lane =
            |at| Lane { random: Random::new(spec.seed ^ (at << 32)), first: at * blocks, blocks, compares };
        (0..lanes).map(lane).collect()
    }

    fn next(&mut self) -> Todo {
        let random = &mut self.random;
        let count = 1 + random.below(4).min(self.blocks - 1);
        let block = self.first + random.below(self.blocks - count + 1);
        match random.below(100) {
            0..62 => Todo::Write { block, count },
            62..65 => Todo::WriteSame { block },
            65..69 => Todo::WriteZeroes { block, count },
            69..73 => Todo::Discard { block, count },
            73..95 => Todo::Read { block, count },
            95..98 if self.compares => Todo::Compare { block },
            95..98 => Todo::Read { block, count },
            _ => Todo::Flush,
        }
    }
}

/// Returns the bytes of a write.
fn data(block: u64, count: u64, id: u64) -> Vec<u8> {
    let mut data = vec![0; (count * BLOCK) as usize];
    for (block, piece) in (block..).zip(data.chunks_exact_mut(BLOCK as usize)) {
        Content::fill(block, id, piece);
    }
    data
}

/// The data that a [`Todo::Compare`] expects and would write, within one sector.
const NOWHERE: [u8; 512] = [0xff; 512];

/// The state that all ways share.
pub(crate) struct Work<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) journal: &'a Journal,
    stop: &'a AtomicBool,
    fatal: AtomicBool,
    begun: Instant,
    operations: AtomicU64,
}

/// The most operations per second of a client, so that none takes the machine from daemons and
/// other clients.
const RATE: f64 = 500.0;

impl Work<'_> {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && !self.fatal.load(Ordering::Relaxed)
    }

    /// Returns how long to wait before an operation.
    fn pace(&self) -> Duration {
        let number = self.operations.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs_f64(number as f64 / RATE).saturating_sub(self.begun.elapsed())
    }

    /// Reports the end of a [`Todo::Compare`].
    fn compared(&self, id: u64, found: rbd::Result<Compare>) {
        match found {
            Ok(Compare::Written) => {
                let name = format!("{}/{}", self.spec.pool, self.spec.image);
                self.journal.fail_by(id, "Written", format!("{name}: what differs was written over"));
            }
            found => self.end(id, &found.map(drop)),
        }
    }

    /// Reports the end of an operation. After some errors, nothing works on this image any more.
    fn end(&self, id: u64, result: &rbd::Result<()>) {
        self.journal.end(id, result);
        if let Err(error) = result {
            if error.is_blocklisted() || error.is_not_found() {
                self.fatal.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What a client works with. A fenced client cannot create the queue.
enum Opened {
    Image(Image),
    Queue(Queue),
}

/// Runs a client until its standard input ends.
pub(crate) fn run(spec: &Spec) -> ExitCode {
    // Otherwise a stopped client would outlive its oracle.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    static STOP: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        STOP.store(true, Ordering::Relaxed);
    });
    let journal = Journal::new(spec.first_id);
    let work = Work {
        spec,
        journal: &journal,
        stop: &STOP,
        fatal: AtomicBool::new(false),
        begun: Instant::now(),
        operations: AtomicU64::new(0),
    };
    let id = journal.begin(Kind::Open, 0, 0);
    let cluster = match spec.connect() {
        Ok(cluster) => cluster,
        Err(error) => {
            journal.fail(id, &error);
            return ExitCode::SUCCESS;
        }
    };
    let mut first = Some(id);
    while work.goes_on() {
        let id = first.take().unwrap_or_else(|| journal.begin(Kind::Open, 0, 0));
        let opened = spec.open(&cluster, false).and_then(|image| match spec.way {
            Way::Queue => queue::create(image).map(Opened::Queue),
            _ => Ok(Opened::Image(image)),
        });
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                work.end(id, &Err(error));
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
        };
        journal.end(id, &Ok(()));
        match (opened, spec.way) {
            (Opened::Queue(queue), _) => queue::run(&work, queue),
            (Opened::Image(image), Way::Futures) => futures::run(&work, image),
            (Opened::Image(image), Way::Cursor) => cursor::run(&work, image),
            (Opened::Image(image), _) => blocking::run(&work, image),
        }
    }
    ExitCode::SUCCESS
}

/// After how many operations the image is closed and opened again.
const BEFORE_REOPEN: u64 = 4000;

/// Closes the image without a flush, because closing must flush.
fn close(work: &Work<'_>, image: Image) {
    let id = work.journal.begin(Kind::Close, 0, 0);
    work.end(id, &image.close());
}
