//! Engines: this program as a child, or a program of others. Each run starts a new process.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum as _;

use super::Job;
use super::counters::Counters;
use super::loops::raw;
use super::program::{self, Program};
use super::report::Sample;
use super::worker::Way;

const WAYS: &[(&str, Way)] = &[
    ("C, callbacks", Way::CCallbacks),
    ("C, queue", Way::CQueue),
    ("C, queue, again", Way::CQueue),
    ("rbd, futures", Way::Futures),
    ("rbd, queue", Way::Queue),
    ("C, callbacks, OSD timeout", Way::CCallbacksTimed),
    ("C, queue, OSD timeout", Way::CQueueTimed),
    ("rbd, futures, OSD timeout", Way::FuturesTimed),
    ("rbd, queue, OSD timeout", Way::QueueTimed),
    ("C, blocking", Way::CBlocking),
    ("rbd, blocking", Way::Blocking),
];

/// Returns all engines that can do the job.
pub fn names(job: &Job, own: bool) -> Vec<&'static str> {
    let ways =
        WAYS.iter().filter(|(_, way)| job.depth == 1 || !matches!(way, Way::Blocking | Way::CBlocking));
    let programs = program::NAMES.iter().filter(|_| !own);
    ways.map(|(name, _)| *name).chain(programs.copied()).collect()
}

/// The work, and its cluster and image.
pub struct Task {
    pub job: Job,
    pub conf: PathBuf,
    pub image: String,
}

pub struct Engine {
    task: Task,
    how: How,
    counters: Option<Counters>,
}

enum How {
    Way(Way),
    Program(Program),
}

impl Engine {
    pub fn new(name: &str, job: &Job, conf: &Path, image: &str) -> Engine {
        let how = match WAYS.iter().find(|(way, _)| *way == name) {
            Some((_, way)) => How::Way(*way),
            None => How::Program(Program::new(name)),
        };
        let task = Task { job: job.clone(), conf: conf.to_owned(), image: image.to_owned() };
        Engine { task, how, counters: None }
    }

    /// Counts its allocations from now on.
    pub fn count_allocations(&mut self) {
        self.counters = Some(Counters::new());
    }

    pub fn counters(&self) -> &Counters {
        self.counters.as_ref().expect("they count")
    }

    pub fn run(&mut self, count: usize) -> Sample {
        let Engine { task, how, counters } = self;
        let run = |command| run(command, task, counters.as_ref());
        match how {
            How::Way(way) => Sample::from_line(&run(worker(*way, task, count)).0),
            How::Program(program) => program.sample(task, count, run),
        }
    }
}

/// Returns a command of this program as a child.
fn worker(way: Way, task: &Task, count: usize) -> Command {
    let Task { job, conf, image } = task;
    let mut command = ourselves();
    command.arg("work").arg(conf).arg(image).arg(way.to_possible_value().unwrap().get_name());
    command.arg(count.to_string());
    command.args(["--kind", job.kind.name(), "--block", &job.block.to_string()]);
    command.args(["--depth", &job.depth.to_string()]).args(job.sequential.then_some("--sequential"));
    command
}

/// Runs a command. Returns its output, its processor time in microseconds, and its peak memory.
fn run(mut command: Command, task: &Task, counters: Option<&Counters>) -> (String, f64, u64) {
    command.env("CEPH_CONF", &task.conf).stdin(Stdio::null()).stdout(Stdio::piped());
    if let Some(counters) = counters {
        counters.count(&mut command);
    }
    let mut child = command.spawn().expect("it starts");
    let mut out = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    let (success, cpu, peak) = raw::wait(child);
    assert!(success, "{command:?}: {out}");
    (out, cpu.as_secs_f64() * 1e6, peak)
}

/// Runs a child on the image, and returns its output.
pub fn child(role: &str, conf: &Path, image: &str) -> String {
    let output =
        ourselves().arg(role).arg(conf).arg(image).stderr(Stdio::inherit()).output().expect("it starts");
    assert!(output.status.success(), "{role}: {}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

fn ourselves() -> Command {
    Command::new(std::env::current_exe().expect("the path of this program"))
}
