//! The help of the examples, and the reasons that they give.

use super::{Setting, example};
use crate::support::program::output;

fn help(name: &str) -> String {
    let output = output(std::process::Command::new(example(name)).arg("--help"));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn only_the_flags_of_the_cluster_stand_under_its_heading() {
    for (name, own) in [("ls", "--long"), ("du", "--snap"), ("batch", "--prefix"), ("create", "--size")] {
        let help = help(name);
        let (others, cluster) = help.split_once("\nCluster:\n").unwrap_or_else(|| panic!("{help}"));
        assert!(others.contains(own) && others.contains("--pool") && others.contains("--help"), "{help}");
        let flags = cluster.lines().filter(|line| !line.is_empty());
        let flags: Vec<_> =
            flags.filter_map(|line| line.split("--").nth(1)?.split([' ', ',']).next()).collect();
        let expected = ["conf", "cluster", "id", "name", "mon_host", "keyring", "keyfile", "key", "embedded"];
        assert_eq!(flags, expected, "{help}");
    }
}

#[test]
fn the_usage_of_batch_is_the_same_in_help_and_errors() {
    let usage = "Usage: batch [OPTIONS] <ACTION> [IMAGES]...\n";
    assert!(help("batch").contains(usage), "{}", help("batch"));
    for args in [&[][..], &["remove", "--prefix", "a", "b"], &["snapshot", "a"]] {
        let said = Setting::shared().example(&[&["batch"], args].concat());
        assert!(said.status != Some(0) && said.messages.contains(usage), "{args:?}: {said:?}");
    }
}

/// The library's own reason tells a programmer which type parses a specification.
#[test]
fn a_pool_with_a_slash_is_explained_to_the_user_of_a_command() {
    for args in [&["ls", "a/b/c"][..], &["ls", "-p", "a/b"], &["batch", "trash", "-p", "a/b", "x"]] {
        let output = output(Setting::shared().command(example(args[0]), "").args(&args[1..]));
        let said = String::from_utf8(output.stderr).unwrap();
        let why = "why: no pool has the name 'a/b'; a pool and a namespace are written 'pool/namespace'\n";
        assert!(said.starts_with(why) && !said.contains("::"), "{args:?}: {said}");
    }
}
