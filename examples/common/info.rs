//! What `rbd info` prints.

use std::fmt::Write as _;
use std::time::SystemTime;

use chrono::{DateTime, Local};
use rbd::{Image, Result};

/// The lines of `rbd info` for an open image, but for the count of its snapshots.
pub(crate) fn text(image: &Image) -> Result<String> {
    let stat = image.stat()?;
    let mut text = format!("rbd image '{}':\n", image.name()?);
    let mut line = |key: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\t{key}{value}");
    };
    line("size ", &format!("{} in {} objects", size(stat.size), stat.objects));
    line("order ", &format!("{} ({} objects)", stat.order, size(stat.object_size)));
    line("id: ", &image.id()?);
    line("block_name_prefix: ", &stat.block_name_prefix);
    line("format: ", if image.is_old_format()? { "1" } else { "2" });
    line("features: ", &image.features()?.to_string());
    line("op_features: ", &image.op_features()?.to_string());
    line("flags: ", &image.flags()?.to_string());
    line("create_timestamp: ", &time(image.created()?));
    line("access_timestamp: ", &time(image.accessed()?));
    line("modify_timestamp: ", &time(image.modified()?));
    Ok(text)
}

/// `1 GiB`, `1.5 TiB`, `4 MiB`: binary units, and a fraction only where there is one.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut divisor = 1_u64;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1024 {
        divisor *= 1024;
        unit += 1;
    }
    if bytes % divisor == 0 {
        format!("{} {}", bytes / divisor, UNITS[unit])
    } else {
        // At most 1023.99 and some bits of fraction: far within what an f64 holds.
        #[allow(clippy::cast_precision_loss)]
        let value = bytes as f64 / divisor as f64;
        // As Ceph rounds: three significant figures.
        let digits = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
        let text = format!("{value:.digits$}");
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        format!("{text} {}", UNITS[unit])
    }
}

/// As ctime(3), in local time.
fn time(time: SystemTime) -> String {
    DateTime::<Local>::from(time).format("%a %b %e %H:%M:%S %Y").to_string()
}
