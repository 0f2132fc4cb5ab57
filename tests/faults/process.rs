//! A client from the side of the oracle: a process, its journal, and its use of resources.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Spec;
use crate::journal::Line;
use crate::oracle::{Oracle, Wrong};
use crate::weather::Weather;

pub(crate) const SPEC: &str = "RBD_FAULTS_CLIENT";

/// The longest time of an operation, or of the end of a client, including outages.
pub(crate) const BOUND: Duration = Duration::from_secs(90);

/// The resources of a process.
#[derive(Debug, Clone, Copy, Default)]
struct Takes {
    threads: u64,
    descriptors: u64,
    kib: u64,
}

pub(crate) struct Process {
    child: Child,
    oracle: Arc<Mutex<Oracle>>,
    reader: Option<JoinHandle<()>>,
    complaints: Option<JoinHandle<String>>,
    started: Instant,
    /// Whether its pool was deleted meanwhile.
    pub(crate) pool_deleted: bool,
    /// The resources after the process had run for a while.
    early: Option<Takes>,
    late: Takes,
}

impl Process {
    pub(crate) fn start(spec: &Spec, oracle: &Arc<Mutex<Oracle>>, weather: &Arc<Weather>) -> Process {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SPEC, spec.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut errors = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let (shared, weather) = (Arc::clone(oracle), Arc::clone(weather));
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The last line of a killed client may be cut off.
                if let Some(line) = Line::parse(&line) {
                    shared.lock().unwrap().hear(line, &weather);
                }
            }
        });
        Process {
            child,
            oracle: Arc::clone(oracle),
            reader: Some(reader),
            complaints: Some(complaints),
            started: Instant::now(),
            pool_deleted: false,
            early: None,
            late: Takes::default(),
        }
    }

    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().ok().flatten().is_some()
    }

    /// Checks the resources of the client, and for operations that take too long.
    pub(crate) fn watch(&mut self) {
        if let Some(takes) = takes(self.child.id()) {
            self.late = takes;
            if self.early.is_none() && self.started.elapsed() > Duration::from_secs(10) {
                self.early = Some(takes);
            }
        }
        let oldest = self.oracle().oldest();
        if let Some((_, what)) = oldest.filter(|(age, _)| *age > BOUND) {
            self.oracle().blame(Wrong::Hang, format!("{what} takes longer than {BOUND:?}"));
            self.signal(Signal::KILL);
        }
    }

    /// Kills the client and reads the rest of its journal.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
        self.read_on();
        self.oracle().forget_pending();
    }

    /// Tells the client to stop.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Tells the client to stop, waits for it, and checks how it ended.
    pub(crate) fn stop(mut self) {
        self.ask_to_stop();
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break Some(status);
            }
            if begun.elapsed() > BOUND {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        if status.is_none() {
            let oldest = self.oracle().oldest();
            self.oracle().blame(Wrong::Hang, format!("the client does not end: {oldest:?}"));
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
        let complaints = self.read_on();
        self.judge(status, &complaints);
        self.oracle().forget_pending();
    }

    fn judge(&mut self, status: Option<ExitStatus>, complaints: &str) {
        if self.pool_deleted && is_assertion_of_librados(complaints) {
            *self.oracle().failed.entry(ASSERTION.to_owned()).or_default() += 1;
        } else if status.is_some_and(|status| !status.success()) {
            let end: String = complaints.lines().rev().take(30).collect::<Vec<_>>().join(" | ");
            self.oracle().blame(Wrong::Died, format!("the client ended with {status:?}: {end}"));
        }
        let (Some(early), late) = (self.early, self.late) else { return };
        // Ceph's pools and caches fill at the beginning, and OSDs that return make further
        // connections.
        if late.threads > early.threads + 20
            || late.descriptors > early.descriptors + 40
            || late.kib > early.kib * 2 + (128 << 10)
        {
            self.oracle().blame(Wrong::Grown, format!("from {early:?} to {late:?}"));
        }
    }

    /// Reads the rest. The process has ended, so its end of the pipe is closed.
    fn read_on(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.complaints.take().map(|text| text.join().unwrap()).unwrap_or_default()
    }
}

const ASSERTION: &str = "librados ended the process in a deleted pool (`op->session`)";

/// Whether librados aborted the process. In `Objecter::handle_osd_map` it asserts that each
/// operation to be sent again has a session with an OSD, which one in a pool just deleted may lack.
/// No client can prevent that. It was seen with 16.2, 18.2 and 20.2.
fn is_assertion_of_librados(complaints: &str) -> bool {
    complaints.contains("FAILED ceph_assert(op->session)") && complaints.contains("Objecter.cc")
}

fn takes(pid: u32) -> Option<Takes> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Takes { threads: number("Threads:")?, descriptors, kib: number("VmRSS:")? })
}
