//! Device events: the kernel's, and udev's, which follow after its rules have run.

/// The sender of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcer {
    Kernel,
    Udev,
}

/// A device event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uevent {
    pub(crate) source: Announcer,
    properties: Vec<(String, String)>,
}

/// udev's messages start with this, a magic number in network order, and a header of offsets in
/// host order.
const UDEV_PREFIX: &[u8] = b"libudev\0";
const UDEV_MAGIC: u32 = 0xfeed_cafe;

impl Uevent {
    /// Parses an event; `None` if it has neither form.
    pub(crate) fn parse(message: &[u8]) -> Option<Uevent> {
        if let Some(header) = message.strip_prefix(UDEV_PREFIX) {
            let word = |at: usize| <[u8; 4]>::try_from(header.get(at..at + 4)?).ok();
            if u32::from_be_bytes(word(0)?) != UDEV_MAGIC {
                return None;
            }
            let offset = u32::from_ne_bytes(word(8)?) as usize;
            let len = u32::from_ne_bytes(word(12)?) as usize;
            let properties = message.get(offset..offset.checked_add(len)?)?;
            return Some(Uevent { source: Announcer::Udev, properties: parse_properties(properties) });
        }
        // The kernel's: "add@/devices/rbd/0\0ACTION=add\0…"
        let mut parts = message.splitn(2, |byte| *byte == 0);
        let (head, properties) = (std::str::from_utf8(parts.next()?).ok()?, parts.next()?);
        let (action, path) = head.split_once('@')?;
        if action.is_empty() || !path.starts_with('/') {
            return None;
        }
        Some(Uevent { source: Announcer::Kernel, properties: parse_properties(properties) })
    }

    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether the event announces the block device with this number.
    pub(crate) fn announces(&self, major: u32, minor: u32) -> bool {
        let number = |name: &str| self.property(name).and_then(|text| text.parse::<u32>().ok());
        matches!(self.property("ACTION"), Some("add" | "change"))
            && self.property("SUBSYSTEM") == Some("block")
            && number("MAJOR") == Some(major)
            && number("MINOR") == Some(minor)
    }
}

fn parse_properties(bytes: &[u8]) -> Vec<(String, String)> {
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
            let text = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
            Some((text(&entry[..at]), text(&entry[at + 1..])))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROPERTIES: &[u8] =
        b"ACTION=add\0DEVPATH=/devices/rbd/0/block/rbd0\0SUBSYSTEM=block\0MAJOR=252\0MINOR=16\0DEVNAME=rbd1\0";

    fn kernel() -> Vec<u8> {
        [b"add@/devices/rbd/0/block/rbd0\0".as_slice(), PROPERTIES].concat()
    }

    fn udev(magic: u32, offset: u32, len: u32) -> Vec<u8> {
        let mut message = UDEV_PREFIX.to_vec();
        message.extend(magic.to_be_bytes());
        for word in [40, offset, len, 1, 2, 3, 4] {
            message.extend(u32::to_ne_bytes(word));
        }
        assert_eq!(message.len(), 40);
        message.extend(PROPERTIES);
        message
    }

    #[test]
    fn both_forms_are_read() {
        let len = PROPERTIES.len() as u32;
        for (message, source) in [(kernel(), Announcer::Kernel), (udev(UDEV_MAGIC, 40, len), Announcer::Udev)]
        {
            let event = Uevent::parse(&message).unwrap();
            assert_eq!(event.source, source);
            assert_eq!(event.property("DEVNAME"), Some("rbd1"));
            assert!(event.announces(252, 16));
            assert!(!event.announces(252, 17) && !event.announces(251, 16));
        }
    }

    #[test]
    fn a_removal_announces_nothing() {
        let text = String::from_utf8(kernel()).unwrap().replace("add", "remove");
        assert!(!Uevent::parse(text.as_bytes()).unwrap().announces(252, 16));
    }

    #[test]
    fn damaged_headers_are_no_event() {
        let len = PROPERTIES.len() as u32;
        assert_eq!(Uevent::parse(&udev(0xdead_beef, 40, len)), None);
        assert_eq!(Uevent::parse(&udev(UDEV_MAGIC, 40, len + 1)), None, "longer than the message");
        assert_eq!(Uevent::parse(&udev(UDEV_MAGIC, u32::MAX, u32::MAX)), None);
        assert_eq!(Uevent::parse(b"libudev\0\xfe"), None);
        assert_eq!(Uevent::parse(b"add@nowhere\0"), None);
        assert_eq!(Uevent::parse(b"no end"), None);
        assert_eq!(Uevent::parse(b""), None);
    }

    #[test]
    fn only_an_event_of_a_block_device_announces_it() {
        for (change, announces) in [
            (("ACTION=add", "ACTION=change"), true),
            (("ACTION=add", "ACTION=bind"), false),
            (("SUBSYSTEM=block", "SUBSYSTEM=rbd"), false),
            (("MAJOR=252", "MAJOR=x"), false),
            (("MINOR=16", "minor=16"), false),
        ] {
            let text = String::from_utf8(kernel()).unwrap().replace(change.0, change.1);
            assert_eq!(Uevent::parse(text.as_bytes()).unwrap().announces(252, 16), announces, "{change:?}");
        }
    }

    #[test]
    fn a_property_has_a_name() {
        let event = Uevent::parse(b"add@/devices\0=nameless\0A=b=c\0none\0").unwrap();
        assert_eq!(event.properties, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(Uevent::parse(b"@/devices\0ACTION=add\0"), None);
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            crate::krbd::fuzzing::uevent(&bytes);
        }

        #[test]
        fn no_udev_message_panics(offset in any::<u32>(), len in any::<u32>()) {
            crate::krbd::fuzzing::uevent(&udev(UDEV_MAGIC, offset, len));
        }
    }
}
