//! The monitor addresses for the kernel, and the protocols of the OSDs.

use serde_json::Value;

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, Object, ObjectKind, Result};
use crate::krbd::option_table::MsMode;
use crate::krbd::spec::splits;

/// The protocols and addresses of all monitors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Monmap {
    addresses: Vec<(Protocol, String)>,
    /// Monitors that were made before the second protocol still listen for the first one, also
    /// where the OSDs do not (`ms_bind_msgr1 = false`).
    osds_lack_first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    First,
    Second,
}

impl Monmap {
    /// Parses the JSON answer to `mon dump`.
    pub(crate) fn parse(json: &[u8]) -> Result<Monmap> {
        let invalid = |why: String| {
            Error::new("read the monitor map of", Object::new(ObjectKind::Cluster, ""), Errno::EINVAL)
                .with_detail(format!("cannot parse the answer to 'mon dump': {why}"))
        };
        let dump: Value = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let monitors = dump["mons"].as_array().ok_or_else(|| invalid("it has no 'mons'".into()))?;
        let mut addresses = Vec::new();
        for monitor in monitors {
            let vector = monitor["public_addrs"]["addrvec"]
                .as_array()
                .ok_or_else(|| invalid("a monitor has no 'public_addrs'".into()))?;
            for entry in vector {
                let Some(protocol) = Protocol::of(entry) else { continue };
                let address =
                    entry["addr"].as_str().ok_or_else(|| invalid("an entry has no 'addr'".into()))?;
                addresses.push((protocol, address.to_owned()));
            }
        }
        Ok(Monmap { addresses, osds_lack_first: false })
    }

    /// Adds the answer to `osd find` in JSON. All OSDs are taken to listen for what one listens
    /// for.
    pub(crate) fn with_osd(mut self, json: &[u8]) -> Monmap {
        let osd: Value = serde_json::from_slice(json).unwrap_or_default();
        let vector = osd["addrs"]["addrvec"].as_array();
        let protocols: Vec<_> = vector.into_iter().flatten().filter_map(Protocol::of).collect();
        self.osds_lack_first = !protocols.is_empty() && !protocols.contains(&Protocol::First);
        self
    }

    /// Returns the addresses for a mode. Without a mode, chooses the first protocol if monitors and
    /// OSDs listen for it, because every kernel knows it.
    pub(crate) fn choose(&self, wanted: Option<MsMode>) -> Result<(MsMode, Vec<String>)> {
        let first = !self.osds_lack_first && self.of(MsMode::Legacy).next().is_some();
        let mode = wanted.unwrap_or(if first { MsMode::Legacy } else { MsMode::PreferCrc });
        if mode == MsMode::Legacy && self.osds_lack_first {
            return Err(Error::new("reach", Object::new(ObjectKind::Osd, ""), Errno::EOPNOTSUPP)
                .with_kind(ErrorKind::NotSupported)
                .with_detail(
                    "the OSDs listen for the second protocol (msgr2) only, and ms_mode=legacy is \
                     the first; choose another mode, which kernels know since 5.11",
                ));
        }
        let addresses: Vec<String> = self.of(mode).map(str::to_owned).collect();
        if addresses.is_empty() {
            let needed = if mode == MsMode::Legacy { "first (msgr1)" } else { "second (msgr2)" };
            return Err(Error::new("find", Object::new(ObjectKind::Monitor, ""), Errno::ENOENT)
                .with_kind(ErrorKind::NotFound { what: ObjectKind::Monitor })
                .with_detail(format!(
                    "no monitor listens for the {needed} protocol, which ms_mode={mode} needs; \
                     choose another mode"
                )));
        }
        check(&addresses)?;
        Ok((mode, addresses))
    }

    fn of(&self, mode: MsMode) -> impl Iterator<Item = &str> {
        let wanted = if mode == MsMode::Legacy { Protocol::First } else { Protocol::Second };
        self.addresses
            .iter()
            .filter(move |(protocol, _)| *protocol == wanted)
            .map(|(_, address)| address.as_str())
    }
}

impl Protocol {
    /// Returns the protocol of an entry of an address vector.
    fn of(entry: &Value) -> Option<Protocol> {
        match entry["type"].as_str() {
            Some("v1") => Some(Protocol::First),
            Some("v2") => Some(Protocol::Second),
            _ => None,
        }
    }
}

/// Refuses addresses that the kernel cannot parse.
pub(crate) fn check(addresses: &[String]) -> Result<()> {
    let refuse =
        |name: &str, detail| Err(Error::invalid("use", Object::new(ObjectKind::Monitor, name), detail));
    if addresses.is_empty() {
        return refuse("", "no monitor address is given; pass at least one");
    }
    for address in addresses {
        if address.is_empty() || address.contains(|c| splits(c) || c == ',') {
            return refuse(address, "an address must not be empty or contain a comma or white space");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn monmap(mons: &[&[(&str, &str)]]) -> Monmap {
        let mons: Vec<_> = mons
            .iter()
            .map(|addresses| {
                let addrvec: Vec<_> = addresses
                    .iter()
                    .map(|(kind, addr)| serde_json::json!({"type": kind, "addr": addr, "nonce": 0}))
                    .collect();
                serde_json::json!({"name": "a", "public_addrs": {"addrvec": addrvec}, "addr": "ignored"})
            })
            .collect();
        Monmap::parse(serde_json::json!({"epoch": 1, "mons": mons}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_mode_decides_which_addresses() {
        let map = monmap(&[
            &[("v2", "10.0.0.1:3300"), ("v1", "10.0.0.1:6789")],
            &[("v2", "[fd00::2]:3300"), ("v1", "[fd00::2]:6789")],
        ]);
        assert_eq!(
            map.choose(None).unwrap(),
            (MsMode::Legacy, vec!["10.0.0.1:6789".into(), "[fd00::2]:6789".into()])
        );
        assert_eq!(
            map.choose(Some(MsMode::Secure)).unwrap().1,
            ["10.0.0.1:3300", "[fd00::2]:3300"].map(String::from)
        );
    }

    #[test]
    fn a_cluster_of_the_second_protocol_only_is_recognised() {
        let map = monmap(&[&[("v2", "10.0.0.1:3300")]]);
        assert_eq!(map.choose(None).unwrap(), (MsMode::PreferCrc, vec!["10.0.0.1:3300".into()]));
        let error = map.choose(Some(MsMode::Legacy)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Monitor });
        assert!(error.to_string().contains("the first (msgr1) protocol, which ms_mode=legacy"), "{error}");
    }

    #[test]
    fn osds_of_the_second_protocol_only_rule_out_the_first() {
        let map = || monmap(&[&[("v2", "10.0.0.1:3300"), ("v1", "10.0.0.1:6789")]]);
        let osd = |kinds: &[&str]| {
            let entries: Vec<_> = kinds.iter().map(|kind| serde_json::json!({ "type": kind })).collect();
            serde_json::json!({ "osd": 0, "addrs": { "addrvec": entries } }).to_string().into_bytes()
        };
        for both in [osd(&["v2", "v1"]), osd(&["v1"]), osd(&[]), b"unknown".to_vec()] {
            assert_eq!(map().with_osd(&both).choose(None).unwrap().0, MsMode::Legacy);
        }
        let second = map().with_osd(&osd(&["v2"]));
        assert_eq!(second.choose(None).unwrap(), (MsMode::PreferCrc, vec!["10.0.0.1:3300".into()]));
        let error = second.choose(Some(MsMode::Legacy)).unwrap_err();
        assert!(error.to_string().contains("the OSDs listen for the second protocol"), "{error}");
    }

    #[test]
    fn one_of_the_first_protocol_only_has_none_for_the_second() {
        let map = monmap(&[&[("v1", "10.0.0.1:6789")]]);
        let error = map.choose(Some(MsMode::PreferCrc)).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(
            error.to_string().contains("the second (msgr2) protocol, which ms_mode=prefer-crc"),
            "{error}"
        );
        assert!(monmap(&[]).choose(None).is_err());
    }

    #[test]
    fn addresses_that_would_spill_over_are_refused() {
        for bad in [&[][..], &[""], &["a b"], &["a,b"], &["a\n"]] {
            assert!(check(&bad.iter().map(ToString::to_string).collect::<Vec<_>>()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_understood_or_refused(answer in ".*") {
            let _ = Monmap::parse(answer.as_bytes());
        }
    }

    #[test]
    fn only_the_first_protocol_is_refused_where_osds_lack_it() {
        let map = monmap(&[&[("v2", "10.0.0.1:3300"), ("v1", "10.0.0.1:6789")]]);
        let map =
            map.with_osd(br#"{"addrs": {"addrvec": [{"type": "v2", "addr": "10.0.0.1:6800", "nonce": 0}]}}"#);
        assert_eq!(map.choose(None).unwrap().0, MsMode::PreferCrc);
        assert_eq!(map.choose(Some(MsMode::Secure)).unwrap().0, MsMode::Secure);
        assert_eq!(*map.choose(Some(MsMode::Legacy)).unwrap_err().kind(), ErrorKind::NotSupported);
    }
}
