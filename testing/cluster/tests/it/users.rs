//! Users with fewer capabilities.

use crate::tools::{rbd, rbd_ok, small, text};

#[test]
fn a_second_user_is_limited_to_its_caps() {
    let cluster = small();
    rbd_ok(&cluster, &["create", "-s", "1", "foo"]);

    let reader = cluster.user("reader", &[("mon", "profile rbd"), ("osd", "profile rbd-read-only")]).unwrap();
    assert_eq!(reader.id, "reader");
    assert_eq!(cluster.key("client.reader").unwrap(), reader.key);
    assert_eq!(rbd_ok(&cluster, &["--id", "reader", "ls"]), "foo\n");
    let create = ["--id", "reader", "create", "-s", "1", "bar"];
    let refused = rbd(&cluster, &create);
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("Operation not permitted"), "{}", text(&refused.stderr));

    // A second call returns the same user. With other capabilities, the key stays the same.
    let again =
        cluster.user("client.reader", &[("mon", "profile rbd"), ("osd", "profile rbd-read-only")]).unwrap();
    assert_eq!(again, reader);
    let writer = cluster.user("reader", &[("mon", "profile rbd"), ("osd", "profile rbd")]).unwrap();
    assert_eq!(writer.key, reader.key);
    rbd_ok(&cluster, &create);

    // A user that does not exist.
    let keyring = reader.keyring.to_str().unwrap();
    assert!(!rbd(&cluster, &["--id", "nobody", "--keyring", keyring, "ls"]).status.success());
}

#[test]
fn names_that_would_leave_the_keyring_are_refused() {
    let cluster = rbd_testcluster::Access::new("/nonexistent");
    for name in ["", "client.", "a/b", "../x", "a b", "a]\n[client.admin"] {
        let error = cluster.user(name, &[]).unwrap_err().to_string();
        assert!(error.contains("is no usable user name"), "{name}: {error}");
    }
}
