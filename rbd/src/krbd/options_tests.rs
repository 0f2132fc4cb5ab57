//! The options of a mapping: how they are parsed, checked and written for the kernel.

use proptest::prelude::*;

use super::*;
use crate::krbd::option_table::KNOWN;
use crate::krbd::spec::splits;

#[test]
fn typed_options_read_as_the_kernel_takes_them() {
    let options = MapOptions::new()
        .read_only(true)
        .exclusive(true)
        .queue_depth(64)
        .lock_timeout(Duration::from_millis(1500))
        .alloc_size(4096)
        .trim(false)
        .read_from_replica(ReadFromReplica::Localize)
        .crush_location("host:a|rack:b")
        .compression_hint(CompressionHint::Incompressible)
        .ms_mode(MsMode::PreferSecure)
        .raw("future=1");
    options.check().unwrap();
    assert_eq!(
        options.for_kernel(),
        ",ro,exclusive,queue_depth=64,lock_timeout=2,alloc_size=4096,notrim,read_from_replica=localize,\
         crush_location=host:a|rack:b,compression_hint=incompressible,ms_mode=prefer-secure,future=1"
    );
    assert_eq!(options.mode(), Some(MsMode::PreferSecure));
}

#[test]
fn the_last_word_counts() {
    let options: MapOptions = "ro,noshare,queue_depth=1,share,rw,queue_depth=2,noudev".parse().unwrap();
    assert_eq!(options.to_string(), "share,rw,queue_depth=2,noudev");
    assert_eq!(options.for_kernel(), ",share,rw,queue_depth=2");
    assert!(!options.is_read_only());
    assert_eq!(options.udev(), Some(false));
    assert_eq!(options.read_only(true).read_only(false).to_string(), "share,queue_depth=2,noudev");
    let read_only: MapOptions = "read_only".parse().unwrap();
    assert!(read_only.is_read_only());
    assert!(!read_only.clone().merge("rw".parse().unwrap()).is_read_only());
}

#[test]
fn bad_values_are_refused_with_the_reason() {
    for (option, reason) in [
        ("queue_depth=0", "whole number from 1"),
        ("queue_depth=x", "whole number from 1"),
        ("queue_depth", "needs a value"),
        ("alloc_size=100", "power of two"),
        ("ms_mode=best", "must be one of legacy, crc, secure, prefer-crc, prefer-secure"),
        ("ro=1", "takes no value"),
        ("bogus", "none of the known options"),
        ("mount_timeout=-1", "whole number from 0"),
        ("crush_location=a b", "white space"),
    ] {
        let error = option.parse::<MapOptions>().unwrap_err();
        assert!(error.to_string().contains(reason), "{option}: {error}");
    }
    for raw in ["", "a b", "a\0", "x=1,secret=2", "=1"] {
        assert!(MapOptions::new().raw(raw).check().is_err(), "{raw:?}");
    }
}

#[test]
fn the_error_of_an_unknown_name_lists_the_known_ones() {
    let parsed = "ro,queue_dept=64".parse::<MapOptions>().unwrap_err().to_string();
    assert!(
        parsed.contains("'queue_dept': it is none of the known options of a mapping, which are"),
        "{parsed}"
    );
    assert!(parsed.ends_with("correct the name, or leave the option out"), "{parsed}");
    let refused = MapOptions::new().queue_depth(1).raw("future=1").raw("other").why_refused();
    assert!(refused.contains("this library does not know 'future', 'other';"), "{refused}");
    assert!(refused.contains("correct the option or leave it out"), "{refused}");
    for list in [parsed, refused] {
        let list = list.split_once(" are ").unwrap().1.split_once(';').unwrap().0;
        let names: Vec<&str> = list.split(", ").collect();
        // Each is accepted, with some value.
        for name in &names {
            let values = ["", "=1", "=512", "=crc", "=no", "=none"];
            let accepted = |value: &&str| format!("{name}{value}").parse::<MapOptions>().is_ok();
            assert!(values.iter().any(accepted), "{name}");
        }
        assert_eq!(names.len(), KNOWN.len() - RESERVED.len());
    }
    // Without one, the kernel alone knows what is wrong.
    assert!(!MapOptions::new().queue_depth(1).why_refused().contains("does not know"));
}

#[test]
fn the_identity_is_not_an_option_and_a_secret_is_not_kept() {
    for name in RESERVED {
        let options = MapOptions::new().raw(format!("{name}=AQBiKBxY"));
        let error = options.check().unwrap_err();
        for text in [error.to_string(), format!("{options:?}"), options.to_string(), options.for_kernel()] {
            assert!(!text.contains("AQBi"), "{text}");
        }
    }
}

#[test]
fn each_switch_has_both_positions() {
    type Switch = fn(MapOptions, bool) -> MapOptions;
    let switches: [(Switch, &str, &str); 9] = [
        (MapOptions::read_only, "ro", ""),
        (MapOptions::exclusive, "exclusive", ""),
        (MapOptions::lock_on_read, "lock_on_read", ""),
        (MapOptions::trim, "", "notrim"),
        (MapOptions::abort_on_full, "abort_on_full", ""),
        (MapOptions::rxbounce, "rxbounce", ""),
        (MapOptions::share, "share", "noshare"),
        (MapOptions::crc, "crc", "nocrc"),
        (MapOptions::tcp_nodelay, "tcp_nodelay", "notcp_nodelay"),
    ];
    for (switch, on, off) in switches {
        assert_eq!(switch(MapOptions::new(), true).to_string(), on);
        assert_eq!(switch(MapOptions::new(), false).to_string(), off);
        assert_eq!(switch(switch(MapOptions::new(), true), false).to_string(), off);
        assert_eq!(switch(switch(MapOptions::new(), false), true).to_string(), on);
    }
}

#[test]
fn times_of_options_in_seconds_are_rounded_up() {
    type Setter = fn(MapOptions, Duration) -> MapOptions;
    let setters: [(Setter, &str); 5] = [
        (MapOptions::lock_timeout, "lock_timeout"),
        (MapOptions::mount_timeout, "mount_timeout"),
        (MapOptions::osd_keepalive, "osdkeepalive"),
        (MapOptions::osd_idle_ttl, "osd_idle_ttl"),
        (MapOptions::osd_request_timeout, "osd_request_timeout"),
    ];
    for (set, name) in setters {
        for (time, seconds) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(7), 7),
            (Duration::MAX, u64::MAX),
        ] {
            assert_eq!(set(MapOptions::new(), time).to_string(), format!("{name}={seconds}"));
        }
    }
}

#[test]
fn what_is_asked_of_options_is_what_was_set() {
    let none = MapOptions::new();
    assert!(!none.is_read_only() && !none.is_exclusive() && !none.has_mount_timeout());
    assert_eq!((none.udev(), none.mode(), none.for_kernel().as_str()), (None, None, ""));
    assert!(none.clone().exclusive(true).is_exclusive());
    assert!(none.clone().mount_timeout(Duration::ZERO).has_mount_timeout());
    assert_eq!(none.clone().raw("udev").udev(), Some(true));
    assert_eq!(none.clone().ms_mode(MsMode::Legacy).mode(), Some(MsMode::Legacy));
    assert_eq!([none.clone().raw("ms_mode").mode(), none.raw("ms_mode=best").mode()], [None; 2]);
}

#[test]
fn spellings_of_read_only_are_one_option() {
    let options = MapOptions::new().raw("read_only").raw("read_write");
    assert_eq!(options.to_string(), "rw");
    assert_eq!(options.raw("read_only").to_string(), "ro");
}

#[test]
fn merged_options_stand_after_those_that_were_there() {
    let options = MapOptions::new().exclusive(true).queue_depth(1);
    assert_eq!(options.merge(MapOptions::new().queue_depth(2)).to_string(), "exclusive,queue_depth=2");
}

#[test]
fn commas_without_options_between_them_are_nothing() {
    assert_eq!(",ro,,share,".parse::<MapOptions>().unwrap().to_string(), "ro,share");
}

proptest! {
    #[test]
    fn what_passes_the_check_stays_one_word_of_as_many_options(
        texts in prop::collection::vec(".{0,12}", 0..6)
    ) {
        let options = texts.iter().fold(MapOptions::new(), |options, text| options.raw(text));
        if options.check().is_ok() {
            let line = options.for_kernel();
            prop_assert!(!line.contains(splits), "{line:?}");
            let ours = options.list.iter().filter(|(name, _)| name == "udev" || name == "noudev").count();
            prop_assert_eq!(line.matches(',').count(), options.list.len() - ours);
        }
    }

    #[test]
    fn parsing_never_panics_and_what_parses_prints_and_parses_back(text in "[a-z_=,0-9 ]{0,40}") {
        if let Ok(options) = text.parse::<MapOptions>() {
            prop_assert_eq!(options.to_string().parse::<MapOptions>().unwrap(), options);
        }
    }
}
