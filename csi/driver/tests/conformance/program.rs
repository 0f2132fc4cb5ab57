//! The driver's program: what it logs, measures and shows of itself.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rbd_csi::proto::csi::controller_client::ControllerClient;
use rbd_csi::proto::csi::node_client::NodeClient;
use rbd_csi::proto::csi::{DeleteVolumeRequest, ListVolumesRequest, NodeStageVolumeRequest};
use serde_json::Value;
use tonic::Code;

use super::child::Program;
use super::driver::{CLUSTER, Driver, class, connect, create, map, mount, secrets, user};

/// A key that no user has.
const WRONG: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";
const SOON: Duration = Duration::from_secs(20);

/// Runs the program, which must end by itself.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbd-csi"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("RUST_BACKTRACE", "1");
    let (mut child, begun) = (command.spawn().unwrap(), Instant::now());
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > SOON {
            child.kill().unwrap();
            panic!("{args:?}: it did not end: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// The lines of a log in JSON.
fn log(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits for a line of the log with this message.
fn wait_for(path: &Path, message: &str) -> Value {
    let begun = Instant::now();
    loop {
        let found = log(path).into_iter().find(|line| line["fields"]["message"] == message);
        if let Some(line) = found {
            return line;
        }
        assert!(begun.elapsed() < SOON, "no line '{message}' in the log");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All regular files below a directory.
fn files(directory: &Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path(), all),
            kind if kind.is_file() => all.push(entry.path()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_logged_and_counted_and_no_key_is_shown() {
    let driver = Driver::start().await;
    let home = tempfile::tempdir().unwrap();
    let (socket, path) = (home.path().join("csi.sock"), home.path().join("log"));
    // The log has all that this program and its libraries have to say.
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbd-csi"));
    command.args(["--controller", "--node", "--node-id", "n", "--metrics", "127.0.0.1:0", "--log", "trace"]);
    command.args(["--log-format", "json", "--clusters"]).arg(driver.config()).arg("--endpoint").arg(&socket);
    command.current_dir(home.path()).env("TMPDIR", home.path()).env("HOME", home.path());
    let program = Program(command.stdin(Stdio::null()).stderr(File::create(&path).unwrap()).spawn().unwrap());
    let channel = connect(socket).await;
    let (mut controller, mut node) = (ControllerClient::new(channel.clone()), NodeClient::new(channel));

    let made = controller.create_volume(create("a", 16)).await.unwrap().into_inner().volume.unwrap();
    controller.create_volume(create("a", 16)).await.unwrap();
    let mut wrong = create("a", 16);
    wrong.secrets = map([("userID", &*user().name), ("userKey", WRONG)]);
    let refused = controller.create_volume(wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // This one uses the driver's own user and key.
    controller.list_volumes(ListVolumesRequest::default()).await.unwrap();
    let stage = NodeStageVolumeRequest {
        volume_id: format!("1:{CLUSTER}:1::abcdef"),
        staging_target_path: home.path().join("stage").display().to_string(),
        volume_capability: Some(mount()),
        secrets: secrets(),
        volume_context: class(),
        ..NodeStageVolumeRequest::default()
    };
    let missing = node.node_stage_volume(stage).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    let delete = DeleteVolumeRequest { volume_id: made.volume_id.clone(), secrets: secrets() };
    controller.delete_volume(delete).await.unwrap();

    // Each request has a number, which its lines have, also those of the thread that does the work.
    let lines = log(&path);
    let ends: Vec<&Value> = lines
        .iter()
        .filter(|line| ["done", "failed"].iter().any(|end| line["fields"]["message"] == *end))
        .collect();
    let expected = [
        ("CreateVolume", "a", "done", ""),
        ("CreateVolume", "a", "done", ""),
        ("CreateVolume", "a", "failed", "Unauthenticated"),
        ("ListVolumes", "", "done", ""),
        ("NodeStageVolume", "1:test-cluster:1::abcdef", "failed", "NotFound"),
        ("DeleteVolume", &made.volume_id, "done", ""),
    ];
    assert_eq!(ends.len(), expected.len(), "{ends:#?}");
    for (number, (line, (method, object, end, code))) in ends.iter().zip(expected).enumerate() {
        let span = &line["span"];
        assert_eq!((&span["id"], &span["method"]), (&(number + 1).into(), &method.into()), "{line}");
        assert_eq!(span["object"], object, "{line}");
        assert_eq!(line["fields"]["message"], end, "{line}");
        assert_eq!(line["fields"]["code"].as_str().unwrap_or_default(), code, "{line}");
        assert!(line["fields"]["ms"].is_u64(), "{line}");
    }
    assert_eq!(ends[2]["fields"]["reason"], refused.message());
    let connected = lines.iter().find(|line| line["fields"]["message"] == "connected").unwrap();
    assert_eq!(connected["span"]["id"], 1, "{connected}");

    // The figures, by HTTP.
    let address = wait_for(&path, "serving metrics")["fields"]["address"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut figures = String::new();
    stream.read_to_string(&mut figures).unwrap();
    let (head, body) = figures.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    for line in [
        r#"rbd_csi_requests_total{method="CreateVolume",code="OK"} 2"#,
        r#"rbd_csi_requests_total{method="CreateVolume",code="UNAUTHENTICATED"} 1"#,
        r#"rbd_csi_requests_total{method="NodeStageVolume",code="NOT_FOUND"} 1"#,
        r#"rbd_csi_request_seconds_bucket{method="CreateVolume",le="+Inf"} 3"#,
        r#"rbd_csi_request_seconds_count{method="ListVolumes"} 1"#,
    ] {
        assert!(body.lines().any(|found| found == line), "no {line} in\n{body}");
    }
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("rbd_csi_") && value.parse::<f64>().is_ok(), "{line}");
    }

    // No key is in the log, an answer, an argument, the environment, or a file that was written.
    let proc = Path::new("/proc").join(program.0.id().to_string());
    let mut shown = vec![
        ("the first error".to_owned(), format!("{refused:?}").into_bytes()),
        ("the second error".to_owned(), format!("{missing:?}").into_bytes()),
        ("the figures".to_owned(), figures.clone().into_bytes()),
        ("the volume".to_owned(), format!("{made:?}").into_bytes()),
    ];
    let mut all = vec![proc.join("cmdline"), proc.join("environ")];
    files(home.path(), &mut all);
    assert!(all.contains(&path), "{all:?}");
    shown.extend(all.into_iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    for (place, bytes) in shown {
        for key in [WRONG, &user().key] {
            // A part of it is too much.
            let part = &key.as_bytes()[4..24];
            assert!(!bytes.windows(part.len()).any(|window| window == part), "{place} shows a key");
        }
    }
}

#[test]
fn the_help_explains_each_option() {
    use clap::CommandFactory as _;
    let command = rbd_csi::args::Args::command();
    for option in command.get_arguments() {
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.len() > 5, "{}: {help}", option.get_id());
    }
    let output = run(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for told in ["--controller", "--node", "--clusters", "\"clusterID\"", "[default: rbd.csi.ceph.com]"] {
        assert!(help.contains(told), "no {told} in\n{help}");
    }
}

#[test]
fn a_wrong_command_line_is_told() {
    let home = tempfile::tempdir().unwrap();
    let (gone, empty) = (home.path().join("gone"), home.path().join("empty"));
    std::fs::write(&empty, "[]").unwrap();
    let (gone, empty) = (gone.to_str().unwrap(), empty.to_str().unwrap());
    let cases: [(&[&str], &str); 6] = [
        (&[], "say what to do: --controller, --node, or both"),
        (&["--node"], "--node-id"),
        (&["--controller", "--clusters", gone], "cannot read the file of clusters"),
        (&["--controller", "--clusters", empty, "--endpoint", "tcp://1.2.3.4:5"], "is no unix socket"),
        (&["--controller", "--flatten-depth", "0"], "--flatten-depth"),
        (&["--controller", "--log", "a=b=c"], "--log"),
    ];
    for (args, told) in cases {
        let output = run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(told), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && !said.contains("backtrace"), "{args:?}: {said}");
    }
}

/// Two processes on one socket would take each other's requests, and one that ends would remove the
/// socket of its successor.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_belongs_to_one_process() {
    let home = tempfile::tempdir().unwrap();
    let (config, socket) = (home.path().join("config.json"), home.path().join("csi.sock"));
    std::fs::write(&config, "[]").unwrap();
    let mut first = Program::controller(&config, &socket, &[]);
    connect(socket.clone()).await;
    let (config, path) = (config.to_str().unwrap(), socket.to_str().unwrap());
    let refused = |args: &[&str], told: &str| {
        let output = run(&[&["--controller", "--clusters", config], args].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(told), "{args:?}: {said}");
    };
    refused(&["--endpoint", path], "another process serves on");
    assert!(first.is_there());
    connect(socket.clone()).await;
    // One that was killed leaves its socket, which is taken over.
    first.kill();
    assert!(socket.exists());
    let mut killed = Program::controller(config.as_ref(), &socket, &[]);
    connect(socket.clone()).await;
    // One that was killed may need a moment to end. The next one waits for it.
    let mut second = Program::controller(config.as_ref(), &socket, &[]);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    killed.kill();
    connect(socket.clone()).await;
    assert!(second.is_there(), "it did not wait");
    // Another one is there when it ends.
    std::fs::remove_file(&socket).unwrap();
    let _successor = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    second.terminate();
    second.ends("the second");
    assert!(socket.exists());

    // Without its port, the probe for liveness would ask another process.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let other = home.path().join("other.sock");
    refused(&["--endpoint", other.to_str().unwrap(), "--metrics", &address], "the address of --metrics");
}

/// Without free descriptors, no connection can be accepted. That is logged, but not without pause.
#[test]
fn connections_that_cannot_be_accepted_do_not_fill_the_log() {
    let home = tempfile::tempdir().unwrap();
    let (config, path) = (home.path().join("config.json"), home.path().join("log"));
    std::fs::write(&config, "[]").unwrap();
    let mut command = Command::new("sh");
    let line = "ulimit -n 40; exec \"$@\"";
    command.args(["-c", line, "sh", env!("CARGO_BIN_EXE_rbd-csi"), "--controller", "--log-format", "json"]);
    command.args(["--metrics", "127.0.0.1:0", "--clusters"]).arg(&config);
    command.arg("--endpoint").arg(home.path().join("csi.sock")).stdin(Stdio::null());
    let _program = Program(command.stderr(File::create(&path).unwrap()).spawn().unwrap());
    let address = wait_for(&path, "serving metrics")["fields"]["address"].as_str().unwrap().to_owned();
    let connections: Vec<_> = (0..60).map(|_| TcpStream::connect(&address).unwrap()).collect();
    wait_for(&path, "a connection for metrics was lost");
    std::thread::sleep(Duration::from_secs(2));
    drop(connections);
    let lines = log(&path);
    let lost = lines.iter().filter(|line| line["fields"]["message"] == "a connection for metrics was lost");
    let lost = lost.count();
    assert!(lost < 20, "{lost} lines");
}
