//! Calls every public function that takes a number, a text, bytes or a duration with extreme
//! arguments. The call must return Ok or Err within a minute.
//!
//! The list of functions comes from `rbd/api.txt`. A new function that is in no table fails the
//! test.

mod tables;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rbd::{Cluster, Image, IoCtx};

use crate::support::child::{alone_on, is_child};
use crate::support::{Space, alone, builder, own_cluster, unique};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

const NUMBERS: [u64; 12] = [
    0,
    1,
    4095,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 32) + 1,
    (1 << 63) - 1,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 1,
    u64::MAX,
];

fn texts() -> [String; 12] {
    let fixed = ["", "\0", "a\0b", "grün €\u{1f980}", "/", "@", "..", " \n", "%s%n", "-1"].map(str::to_owned);
    let [a, b, c, d, e, f, g, h, i, j] = fixed;
    [a, b, c, d, e, f, g, h, i, j, "x".repeat(4096), "x".repeat(100_000)]
}

/// The values on which the functions are called.
struct All {
    _space: Space,
    pool: IoCtx,
    cluster: Cluster,
    /// An image of 1 MiB, with a snapshot `s`.
    image: Arc<Image>,
    /// An image of 8 EiB, without features.
    huge: Image,
}

impl All {
    fn new() -> All {
        let space = Space::new();
        space.create("foo", MIB).run().unwrap();
        let features = rbd::Features::LAYERING;
        // Not in the space, which removes its images, because the removal would take years.
        let (whole, namespace) = (space.cluster().ioctx("rbd").unwrap(), unique("huge"));
        whole.namespaces().create(&namespace).unwrap();
        let elsewhere = whole.with_namespace(&namespace).unwrap();
        elsewhere.create("huge", i64::MAX as u64).features(features).run().unwrap();
        let huge = elsewhere.open("huge").run().unwrap();
        let image = Arc::new(space.open("foo").run().unwrap());
        image.snapshots().create("s").run().unwrap();
        image.snapshots().protect("s").unwrap();
        // Calls to a daemon that does not exist time out soon.
        let cluster = builder().call_timeout(Duration::from_secs(5)).connect().unwrap();
        All { pool: (*space).clone(), _space: space, cluster, image, huge }
    }
}

/// A call with a number and a text. Its result does not matter.
type Call = fn(&All, u64, &str);
type Table = &'static [(&'static str, Call)];

fn run(table: Table) {
    let (all, texts) = (All::new(), texts());
    for (name, call) in table {
        for (at, number) in NUMBERS.iter().enumerate() {
            let text = &texts[at];
            let what = format!("{name}({number}, {:?})", text.chars().take(9).collect::<String>());
            // The last line names the call that kills the process.
            let _ = writeln!(std::io::stderr(), "{what}");
            let begun = Instant::now();
            call(&all, *number, text);
            assert!(begun.elapsed() < LIMIT, "{what}: {:?}", begun.elapsed());
        }
    }
}

macro_rules! tests {
    ($($name:ident: $table:path;)*) => {
        $(#[test]
        fn $name() {
            if alone(concat!("sound::extremes::", stringify!($name))) {
                run($table);
            }
        })*
    };
}

tests! {
    values: tables::VALUES;
    clusters: tables::CLUSTERS;
    new_images: tables::NEW_IMAGES;
    images: tables::IMAGES;
    io: tables::IO;
    queues: tables::QUEUES;
    mapping: tables::MAPPING;
}

/// It changes the options of a pool.
#[test]
fn pools() {
    const TEST: &str = "sound::extremes::pools";
    if is_child(TEST) {
        return run(tables::POOLS);
    }
    let (daemons, _cluster) = own_cluster();
    alone_on(daemons.conf(), TEST);
}

/// The names of the argument types that are tested.
const TYPES: [&str; 14] = [
    "u64",
    "u32",
    "u16",
    "usize",
    "i64",
    "i32",
    "&str",
    "&'a str",
    "string::String",
    "SnapshotRef",
    "Path",
    "Duration",
    "[u8]",
    "Bytes",
];

/// Returns the name without generics, and the types of the arguments.
fn function(line: &str) -> Option<(String, &str)> {
    let (_, rest) = line.strip_prefix("pub ")?.split_once("fn ")?;
    let (mut name, mut depth) = (String::new(), 0);
    let mut start = 0;
    for (at, letter) in rest.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' if !rest[..at].ends_with('-') => depth -= 1,
            '(' if depth == 0 => {
                start = at;
                break;
            }
            letter if depth == 0 => name.push(letter),
            _ => {}
        }
    }
    let arguments = rest[start..].split(" -> rbd::error").next()?;
    Some((name, arguments.rsplit_once(')').map_or(arguments, |(arguments, _)| arguments)))
}

#[test]
fn every_function_with_such_an_argument_is_in_a_table() {
    let api = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/rbd/api.txt")).unwrap();
    let functions: BTreeSet<String> = api
        .lines()
        .filter_map(function)
        .filter(|(_, arguments)| {
            TYPES.iter().any(|wanted| {
                arguments.match_indices(wanted).any(|(at, _)| {
                    !arguments[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
                })
            })
        })
        .map(|(name, _)| name)
        .collect();
    assert!(functions.len() > 200, "{}", functions.len());
    let tables = [
        tables::VALUES,
        tables::CLUSTERS,
        tables::POOLS,
        tables::NEW_IMAGES,
        tables::IMAGES,
        tables::IO,
        tables::QUEUES,
        tables::MAPPING,
    ];
    let tried = tables.iter().flat_map(|table| table.iter().map(|(name, _)| *name));
    let known: BTreeSet<&str> = tried.chain(tables::LEFT_OUT.iter().copied()).collect();
    let missing: Vec<_> = functions.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "in no table of tests/it/sound/extremes: {missing:#?}");
    let gone: Vec<_> = known.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(gone.is_empty(), "no function of rbd/api.txt: {gone:#?}");
}
