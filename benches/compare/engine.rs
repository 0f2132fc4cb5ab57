//! Whatever can do the work: a child that waits for orders, or a program that is started for every round.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use clap::ValueEnum as _;

use super::Job;
use super::counters::Counters;
use super::program::{self, Program};
use super::report::Sample;
use super::worker::Way;

const WAYS: &[(&str, Way)] = &[
    ("C, callbacks", Way::CCallbacks),
    ("C, queue", Way::CQueue),
    ("C, queue, again", Way::CQueue),
    ("C, callbacks, OSD timeout", Way::CCallbacksTimed),
    ("C, queue, OSD timeout", Way::CQueueTimed),
    ("rbd, futures", Way::Futures),
    ("rbd, queue", Way::Queue),
    ("rbd, futures, no OSD timeout", Way::FuturesUntimed),
    ("rbd, queue, no OSD timeout", Way::QueueUntimed),
    ("C, blocking", Way::CBlocking),
    ("rbd, blocking", Way::Blocking),
];

/// All engines that can do the job.
pub fn names(job: &Job, own: bool) -> Vec<&'static str> {
    let ways =
        WAYS.iter().filter(|(_, way)| job.depth == 1 || !matches!(way, Way::Blocking | Way::CBlocking));
    let programs = program::NAMES.iter().filter(|_| !own);
    ways.map(|(name, _)| *name).chain(programs.copied()).collect()
}

pub enum Engine {
    Worker(Worker),
    Program(Program),
}

impl Engine {
    /// With counters, its allocations are counted.
    pub fn start(name: &str, job: &Job, conf: &Path, image: &str, counters: Option<&Counters>) -> Engine {
        match WAYS.iter().find(|(way, _)| *way == name) {
            Some((_, way)) => Engine::Worker(Worker::start(*way, job, conf, image, counters)),
            None => Engine::Program(Program::new(name, job, conf, image, counters)),
        }
    }

    pub fn run(&mut self, count: usize) -> Sample {
        match self {
            Engine::Worker(worker) => worker.run(count),
            Engine::Program(program) => program.run(count),
        }
    }
}

/// This very program as a child.
pub struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    fn start(way: Way, job: &Job, conf: &Path, image: &str, counters: Option<&Counters>) -> Worker {
        let mut command = ourselves();
        command.arg("work").arg(conf).arg(image).arg(way.to_possible_value().unwrap().get_name());
        command.args(["--kind", job.kind.name(), "--block", &job.block.to_string()]);
        command.args(["--depth", &job.depth.to_string()]).args(job.sequential.then_some("--sequential"));
        if let Some(counters) = counters {
            counters.count(&mut command);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        Worker { orders: child.stdin.take(), child, answers }
    }

    fn run(&mut self, count: usize) -> Sample {
        writeln!(self.orders.as_mut().expect("until it is dropped"), "{count}").expect("the worker lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the worker lives");
        Sample::from_line(&line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        let status = self.child.wait().expect("a child");
        if !std::thread::panicking() {
            assert!(status.success(), "a worker ended with {status}");
        }
    }
}

/// Has a child do something with images.
pub fn child(role: &str, conf: &Path, images: &[String]) {
    let status = ourselves().arg(role).arg(conf).args(images).status().expect("it starts");
    assert!(status.success(), "{role}: {status}");
}

fn ourselves() -> Command {
    Command::new(std::env::current_exe().expect("the path of this program"))
}
