//! The settings that make a small cluster quick, quiet and healthy.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::builder::{Builder, ObjectStore};
use crate::conf::Conf;

/// Manager modules that are not needed here. Loading all of them takes 1.5 s of CPU.
const UNUSED_MODULES: &str = "alerts,cephadm,dashboard,diskprediction_local,influx,insights,iostat,k8sevents,\
     localpool,mds_autoscaler,nfs,prometheus,restful,rook,selftest,smb,snap_schedule,stats,telegraf,\
     test_orchestrator,zabbix";

/// Returns the configuration of the cluster in `directory`. The caller's settings win.
pub(crate) fn conf(
    wanted: &Builder,
    directory: &Path,
    fsid: &str,
    monitors: &str,
    ports: &RangeInclusive<u16>,
) -> Conf {
    let dir = directory.display();
    let mut conf = Conf::default();
    for (key, value) in [
        ("fsid", fsid),
        ("mon host", monitors),
        ("auth cluster required", "cephx"),
        ("auth service required", "cephx"),
        ("auth client required", "cephx"),
        ("auth allow insecure global id reclaim", "false"),
        ("public addr", "127.0.0.1"),
        ("cluster addr", "127.0.0.1"),
        ("osd crush chooseleaf type", "0"),
        ("osd pool default min size", "1"),
        ("osd pool default pg num", "8"),
        ("osd pool default pgp num", "8"),
        ("osd pool default pg autoscale mode", "off"),
        ("mgr pool", "false"), // Ceph 17 and newer would make a pool of their own, `.mgr`.
    ] {
        conf.set("global", key, value);
    }
    conf.set("global", "osd pool default size", wanted.replicas);
    conf.set("global", "ms bind msgr1", wanted.msgr1);
    conf.set("global", "run dir", format_args!("{dir}/run"));

    for (key, value) in [
        ("mon data avail warn", "2"),
        ("mon data avail crit", "1"),
        ("mon warn on pool no redundancy", "false"),
        ("mon allow pool delete", "true"),
        ("mon allow pool size one", "true"),
        ("mon max pg per osd", "10000"),
        // Fail at once if a port is taken. By default a daemon tries for 15 s.
        ("ms bind retry count", "1"),
        ("ms bind retry delay", "0"),
        // How long the monitor collects changes before it commits them. By default 1 s for each
        // command that changes a map.
        ("paxos propose interval", "0.05"),
        ("paxos min wait", "0.02"),
    ] {
        conf.set("mon", key, value);
    }
    // Otherwise Ceph 20 refuses to make keys that older clients know.
    conf.set("mon", "mon auth allow insecure key", wanted.key_type == "aes");
    // The monitor learns the state of placement groups from the manager, every 5 s by default.
    conf.set("mgr", "mgr stats period", 1).set("mgr", "mgr tick period", 1);
    conf.set("mgr", "mgr initial modules", "").set("mgr", "mgr disabled modules", UNUSED_MODULES);

    // Trim removed snapshots at once. By default an OSD on a disk pauses for 5 s after each.
    for kind in ["hdd", "hybrid", "ssd"] {
        conf.set("osd", &format!("osd snap trim sleep {kind}"), 0);
    }
    if wanted.osds == 1 {
        // A placement group that was not renewed for 16 s serves nothing. After a pause, one of
        // Ceph 16 that has no replica may never serve the requests that came in that state.
        conf.set("global", "osd pool default read lease ratio", 50);
    }
    conf.set("osd", "osd objectstore", wanted.object_store);
    match wanted.object_store {
        ObjectStore::Memstore => {
            // Without page sets, small random writes become slower with time.
            conf.set("osd", "memstore page set", true);
            conf.set("osd", "memstore device bytes", wanted.osd_size);
            // It counts the used space without a lock. Several threads lose updates, and if the
            // count is negative the OSD is full.
            conf.set("osd", "osd op num shards", 1);
            conf.set("osd", "osd op num threads per shard", 1);
            // The fast shutdown does not save the data in memory.
            conf.set("osd", "osd fast shutdown", false);
        }
        ObjectStore::Bluestore => {
            conf.set("osd", "bluestore block size", wanted.osd_size);
        }
    }

    for (key, value) in [
        // How often it searches for new peers. Default: 30 s.
        ("rbd mirror pool replayers refresh interval", 1),
        ("rbd mirror image state check interval", 1),
        ("rbd mirror leader heartbeat interval", 1),
    ] {
        conf.set("client.rbd-mirror.a", key, value);
    }

    for kind in ["mon", "mgr", "osd", "client.rbd-mirror.a"] {
        let name = if kind.starts_with("client") { "rbd-mirror.a" } else { "$name" };
        conf.set(kind, "log file", format_args!("{dir}/log/{name}.log"));
        conf.set(kind, "log to stderr", false);
        // Otherwise a daemon that fails at its start ends before the thread of its log has written
        // the reason.
        conf.set(kind, "log flush on exit", true);
        conf.set(kind, "admin socket", format_args!("{dir}/run/{name}.asok"));
    }
    for kind in ["mgr", "osd"] {
        conf.set(kind, "ms bind port min", ports.start());
        conf.set(kind, "ms bind port max", ports.end());
    }
    for kind in ["mon", "mgr", "osd"] {
        conf.set(kind, &format!("{kind} data"), format_args!("{dir}/$name"));
    }
    conf.set("client", "keyring", format_args!("{dir}/ceph.$name.keyring"));
    conf.merge(&wanted.extra);
    conf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_sets_wins() {
        let wanted = Builder::default().replicas(1).section_option("mgr", "mgr_stats_period", 7);
        let text = conf(&wanted, Path::new("/d"), "F", "M", &(1..=2)).to_string();
        assert!(text.contains("mgr_stats_period = 7\n") && !text.contains("mgr_stats_period = 1"));
        assert!(text.contains("keyring = /d/ceph.$name.keyring\n"));
    }
}
