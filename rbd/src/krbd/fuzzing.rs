//! Entry points to the private parsers, for fuzzers and tests. None may panic.
#![allow(missing_docs)]

use crate::krbd::host::{Host, number};
use crate::krbd::{
    ImageSpec, KernelVersion, MapOptions, holders, key, kmsg, monmap, node, option_table, uevent,
};

pub fn uevent(bytes: &[u8]) {
    if let Some(event) = uevent::Uevent::parse(bytes) {
        let _ = (event.announces(252, 0), event.source);
    }
}

pub fn monmap(bytes: &[u8]) {
    if let Ok(map) = monmap::Monmap::parse(bytes) {
        for mode in [None, Some(option_table::MsMode::Legacy), Some(option_table::MsMode::Secure)] {
            if let Ok((_, addresses)) = map.choose(mode) {
                assert!(!addresses.is_empty());
                monmap::check(&addresses).expect("chosen addresses are usable");
            }
        }
    }
}

pub fn options(text: &str) {
    if let Ok(options) = text.parse::<MapOptions>() {
        assert_eq!(options.to_string().parse::<MapOptions>().expect("prints what parses"), options);
    }
    let raw = MapOptions::new().raw(text);
    if raw.check().is_ok() {
        assert!(!raw.for_kernel().contains(char::is_whitespace) || !text.is_ascii());
    }
}

pub fn texts(text: &str) {
    if let Ok(spec) = text.parse::<ImageSpec>() {
        assert_eq!(spec.to_string().parse::<ImageSpec>().expect("prints what parses"), spec);
    }
    let _ = key::Secret::new(&crate::cluster::Key::new(text));
    let _ = text.parse::<KernelVersion>();
    let _ = (number(text), node::parse_number(text), kmsg::parse(text.as_bytes()));
    let _ = (holders::Mount::parse(text), holders::swap_files(text).count());
}

/// Parses a mapping's attributes, one per line in the kernel's order, from a real directory.
pub fn sysfs(root: &std::path::Path, text: &str) {
    const NAMES: [&str; 8] =
        ["major", "minor", "pool", "pool_ns", "name", "current_snap", "size", "config_info"];
    let host = Host::at(root);
    let dir = host.on_bus(0);
    let _ = std::fs::create_dir_all(&dir);
    let mut values = text.split('\n');
    for name in NAMES {
        let _ = match values.next() {
            Some(value) => std::fs::write(dir.join(name), value),
            None => std::fs::remove_file(dir.join(name)),
        };
    }
    if let Ok(devices) = host.devices() {
        assert!(devices.len() <= 1);
    }
}
