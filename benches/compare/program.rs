//! Engines that are programs of others, started for every round.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Job;
use super::counters::Counters;
use super::loops::raw;
use super::loops::work::Kind;
use super::report::Sample;

pub const NAMES: &[&str] = &["fio", "python3-rbd", "rbd bench"];

const PYTHON: &str = include_str!("loop.py");

/// How it is started for so many operations.
type CommandOf = fn(&Program, usize) -> Command;
/// What it printed tells its operations a second.
type IopsOf = fn(&str) -> f64;

/// A program, and the processor time it takes to start, connect, open and end.
pub struct Program {
    command: CommandOf,
    iops: IopsOf,
    job: Job,
    conf: PathBuf,
    image: String,
    environment: Vec<(String, String)>,
    startup: Option<f64>,
}

impl Program {
    pub fn new(name: &str, job: &Job, conf: &Path, image: &str, counters: Option<&Counters>) -> Program {
        let (command, iops): (CommandOf, IopsOf) = match name {
            "fio" => (fio, iops_of_fio),
            "python3-rbd" => (python, |out| out.trim().parse().expect("a number")),
            "rbd bench" => (rbd_bench, iops_of_rbd_bench),
            other => unreachable!("no engine {other}"),
        };
        let mut program = Program {
            command,
            iops,
            job: job.clone(),
            conf: conf.to_owned(),
            image: image.to_owned(),
            environment: Vec::new(),
            startup: None,
        };
        if let Some(counters) = counters {
            let mut command = Command::new("");
            counters.count(&mut command);
            let text = |text: &std::ffi::OsStr| text.to_str().expect("UTF-8").to_owned();
            program.environment =
                command.get_envs().map(|(key, value)| (text(key), text(value.expect("set")))).collect();
        }
        program
    }

    /// Its processor time is that of the operations: what it takes for next to none is subtracted.
    pub fn run(&mut self, count: usize) -> Sample {
        let few = self.job.depth;
        let startup = match self.startup {
            Some(startup) => startup,
            None => {
                let mut times = [(); 5].map(|()| self.start(few).1);
                times.sort_by(f64::total_cmp);
                *self.startup.insert(times[2])
            }
        };
        let (out, cpu, peak) = self.start(count);
        let operations = count.saturating_sub(few).max(1) as f64;
        Sample { iops: (self.iops)(&out), cpu: (cpu - startup) / operations, peak }
    }

    /// What it printed, its processor time in microseconds, and the most memory it had.
    fn start(&self, count: usize) -> (String, f64, u64) {
        let mut command = (self.command)(self, count);
        command.env("CEPH_CONF", &self.conf).envs(self.environment.iter().map(|(key, value)| (key, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut out = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        let (success, cpu, peak) = raw::wait(child);
        assert!(success, "{command:?}: {out}");
        (out, cpu.as_secs_f64() * 1e6, peak)
    }
}

fn fio(program: &Program, count: usize) -> Command {
    let Program { job, image, .. } = program;
    let mut command = Command::new("fio");
    command.args(["--name=compare", "--ioengine=rbd", "--clientname=admin", "--pool=rbd"]);
    command.args(["--output-format=json", "--rwmixread=70", "--norandommap"]);
    command.arg(format!("--rbdname={image}"));
    let random = if job.sequential { "" } else { "rand" };
    let kind = match job.kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Mixed => "rw",
    };
    command.arg(format!("--rw={random}{kind}"));
    command.arg(format!("--bs={}", job.block)).arg(format!("--iodepth={}", job.depth));
    command.arg(format!("--io_size={}", job.block * count));
    command
}

fn iops_of_fio(out: &str) -> f64 {
    let json = &out[out.find('{').expect("JSON")..];
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let iops = |side: &str| json["jobs"][0][side]["iops"].as_f64().expect("a number");
    iops("read") + iops("write")
}

fn python(program: &Program, count: usize) -> Command {
    let Program { job, conf, image, .. } = program;
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PYTHON]).arg(conf).arg(image).args([job.kind.name(), job.order()]);
    command.args([job.block, job.depth, count].map(|number| number.to_string()));
    command
}

fn rbd_bench(program: &Program, count: usize) -> Command {
    let Program { job, conf, image, .. } = program;
    let mut command = Command::new("rbd");
    command.arg("--conf").arg(conf).args(["bench", "--io-pattern"]);
    command.args([if job.sequential { "seq" } else { "rand" }, "--io-type"]);
    match job.kind {
        Kind::Read => command.arg("read"),
        Kind::Write => command.arg("write"),
        Kind::Mixed => command.args(["rw", "--rw-mix-read", "70"]),
    };
    command.args(["--io-size", &format!("{}B", job.block), "--io-threads", &job.depth.to_string()]);
    command.args(["--io-total", &format!("{}B", job.block * count)]).arg(format!("rbd/{image}"));
    command
}

fn iops_of_rbd_bench(out: &str) -> f64 {
    let rest = &out[out.find("ops/sec: ").expect("a summary") + 9..];
    rest.split_whitespace().next().expect("a number").parse().expect("a number")
}
