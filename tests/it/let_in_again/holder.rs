//! The process of a client with the exclusive locks of images, which is stopped and fenced.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rbd::{ClientAddress, Image, IoCtx};
use rustix::process::{Pid, Signal, kill_process};

use super::write_new;
use crate::support::{Space, builder, stop};

/// A process that has the locks of all images.
pub(super) struct Holder {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Its address, once it was fenced.
    pub(super) address: Option<ClientAddress>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

const SPACE: &str = "RBD_TEST_HOLDER";

/// Returns the pool of the holder in the process of a holder.
pub(super) fn in_holder() -> Option<IoCtx> {
    let namespace = std::env::var(SPACE).ok()?;
    let cluster = builder().connect().unwrap();
    Some(cluster.ioctx("rbd").unwrap().with_namespace(&namespace).unwrap())
}

/// Waits, in the process of a holder, until the test sends a line.
pub(super) fn wait_for_word() {
    println!("waits");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

impl Holder {
    /// Starts the test of this name again as a holder.
    pub(super) fn start(test: &str, space: &Space) -> Holder {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([&format!("let_in_again::{test}"), "--exact", "--nocapture"])
            .env(SPACE, space.namespace())
            .env("RBD_TEST_CONF", rbd_testcluster::shared().conf())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut holder = Holder { process, lines, address: None };
        holder.said();
        holder
    }

    /// Returns the lines that the holder prints until it waits.
    pub(super) fn said(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let line = self.lines.next().expect("the holder lives").unwrap();
            if line == "waits" {
                return said;
            }
            said.push(line);
        }
    }

    pub(super) fn go_on(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub(super) fn stop(&self) {
        stop(&self.process);
    }

    pub(super) fn resume(&self) {
        kill_process(Pid::from_child(&self.process), Signal::CONT).unwrap();
    }

    /// Stops the holder, fences it, takes over its images, lets it in again after `time`, and
    /// continues it. Returns the images of the new owner.
    pub(super) fn lose_all(&mut self, space: &Space, names: &[String], time: Duration) -> Vec<Image> {
        self.stop();
        let stopped = Instant::now();
        let cluster = builder().connect().unwrap();
        let pool = cluster.ioctx("rbd").unwrap().with_namespace(space.namespace()).unwrap();
        let mut address = None;
        let take_over = |name: &String| {
            let image = pool.open(name).run().unwrap();
            let owner = image.exclusive_lock().owner().unwrap().expect("the holder has the lock");
            let address = address.get_or_insert_with(|| {
                cluster.blocklist().add(&owner.address).run().unwrap();
                owner.address.clone()
            });
            assert_eq!(owner.address, *address);
            image.exclusive_lock().break_lock(&owner).unwrap();
            if name.ends_with("acquired") {
                image.exclusive_lock().acquire().unwrap();
            }
            let end = Instant::now() + Duration::from_secs(90);
            while !image.other_watchers().unwrap().is_empty() {
                assert!(Instant::now() < end, "{name}: the watch of the holder stays");
                std::thread::sleep(Duration::from_millis(200));
            }
            image
        };
        let images: Vec<_> = names.iter().map(take_over).collect();
        std::thread::sleep(time.saturating_sub(stopped.elapsed()));
        cluster.blocklist().remove(address.as_ref().unwrap()).unwrap();
        // The writes tell the OSD of it.
        cluster.wait_for_latest_osdmap().unwrap();
        self.address = address;
        images.iter().for_each(write_new);
        self.go_on();
        self.resume();
        images
    }
}
