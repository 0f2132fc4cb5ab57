//! A first paired comparison.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]
#[path = "../ours.rs"]
mod ours;
#[path = "../raw/mod.rs"]
mod raw;
#[path = "../work.rs"]
mod work;

use std::sync::Arc;
use std::time::Instant;
use work::{Kind, Work};

fn main() {
    let conf = rbd_testcluster::shared().conf().to_owned();
    let mut builder = rbd::Cluster::builder().ignore_environment().conf_file(&conf);
    if std::env::var_os("NOTIMEOUT").is_some() {
        builder = builder.osd_timeout(None);
    }
    let cluster = builder.connect().unwrap();
    let pool = cluster.ioctx("rbd").unwrap();
    let size = 64 << 20;
    pool.create("bench", size).run().unwrap();
    let image = pool.open("bench").run().unwrap();
    for at in 0..size / (4 << 20) {
        image.write_all_at(&vec![0x5A; 4 << 20], at * (4 << 20)).unwrap();
    }
    let image = Arc::new(image);
    let mut queue = rbd::Queue::new(pool.open("bench").run().unwrap(), 128).unwrap();
    let mut callbacks = raw::Twin::open(&conf, "rbd", "bench", false);
    let mut polling = raw::Twin::open(&conf, "rbd", "bench", true);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let work = Arc::new(Work::new(Kind::Read, true, size, 4096, 32, 5000));
    let mut table: Vec<Vec<(f64, f64)>> = vec![vec![]; 4];
    let mut thread: Vec<Vec<f64>> = vec![vec![]; 4];
    for round in 0..25 {
        for k in 0..4 {
            let which = (k + round) % 4;
            let (start, cpu, own) = (Instant::now(), raw::cpu_time(), raw::cpu_time_of_thread());
            match which {
                0 => callbacks.run(&work),
                1 => polling.run(&work),
                2 => ours::futures(&runtime, &image, &work),
                _ => ours::queue(&mut queue, &work),
            }
            let (t, c) = (start.elapsed().as_secs_f64(), (raw::cpu_time() - cpu).as_secs_f64());
            thread[which].push((raw::cpu_time_of_thread() - own).as_secs_f64() / 5000.0 * 1e6);
            if round > 0 {
                table[which].push((5000.0 / t, c / 5000.0 * 1e6));
            }
        }
    }
    let med = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    for (n, name) in ["C callbacks", "C queue", "futures", "queue"].iter().enumerate() {
        println!(
            "{name:12} {:8.0} IOPS {:6.2} us {:6.2} us own",
            med(table[n].iter().map(|x| x.0).collect()),
            med(table[n].iter().map(|x| x.1).collect()),
            med(thread[n].clone())
        );
    }
    let start = Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(image.aio().read(0, usize::MAX));
    }
    println!("size: {:?} per call", start.elapsed() / 1_000_000);
    for (a, b) in [(2, 0), (3, 1), (2, 1), (1, 0)] {
        println!(
            "{a}/{b}: iops {:.3} cpu {:.3}",
            med(table[a].iter().zip(&table[b]).map(|(x, y)| x.0 / y.0).collect()),
            med(table[a].iter().zip(&table[b]).map(|(x, y)| x.1 / y.1).collect())
        );
    }
}
