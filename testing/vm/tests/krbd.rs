//! A real kernel maps images of a real cluster; several machines run at the same time.

use std::time::Duration;

use rbd_testcluster::TestCluster;
use rbd_testvm::{Builder, Command, TestVm};

const SOON: Duration = Duration::from_secs(120);

fn machine(cluster: &TestCluster) -> Builder {
    TestVm::builder().cluster(cluster.conf()).program("rbd")
}

#[test]
fn what_one_machine_writes_into_an_image_another_reads() {
    let cluster = TestCluster::builder().mgr(false).start().unwrap();
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| machine(&cluster).udev(true).boot().unwrap());
        (machine(&cluster).boot().unwrap(), second.join().unwrap())
    });

    // A client in the guest's user space.
    first.check(["rbd", "create", "foo", "--size", "64M"], SOON).unwrap();
    assert_eq!(second.check(["rbd", "ls"], SOON).unwrap(), "foo\n");

    // The kernel's client, through sysfs.
    let monitor = &cluster.monitor_addresses().v2;
    let key = cluster.key("client.admin").unwrap();
    let spec = format!("{monitor} name=admin,secret={key},ms_mode=prefer-crc rbd foo -");
    let add = ["dd", "of=/sys/bus/rbd/add_single_major", "bs=4096"];
    first.check(Command::from(add).stdin(spec), SOON).unwrap();
    let text = "written by the first machine\n";
    let write = "mkfs.ext4 -q /dev/rbd0; mount /dev/rbd0 /mnt; cat >/mnt/file; umount /mnt; \
                 echo 0 >/sys/bus/rbd/remove_single_major; test ! -e /dev/rbd0";
    first.check(Command::shell(write).stdin(text), SOON).unwrap();

    // The `rbd` command waits for udev, whose rules make the link.
    assert_eq!(second.check(["rbd", "map", "foo"], SOON).unwrap(), "/dev/rbd0\n");
    assert_eq!(second.check(["readlink", "-f", "/dev/rbd/rbd/foo"], SOON).unwrap(), "/dev/rbd0\n");
    assert_eq!(second.check(Command::shell("mount /dev/rbd0 /mnt; cat /mnt/file"), SOON).unwrap(), text);
    second.check(Command::shell("umount /mnt; rbd unmap /dev/rbd/rbd/foo"), SOON).unwrap();

    first.shutdown().unwrap();
    second.shutdown().unwrap();
    cluster.stop().unwrap();
}
