//! No call waits forever: every public call, with frozen monitors, with frozen OSDs, and with both.
//!
//! Each mode has its own cluster, and a child process that makes the calls. The child is killed
//! after the last call: librbd cannot cancel a call, so timed-out calls still wait.

#![allow(missing_docs, clippy::pedantic)]

mod calls;
mod items;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rbd_testcluster::{Daemon, TestCluster};

/// All timeouts.
const SHORT: Duration = Duration::from_secs(3);

/// The longest time of a call on a busy machine. Some calls make several requests.
const LIMIT: Duration = Duration::from_secs(40);

/// If set, this process is a child that makes the calls on the cluster of this configuration file.
const CHILD: &str = "RBD_BOUNDS_CONF";

fn main() {
    if let Ok(conf) = std::env::var(CHILD) {
        return child(&conf);
    }
    items::check(&calls::names());
    let modes: [(&str, &[Daemon]); 3] = [
        ("monitor", &[Daemon::Mon]),
        ("OSD", &[Daemon::Osd(0)]),
        ("monitor and OSD", &[Daemon::Mon, Daemon::Osd(0)]),
    ];
    let workers = modes.map(|(name, frozen)| std::thread::spawn(move || (name, run(frozen))));
    let mut failed = false;
    for worker in workers {
        let (mode, late) = worker.join().unwrap();
        for call in &late {
            println!("{mode} frozen: {call} did not return within {LIMIT:?}");
        }
        failed |= !late.is_empty();
    }
    assert!(!failed, "calls above wait for too long");
    println!("bounds: {} calls, 3 modes, each returned", calls::names().len());
}

/// Runs all calls with these daemons frozen, and returns those that did not end in time.
fn run(frozen: &[Daemon]) -> Vec<String> {
    let daemons = TestCluster::builder().mgr(false).start().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, daemons.conf())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let ready = lines.by_ref().find(|line| line == "ready");
    assert!(ready.is_some(), "the child could not prepare the calls");
    frozen.iter().for_each(|daemon| daemons.pause(*daemon).unwrap());
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut ended = false;
    let late = lines.by_ref().take_while(|line| {
        ended = line == "end";
        !ended
    });
    let late: Vec<String> = late.filter_map(|line| line.strip_prefix("late ").map(str::to_owned)).collect();
    let _ = child.kill();
    child.wait().unwrap();
    assert!(ended, "the child died while it made the calls");
    late
}

/// Prepares the calls, waits for a line on standard input, and makes all calls concurrently.
fn child(conf: &str) {
    let calls = calls::prepare(conf);
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let start = Instant::now();
    let (sender, receiver) = channel();
    let mut waiting = BTreeMap::new();
    for (at, (name, call)) in calls.into_iter().enumerate() {
        waiting.insert(at, name);
        let sender = sender.clone();
        std::thread::spawn(move || {
            call();
            let _ = sender.send(at);
        });
    }
    while !waiting.is_empty() {
        let rest = LIMIT.saturating_sub(start.elapsed());
        let Ok(at) = receiver.recv_timeout(rest) else { break };
        if std::env::var_os("RBD_BOUNDS_TELL").is_some() {
            eprintln!("{:?} {}", start.elapsed(), waiting[&at]);
        }
        waiting.remove(&at);
    }
    waiting.values().for_each(|name| println!("late {name}"));
    println!("end");
    // The parent kills this process. A normal exit would wait for the stuck calls.
    loop {
        std::thread::park();
    }
}
