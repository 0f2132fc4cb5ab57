//! The options of a mapping.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::krbd::option_table::{CompressionHint, MsMode, ReadFromReplica};
use crate::krbd::option_table::{RESERVED, bad, check_value, invalid, known, names, unknown};

/// The options of a mapping. Options of the manual page rbd(8) have methods; [`MapOptions::raw`]
/// sets others.
///
/// A later setting replaces an earlier one of the same option or its opposite. The type parses the
/// form of `rbd map -o`: `exclusive,queue_depth=64`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct MapOptions {
    list: Vec<(String, Option<String>)>,
}

impl MapOptions {
    /// Creates an empty set of options: the kernel's defaults.
    pub fn new() -> MapOptions {
        MapOptions::default()
    }

    /// Sets whether the device is read-only. A snapshot is always read-only. Default: off.
    #[must_use]
    pub fn read_only(self, read_only: bool) -> MapOptions {
        self.flag("ro", read_only)
    }

    /// Sets whether to acquire the image's exclusive lock and keep it while it is mapped. Default:
    /// off. Needs Linux 4.12.
    #[must_use]
    pub fn exclusive(self, exclusive: bool) -> MapOptions {
        self.flag("exclusive", exclusive)
    }

    /// Sets whether to acquire the exclusive lock for reads too. Default: off. Needs Linux 4.9.
    #[must_use]
    pub fn lock_on_read(self, lock_on_read: bool) -> MapOptions {
        self.flag("lock_on_read", lock_on_read)
    }

    /// Sets how long the kernel waits for the exclusive lock, in whole seconds. Zero means no
    /// limit, which is the default. Needs Linux 4.17.
    #[must_use]
    pub fn lock_timeout(self, timeout: Duration) -> MapOptions {
        self.set("lock_timeout", seconds(timeout))
    }

    /// Sets whether discards and zeroing free space in the cluster. If off, discards fail, and
    /// zeros are written. Default: on. `false` needs Linux 4.17.
    #[must_use]
    pub fn trim(self, trim: bool) -> MapOptions {
        self.flag("notrim", !trim)
    }

    /// Sets whether writes fail when the cluster is full or the pool has reached its quota, instead
    /// of waiting for space. Default: off. Needs Linux 5.0.
    #[must_use]
    pub fn abort_on_full(self, abort_on_full: bool) -> MapOptions {
        self.flag("abort_on_full", abort_on_full)
    }

    /// Sets how many requests can be in flight. Default: 128. Needs Linux 4.2.
    #[must_use]
    pub fn queue_depth(self, requests: u32) -> MapOptions {
        self.set("queue_depth", requests.to_string())
    }

    /// Sets the unit of discards in bytes: a power of two. The kernel leaves the data of a block
    /// that a discard covers only in part. Default: 64 KiB. Needs Linux 5.1.
    #[must_use]
    pub fn alloc_size(self, bytes: u64) -> MapOptions {
        self.set("alloc_size", bytes.to_string())
    }

    /// Sets this machine's location for [`ReadFromReplica::Localize`]: `host:node1|rack:r3`. Needs
    /// Linux 5.8.
    #[must_use]
    pub fn crush_location(self, location: impl Into<String>) -> MapOptions {
        self.set("crush_location", location.into())
    }

    /// Sets the replica that reads go to. Default: the primary one. Needs Linux 5.8.
    #[must_use]
    pub fn read_from_replica(self, policy: ReadFromReplica) -> MapOptions {
        self.set("read_from_replica", policy.to_string())
    }

    /// Sets the hint to the OSDs about how well the data compresses. Default: no hint. Needs Linux
    /// 5.8.
    #[must_use]
    pub fn compression_hint(self, hint: CompressionHint) -> MapOptions {
        self.set("compression_hint", hint.to_string())
    }

    /// Sets the protocol and encryption. Default: the first protocol if monitors and OSDs listen
    /// for it, else [`MsMode::PreferCrc`]. Needs Linux 5.11.
    #[must_use]
    pub fn ms_mode(self, mode: MsMode) -> MapOptions {
        self.set("ms_mode", mode.to_string())
    }

    /// Sets whether to receive data into bounce buffers. The buffers of some readers change while
    /// the kernel fills them, for example those of Windows in a virtual machine. Then the kernel
    /// reports `bad crc` without this option, and reads are slow. Default: off. Needs Linux 5.17.
    #[must_use]
    pub fn rxbounce(self, rxbounce: bool) -> MapOptions {
        self.flag("rxbounce", rxbounce)
    }

    /// Sets whether mappings of one cluster and user share a client, if the other options of the
    /// client are equal too. Default: on.
    #[must_use]
    pub fn share(self, share: bool) -> MapOptions {
        self.flag(if share { "share" } else { "noshare" }, true)
    }

    /// Sets whether checksums protect data on the network with the first protocol
    /// ([`MsMode::Legacy`]). The second protocol ignores this option, and always protects data.
    /// Default: on.
    #[must_use]
    pub fn crc(self, crc: bool) -> MapOptions {
        self.flag(if crc { "crc" } else { "nocrc" }, true)
    }

    /// Sets whether TCP sends without delay. Default: on.
    #[must_use]
    pub fn tcp_nodelay(self, tcp_nodelay: bool) -> MapOptions {
        self.flag(if tcp_nodelay { "tcp_nodelay" } else { "notcp_nodelay" }, true)
    }

    /// Sets how long the kernel waits for the cluster while mapping, in whole seconds. Default: the
    /// rest of the operation's timeout.
    #[must_use]
    pub fn mount_timeout(self, timeout: Duration) -> MapOptions {
        self.set("mount_timeout", seconds(timeout))
    }

    /// Sets how long the kernel waits for an OSD before it opens a new connection, in whole
    /// seconds. Default: 5 s.
    #[must_use]
    pub fn osd_keepalive(self, time: Duration) -> MapOptions {
        self.set("osdkeepalive", seconds(time))
    }

    /// Sets after how long the kernel closes an idle connection to an OSD, in whole seconds.
    /// Default: 60 s.
    #[must_use]
    pub fn osd_idle_ttl(self, time: Duration) -> MapOptions {
        self.set("osd_idle_ttl", seconds(time))
    }

    /// Sets after how long a request to an OSD fails, in whole seconds. Default: never.
    ///
    /// Applies to all I/O of the device: a write fails instead of waiting. The data of a failed
    /// write may be lost, or reach the OSDs later.
    #[must_use]
    pub fn osd_request_timeout(self, timeout: Duration) -> MapOptions {
        self.set("osd_request_timeout", seconds(timeout))
    }

    /// Sets any option that the kernel knows, as `name` or `name=value`. The option is checked when
    /// the image is mapped. A name that this library does not know goes to the kernel; if the
    /// kernel refuses it, nothing is mapped, and the error contains the name and the known ones.
    #[must_use]
    pub fn raw(mut self, option: impl AsRef<str>) -> MapOptions {
        let (name, value) = split(option.as_ref());
        self.replace(name, value);
        self
    }

    /// Adds all options of `others`, which replace earlier ones.
    #[must_use]
    pub fn merge(mut self, others: MapOptions) -> MapOptions {
        for (name, value) in others.list {
            self.replace(name, value);
        }
        self
    }

    fn flag(mut self, name: &str, on: bool) -> MapOptions {
        self.replace(name.to_owned(), None);
        if !on {
            self.list.retain(|(known, _)| known != name);
        }
        self
    }

    fn set(mut self, name: &str, value: String) -> MapOptions {
        self.replace(name.to_owned(), Some(value));
        self
    }

    fn replace(&mut self, name: String, value: Option<String>) {
        let name = match name.as_str() {
            "read_only" => "ro".to_owned(),
            "read_write" => "rw".to_owned(),
            _ => name,
        };
        // A secret must not be kept by mistake, because options are printed.
        let value = value.filter(|_| !RESERVED.contains(&name.as_str()));
        let opposite = known(&name).map_or("", |(_, opposite)| opposite);
        self.list.retain(|(other, _)| *other != name && other != opposite);
        self.list.push((name, value));
    }

    fn has(&self, name: &str) -> bool {
        self.list.iter().any(|(known, _)| known == name)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.has("ro")
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.has("exclusive")
    }

    pub(crate) fn has_mount_timeout(&self) -> bool {
        self.has("mount_timeout")
    }

    /// Returns `Some(false)` for `noudev`, which this crate handles and the kernel does not know.
    pub(crate) fn udev(&self) -> Option<bool> {
        if self.has("noudev") { Some(false) } else { self.has("udev").then_some(true) }
    }

    pub(crate) fn mode(&self) -> Option<MsMode> {
        let (_, value) = self.list.iter().find(|(name, _)| name == "ms_mode")?;
        MsMode::from_word(value.as_deref()?)
    }

    /// Refuses options and values that the kernel cannot parse.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, value) in &self.list {
            if RESERVED.contains(&name.as_str()) {
                return Err(invalid(
                    name,
                    "it follows from the connection and cannot be set as an option; leave it out",
                ));
            }
            if name.is_empty() || name.contains(bad) {
                return Err(invalid(
                    name,
                    "an option's name must not be empty or contain a comma or white space",
                ));
            }
            let kind = known(name).map(|(kind, _)| kind);
            check_value(kind, value.as_deref()).map_err(|reason| invalid(name, reason))?;
        }
        Ok(())
    }

    /// Returns what to tell if the kernel refuses the options. It need not name the one that it
    /// does not know.
    pub(crate) fn why_refused(&self) -> String {
        let strange: Vec<String> = self
            .list
            .iter()
            .filter(|(name, _)| known(name).is_none())
            .map(|(name, _)| format!("'{name}'"))
            .collect();
        let strange = if strange.is_empty() {
            String::new()
        } else {
            let (strange, names) = (strange.join(", "), names());
            format!("; this library does not know {strange}; the options that it knows are {names}")
        };
        format!(
            "nothing is mapped: the kernel does not support one of the options, or not for this \
             image{strange}; correct the option or leave it out; the kernel's log (dmesg) may say which"
        )
    }

    /// Returns the options for the kernel, each after a comma.
    pub(crate) fn for_kernel(&self) -> String {
        let ours = ["udev", "noudev"];
        let for_kernel = self.list.iter().filter(|(name, _)| !ours.contains(&name.as_str()));
        for_kernel.fold(String::new(), |line, (name, value)| match value {
            Some(value) => format!("{line},{name}={value}"),
            None => format!("{line},{name}"),
        })
    }
}

fn split(option: &str) -> (String, Option<String>) {
    match option.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (option.to_owned(), None),
    }
}

/// Returns a time for an option that the kernel takes in seconds: rounded up, because 0 means no
/// limit.
fn seconds(time: Duration) -> String {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).to_string()
}

/// Parses the form of `rbd map -o`: options separated by commas. Refuses unknown names, to catch
/// typing errors; the error lists the known ones. [`MapOptions::raw`] accepts options of newer
/// kernels.
impl FromStr for MapOptions {
    type Err = Error;

    fn from_str(text: &str) -> Result<MapOptions> {
        let mut options = MapOptions::new();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, _) = split(option);
            if let Some(reason) = unknown(&name) {
                return Err(invalid(&name, reason));
            }
            options = options.raw(option);
        }
        options.check()?;
        Ok(options)
    }
}

impl fmt::Display for MapOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.list.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match value {
                Some(value) => write!(f, "{comma}{name}={value}")?,
                None => write!(f, "{comma}{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
