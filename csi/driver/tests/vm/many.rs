//! Many volumes of one node at the same time.

use std::time::Instant;

use super::driver::{Driver, create};
use super::node::Node;

const VOLUMES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_volumes_are_staged_at_once() {
    let driver = Driver::start().await;
    let mut ids = Vec::new();
    for number in 0..VOLUMES {
        ids.push(driver.create(create(&format!("v{number}"), 16)).await.unwrap().volume_id);
    }
    let node = Node::boot("node-1", &driver, 3);
    let begun = Instant::now();
    assert_eq!(node.stage_all(&ids), "");
    eprintln!("{VOLUMES} volumes were staged at once in {:.1} s", begun.elapsed().as_secs_f64());
    let mounted = "grep -c '^/dev/rbd.* /stage/' /proc/self/mounts";
    assert_eq!(node.sh(mounted), VOLUMES.to_string());
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), VOLUMES.to_string());
    // Each has its own file system.
    node.sh("for i in /stage/*; do echo $i > $i/file; done");
    assert_eq!(node.sh("for i in /stage/*; do [ \"$(cat $i/file)\" = \"$i\" ] || echo $i; done"), "");
    let begun = Instant::now();
    assert_eq!(node.unstage_all(&ids), "");
    eprintln!("{VOLUMES} volumes were unstaged at once in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(node.sh("ls /sys/bus/rbd/devices | wc -l"), "0");
    node.shutdown();
}
