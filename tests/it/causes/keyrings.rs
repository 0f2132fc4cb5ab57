//! Keyrings of many forms: this library uses the same key as librados, and reports which key that
//! is.

use std::path::Path;
use std::process::Command;

use rbd::Cluster;

use crate::support::program::output;
use crate::support::{cluster, unique};

/// Pseudorandom choices that are the same in each run.
struct Dice(u64);

impl Dice {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &from[(self.0 >> 33) as usize % from.len()]
    }
}

/// Returns an entry of a keyring.
fn entry(dice: &mut Dice, user: &str, key: &str) -> String {
    let quote = dice.pick(&["", "", "", "", "", "", "\"", "'"]);
    let line = [
        dice.pick(&["\t", "", "  "]),
        "key",
        dice.pick(&[" = ", "=", " =\t"]),
        quote,
        key,
        quote,
        dice.pick(&["", "", "", "", " ", " # mine", " ; mine", "#mine", "\r"]),
    ]
    .concat();
    let caps = dice.pick(&["", "\tcaps mon = \"allow *\"\n", "# key = no\n", "\n", "\tcaps osd = allow r\n"]);
    let heading = dice
        .pick(&["[USER]", "[USER]", "[USER]", "[USER]", "[USER] # who", " [USER]", "[ USER ]"])
        .replace("USER", user);
    format!("{heading}\n{caps}{line}\n")
}

/// Returns a value of the option `keyring`.
fn list(dice: &mut Dice, good: &Path, bad: &Path) -> String {
    let (good, bad) = (good.display(), bad.display());
    let list = *dice.pick(&[
        "G", "G", "G", "G", "G", "G", "/nope,G", "/nope;G", "/nope, G", "/nope G", "G,B", "B,G", "G;B",
        "G B", ",G", " G",
    ]);
    // In one pass, because a path may contain these letters itself.
    list.chars()
        .map(|letter| match letter {
            'G' => good.to_string(),
            'B' => bad.to_string(),
            other => other.to_string(),
        })
        .collect()
}

#[test]
fn the_reported_key_is_the_one_that_librados_uses() {
    let (user, other) = (unique("client.keyring"), unique("client.other"));
    let keys = [&user, &other].map(|user| {
        let add = format!(
            r#"{{"prefix": "auth get-or-create", "entity": "{user}", "caps": ["mon", "allow r", "osd", "allow r"]}}"#
        );
        cluster().mon_command(&add, &[]).unwrap();
        cluster().key_of(user).unwrap().expose().to_owned()
    });
    let [key, wrong] = keys.each_ref().map(String::as_str);
    let home = std::env::temp_dir().join(unique("keyrings"));
    std::fs::create_dir_all(&home).unwrap();
    let conf = rbd_testcluster::shared().conf();
    let mut dice = Dice(7);
    let (mut worked, mut failed) = (0, 0);
    for round in 0..200 {
        let names = dice.pick(&[["good", "bad"], ["a good one", "a bad one"], ["good=1", "bad#1"]]);
        let [good, bad] = names.map(|name| home.join(name));
        let orders: [&[&str]; 6] =
            [&[key], &[key], &[wrong, key], &[key, wrong], &[key, "%", wrong], &["%", key]];
        let mut text = String::new();
        for &key in *dice.pick(&orders) {
            let of_other = key == "%";
            text +=
                &entry(&mut dice, if of_other { &other } else { &user }, if of_other { wrong } else { key });
        }
        match dice.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 2]) {
            1 => text.truncate(text.trim_end().len()),
            2 => text.insert(0, '\u{feff}'),
            _ => {}
        }
        std::fs::write(&good, &text).unwrap();
        std::fs::write(&bad, format!("[{other}]\n\tkey = {wrong}\n")).unwrap();
        let list = list(&mut dice, &good, &bad);
        let mut rados = Command::new("rados");
        rados
            .env_remove("CEPH_ARGS")
            .args(["--conf".as_ref(), conf.as_os_str(), "--name".as_ref(), user.as_ref()])
            .args(["--keyring", &list, "lspools"]);
        let theirs = output(&mut rados);
        let name = user.strip_prefix("client.").unwrap();
        let builder = Cluster::builder().ignore_environment(true).conf_file(conf).user(name);
        let ours = builder.keyring(&list).connect();
        let about = format!(
            "round {round}, {list:?} with\n{text}\nrados: {}",
            String::from_utf8_lossy(&theirs.stderr)
        );
        match &ours {
            Ok(cluster) => {
                worked += 1;
                assert!(theirs.status.success(), "only this library logs in: {about}");
                let told = cluster.key().unwrap_or_else(|error| panic!("{error}: {about}"));
                assert_eq!(told.expose(), key, "{about}");
            }
            Err(error) => {
                failed += 1;
                assert!(
                    !theirs.status.success(),
                    "librados logs in, this library does not: {error}\n{about}"
                );
                assert!(!error.to_string().contains(wrong), "{error}");
            }
        }
    }
    assert!(worked > 30 && failed > 30, "{worked} worked, {failed} failed");
    std::fs::remove_dir_all(&home).unwrap();
}
