//! Programs of others as engines.

use std::process::Command;

use super::engine::Task;
use super::loops::work::Kind;
use super::report::Sample;

pub const NAMES: &[&str] = &["fio", "python3-rbd", "rbd bench"];

const PYTHON: &str = include_str!("loop.py");

/// Returns the command for a number of operations.
type CommandOf = fn(&Task, usize) -> Command;
/// Parses the operations per second from the output.
type IopsOf = fn(&str) -> f64;

/// A program, and the processor time of its start, connection, opening and end.
pub struct Program {
    command: CommandOf,
    iops: IopsOf,
    startup: Option<f64>,
}

impl Program {
    pub fn new(name: &str) -> Program {
        let (command, iops): (CommandOf, IopsOf) = match name {
            "fio" => (fio, iops_of_fio),
            "python3-rbd" => (python, |out| out.trim().parse().expect("a number")),
            "rbd bench" => (rbd_bench, iops_of_rbd_bench),
            other => unreachable!("no engine {other}"),
        };
        Program { command, iops, startup: None }
    }

    /// Takes a sample. The processor time is that of the operations: the time of a run with almost
    /// none is subtracted. `run` returns the output, the processor time in microseconds, and the
    /// peak memory.
    pub fn sample(
        &mut self,
        task: &Task,
        count: usize,
        run: impl Fn(Command) -> (String, f64, u64),
    ) -> Sample {
        let few = task.job.depth;
        let startup = *self.startup.get_or_insert_with(|| {
            let mut times = [(); 5].map(|()| run((self.command)(task, few)).1);
            times.sort_by(f64::total_cmp);
            times[2]
        });
        let (out, cpu, peak) = run((self.command)(task, count));
        let operations = count.saturating_sub(few).max(1) as f64;
        Sample { iops: (self.iops)(&out), cpu: (cpu - startup) / operations, peak }
    }
}

fn fio(task: &Task, count: usize) -> Command {
    let Task { job, image, .. } = task;
    let mut command = Command::new("fio");
    command.args(["--name=compare", "--ioengine=rbd", "--clientname=admin", "--pool=rbd"]);
    // Without a call of the clock for each operation, like the loops.
    command.args(["--output-format=json", "--rwmixread=70", "--norandommap", "--gtod_reduce=1"]);
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

fn python(task: &Task, count: usize) -> Command {
    let Task { job, conf, image } = task;
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PYTHON]).arg(conf).arg(image).args([job.kind.name(), job.order()]);
    command.args([job.block, job.depth, count].map(|number| number.to_string()));
    command
}

fn rbd_bench(task: &Task, count: usize) -> Command {
    let Task { job, conf, image } = task;
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
