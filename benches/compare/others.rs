//! Engines that are programs of their own. Their processor time contains their start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::loops::raw;
use super::loops::work::{Kind, Work};
use super::{Engine, Measure, Sample};

const PYTHON: &str = r"
import random, rados, rbd, sys, threading, time
conf, image, rw, block, depth, count = sys.argv[1:4] + [int(word) for word in sys.argv[4:]]
cluster = rados.Rados(conffile=conf); cluster.connect()
ioctx = cluster.open_ioctx('rbd'); image = rbd.Image(ioctx, image)
blocks, free, data = image.size() // block, threading.Semaphore(depth), b'Z' * block
def ended(*_): free.release()
start = time.time()
for n in range(count):
    free.acquire()
    offset = random.randrange(blocks) * block
    if rw == 'write' or rw == 'mixed' and n % 10 >= 7: image.aio_write(data, offset, ended)
    else: image.aio_read(offset, block, ended)
for _ in range(depth): free.acquire()
print(count / (time.time() - start))
image.close(); ioctx.close(); cluster.shutdown()
";

/// All that can do this kind of work.
pub fn engines(conf: &Path, image: &str, kind: Kind) -> Vec<Engine> {
    let (conf, image) = (conf.to_owned(), image.to_owned());
    let mut engines: Vec<Engine> = vec![
        (
            "fio",
            program(&conf, &image, kind, fio, |out| {
                let json: serde_json::Value = serde_json::from_str(&out[out.find('{').unwrap()..]).unwrap();
                let iops = |side: &str| json["jobs"][0][side]["iops"].as_f64().unwrap();
                iops("read") + iops("write")
            }),
        ),
        ("python3-rbd", program(&conf, &image, kind, python, |out| out.trim().parse().unwrap())),
    ];
    if kind != Kind::Mixed {
        engines.push((
            "rbd bench",
            program(&conf, &image, kind, rbd_bench, |out| {
                let rest = &out[out.find("ops/sec: ").expect("a summary") + 9..];
                rest.split_whitespace().next().unwrap().parse().unwrap()
            }),
        ));
    }
    engines
}

fn program(
    conf: &Path,
    image: &str,
    kind: Kind,
    command: fn(&Path, &str, Kind, &Work) -> Command,
    iops: fn(&str) -> f64,
) -> Measure {
    let (conf, image): (PathBuf, String) = (conf.to_owned(), image.to_owned());
    Box::new(move |work| {
        let mut command = command(&conf, &image, kind, work);
        let cpu = raw::cpu_time_of_children();
        let output = command.env("CEPH_CONF", &conf).stdin(Stdio::null()).output().expect("it starts");
        let cpu = raw::cpu_time_of_children() - cpu;
        let out = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {out}{said}");
        Sample { iops: iops(&out), cpu: cpu.as_secs_f64() * 1e6 / work.offsets.len() as f64 }
    })
}

fn fio(_conf: &Path, image: &str, kind: Kind, work: &Work) -> Command {
    let mut command = Command::new("fio");
    command.args([
        "--name=compare",
        "--ioengine=rbd",
        "--clientname=admin",
        "--pool=rbd",
        "--output-format=json",
    ]);
    command.arg(format!("--rbdname={image}"));
    command.arg(match kind {
        Kind::Read => "--rw=randread",
        Kind::Write => "--rw=randwrite",
        Kind::Mixed => "--rw=randrw",
    });
    command.args(["--rwmixread=70", "--norandommap"]);
    command.arg(format!("--bs={}", work.block)).arg(format!("--iodepth={}", work.depth));
    command.arg(format!("--io_size={}", work.block * work.offsets.len()));
    command
}

fn python(conf: &Path, image: &str, kind: Kind, work: &Work) -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PYTHON]).arg(conf).arg(image).arg(format!("{kind:?}").to_lowercase());
    command.args([work.block, work.depth, work.offsets.len()].map(|number| number.to_string()));
    command
}

fn rbd_bench(conf: &Path, image: &str, kind: Kind, work: &Work) -> Command {
    let mut command = Command::new("rbd");
    command.arg("--conf").arg(conf).args(["bench", "--io-pattern", "rand", "--io-type"]);
    command.arg(format!("{kind:?}").to_lowercase());
    command.args(["--io-size", &format!("{}B", work.block), "--io-threads", &work.depth.to_string()]);
    command
        .args(["--io-total", &format!("{}B", work.block * work.offsets.len())])
        .arg(format!("rbd/{image}"));
    command
}
