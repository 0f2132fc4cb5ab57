//! Processes that end while threads connect.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rbd::Cluster;

/// Ways to end while threads connect, and the exit code of each. Nothing is frozen, and no other
/// connection is open.
pub(crate) const CONNECTING: &[(&str, i32)] =
    &[("connecting_and_return", 0), ("connecting_and_exit", 7), ("connecting_and_panic", 101)];

/// The threads of each child. Half of them have a wrong key, which the cluster refuses.
const THREADS: usize = 24;

/// Runs each way ten times, or as often as `RBD_EXIT_RUNS` says. Fails if a child crashes.
pub(crate) fn all(conf: &Path) {
    let runs = std::env::var("RBD_EXIT_RUNS").map_or(10, |runs| runs.parse().unwrap());
    for (way, wanted) in CONNECTING {
        let mut crashed = Vec::new();
        for run in 0..runs {
            let status = Command::new(std::env::current_exe().unwrap())
                .args([*way, &run.to_string()])
                .env(super::CONF, conf)
                .stderr(Stdio::null())
                .status()
                .unwrap();
            if status.code() != Some(*wanted) {
                crashed.push(format!("run {run}: {status}"));
            }
        }
        assert!(crashed.is_empty(), "{way}: {} of {runs}: {crashed:?}", crashed.len());
        println!("test {way} ... ok");
    }
}

/// Ends in the middle of handshakes.
pub(crate) fn child(way: &str, conf: &Path) {
    for thread in 0..THREADS {
        let mut builder = Cluster::builder().ignore_environment(true).conf_file(conf);
        if thread % 2 == 0 {
            builder = builder.key("AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==");
        }
        std::thread::spawn(move || {
            loop {
                drop(builder.clone().connect());
            }
        });
    }
    // A handshake takes some milliseconds. Each run ends at another moment.
    let run: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    std::thread::sleep(Duration::from_millis(20 + run * 7 % 100));
    match way {
        "connecting_and_exit" => std::process::exit(7),
        "connecting_and_panic" => std::panic::resume_unwind(Box::new("threads connect")),
        _ => {}
    }
}
