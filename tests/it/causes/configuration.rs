//! Configuration files and keys in the forms that users have.

use std::path::Path;

use rbd::{Cluster, ErrorKind, ObjectKind};

use crate::support::child::run_child;
use crate::support::{alone, builder, cluster};

#[test]
fn bytes_that_would_abort_librados_are_refused() {
    // In a separate process, because an abort would end all tests.
    if !alone("causes::configuration::bytes_that_would_abort_librados_are_refused") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let conf = std::fs::read_to_string(rbd_testcluster::shared().conf()).unwrap();
    let path = dir.path().join("ceph.conf");
    for (text, word) in [
        (format!("\u{feff}{conf}"), "byte-order mark"),
        (format!("{conf}\n[client]\nadmin_socket = /tmp/\u{fc}\n"), "not ASCII"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Cluster::builder().ignore_environment(true).conf_file(&path).connect().unwrap_err();
        assert_eq!(error.object_name(), path.to_str().unwrap());
        assert!(error.to_string().contains(word), "{error}");
    }
    let key = rbd_testcluster::shared().key("admin").unwrap();
    let keyring = dir.path().join("keyring");
    std::fs::write(&keyring, format!("\u{feff}[client.admin]\nkey = {key}\n")).unwrap();
    let error = builder().keyring(&keyring).connect().unwrap_err();
    assert_eq!(error.object_name(), keyring.to_str().unwrap());
    assert!(error.to_string().contains("byte-order mark"), "{error}");
    // librados reads the keyring that a configuration file names while it reads that file.
    let conf = format!("{conf}\n[client.admin]\nkeyring = {} # mine\n", keyring.display());
    std::fs::write(&path, conf).unwrap();
    let error = Cluster::builder().ignore_environment(true).conf_file(&path).connect().unwrap_err();
    assert_eq!(error.object_name(), keyring.to_str().unwrap());
}

#[test]
fn a_missing_or_empty_file_is_named() {
    let missing = Path::new("/nonexistent/key");
    for builder in [builder().keyring(missing), builder().key_file(missing)] {
        let error = builder.connect().unwrap_err();
        assert_eq!(error.object_name(), "/nonexistent/key", "{error}");
        assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::File }, "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keyring");
    let key = rbd_testcluster::shared().key("admin").unwrap();
    for (text, word) in [
        (String::new(), "is empty"),
        (format!("[client.admin]\nkey = {key}"), "does not end in a newline"),
        (format!("[client.other]\nkey = {key}\n"), "client.admin"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let error = builder().keyring(&file).connect().unwrap_err();
        assert_eq!(error.object_name(), file.to_str().unwrap(), "{error}");
        assert!(error.to_string().contains(word) && !error.to_string().contains(&key), "{error}");
    }
    let conf = dir.path().join("ceph.conf");
    for (text, word) in [("", "is empty"), ("[global]\nmon_host = 127.0.0.1", "does not end in a newline")] {
        std::fs::write(&conf, text).unwrap();
        let builder = Cluster::builder().ignore_environment(true).conf_file(&conf).key(key.as_str());
        let error = builder.connect_timeout(std::time::Duration::from_secs(2)).connect().unwrap_err();
        assert_eq!(error.object_name(), conf.to_str().unwrap(), "{error}");
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// librados returns only "No such file or directory".
#[test]
fn a_configuration_without_monitors_is_told_from_a_missing_key() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("ceph.conf");
    std::fs::write(&conf, "[global]\nlog_to_stderr = false\n").unwrap();
    let key = rbd_testcluster::shared().key("admin").unwrap();
    let builder = Cluster::builder().ignore_environment(true).conf_file(&conf).key(key.as_str());
    let error = builder.connect_timeout(std::time::Duration::from_secs(2)).connect().unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::NotFound { what: ObjectKind::Monitor }, "{error}");
    assert!(error.to_string().contains("names no monitor; set mon_host"), "{error}");
}

/// The value of a variable that names a keyring; `PATH` is a placeholder.
const NAMED_BY: [(&str, &str); 5] = [
    ("CEPH_ARGS", "--keyring PATH"),
    ("CEPH_ARGS", "--debug-ms=0 --keyring=PATH"),
    ("CEPH_ARGS", "-k PATH"),
    ("CEPH_ARGS", "--keyring /nonexistent,PATH"),
    ("CEPH_KEYRING", "PATH"),
];

#[test]
fn a_keyring_that_the_environment_names_is_checked_first() {
    const PATH: &str = "RBD_TEST_KEYRING";
    if let Some(path) = std::env::var_os(PATH) {
        let error = Cluster::builder().conf_file(rbd_testcluster::shared().conf()).connect().unwrap_err();
        assert_eq!(error.object_name(), path.to_str().unwrap(), "{error}");
        assert!(error.to_string().contains("byte-order mark"), "{error}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keyring");
    std::fs::write(&path, "\u{feff}[client.admin]\n\tkey = a\n").unwrap();
    for (variable, value) in NAMED_BY {
        let test = "causes::configuration::a_keyring_that_the_environment_names_is_checked_first";
        let value = value.replace("PATH", path.to_str().unwrap());
        let ran = run_child(test, &[(variable, &value), (PATH, path.to_str().unwrap())]);
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        let ok = ran.status.success() && said.contains("1 passed");
        assert!(ok, "{variable}={value}: {:?} {said}", ran.status);
    }
}

/// librados returns only "Invalid argument" or "No such file or directory".
#[test]
fn a_monitor_whose_name_has_no_address_is_named() {
    let address = cluster().config().get("mon_host").unwrap();
    for hosts in [
        "no-such-monitor.invalid".to_owned(),
        "no-such-monitor.invalid:6789".to_owned(),
        "v2:no-such-monitor.invalid:3300".to_owned(),
        format!("{address},no-such-monitor.invalid"),
    ] {
        let began = std::time::Instant::now();
        match builder().monitors(&hosts).connect() {
            // Some releases omit entries without an address.
            Ok(_) => assert!(hosts.contains(&address), "{hosts}"),
            Err(error) => {
                assert_eq!(
                    *error.kind(),
                    ErrorKind::NotFound { what: ObjectKind::Monitor },
                    "{hosts}: {error}"
                );
                assert_eq!(error.object_name(), "no-such-monitor.invalid", "{hosts}: {error}");
                assert!(error.to_string().contains("mon_host"), "{hosts}: {error}");
            }
        }
        println!("{hosts}: {:?}", began.elapsed());
    }
}
