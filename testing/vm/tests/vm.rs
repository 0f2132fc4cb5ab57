//! Real machines: output and exit status of commands are returned, and a hang only costs its
//! timeout.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use rbd_testvm::{Command, Error, Kernel, RbdModule, Stream, TestVm};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_command_runs_in_its_own_kernel_and_returns_its_output() {
    let finished = TestVm::builder().run(Command::shell("echo out; echo err >&2; exit 7")).unwrap();
    assert_eq!(finished.status.code(), Some(7));
    assert_eq!(finished.stdout, b"out\n");
    assert_eq!(finished.stderr, b"err\n");
    assert!(finished.console.contains("Linux version 6.1.0-"), "{}", finished.console);
    assert!(finished.console.contains("reboot: Power down"), "{}", finished.console);
}

#[test]
fn a_session_runs_many_commands() {
    let script = "#!/bin/sh\necho \"$1 $NAME\"\n";
    let vm = TestVm::builder().cpus(2).current_program().unwrap().text("/opt/hello", script).boot().unwrap();

    // Words, environment, directory and input arrive unchanged.
    let said = vm.check(Command::new("/opt/hello").arg("a  b").env("NAME", "it's\n"), SOON).unwrap();
    assert_eq!(said, "a  b it's\n\n");
    let input: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let output = vm.exec(Command::new("tee").arg("copy").dir("/tmp").stdin(input.clone()), SOON).unwrap();
    assert!(output.stdout == input, "{} bytes came back of {}", output.stdout.len(), input.len());
    assert_eq!(vm.check(["stat", "-c", "%s", "/tmp/copy"], SOON).unwrap(), "12000000\n");

    // A program of the host runs with its libraries.
    let tests = vm.check(["self", "--list"], SOON).unwrap();
    assert!(tests.contains("a_session_runs_many_commands: test"), "{tests}");

    // All ways to end.
    let killed = vm.exec(Command::shell("kill -SEGV $$"), SOON).unwrap();
    assert_eq!(killed.status.signal(), Some(11));
    let text = vm.check(Command::shell("echo why >&2; false"), SOON).unwrap_err().to_string();
    assert!(text.contains("exit status: 1") && text.contains("    why"), "{text}");
    let refused = vm.exec(["no-such-program"], SOON).unwrap_err();
    assert!(
        matches!(&refused, Error::NotStarted { reason, .. } if reason.contains("No such file")),
        "{refused}"
    );

    // Several at the same time, and one that leaves a process behind.
    let slow = vm.spawn(Command::shell("sleep 2; echo slow")).unwrap();
    assert_eq!(vm.check(Command::shell("sleep 1000 & echo quick"), SOON).unwrap(), "quick\n");
    let mut pieces = Vec::new();
    let output = slow.watch(SOON, |stream, bytes| pieces.push((stream, bytes.to_vec()))).unwrap();
    assert_eq!(output.stdout, b"slow\n");
    assert_eq!(pieces, [(Stream::Stdout, b"slow\n".to_vec())]);

    // A hang costs its timeout but not the machine, and leaves no process behind.
    let start = Instant::now();
    let hang = Command::shell("echo begun; echo seen >/dev/kmsg; sleep 12345 | cat");
    let error = vm.exec(hang, Duration::from_secs(2)).unwrap_err();
    assert!((2..10).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let Error::TimedOut { stdout, console, .. } = &error else { panic!("{error}") };
    assert_eq!(stdout, b"begun\n");
    assert!(console.lines().last().is_some_and(|line| line.contains("seen")), "{console}");
    assert!(error.to_string().contains("seen"), "{error}");
    let until = Instant::now() + SOON;
    while vm.check(["ps"], SOON).unwrap().contains("12345") {
        assert!(Instant::now() < until, "the hanging command still runs");
    }

    // A guest that disappears is an error at once.
    let start = Instant::now();
    let error = vm
        .exec(Command::shell("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger"), SOON)
        .unwrap_err();
    assert!(
        matches!(&error, Error::Died { console, .. } if console.contains("sysrq triggered crash")),
        "{error}"
    );
    assert!(matches!(vm.exec(["true"], SOON), Err(Error::Died { .. })));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_boot_that_hangs_ends_at_its_deadline_with_the_consoles_tail() {
    let start = Instant::now();
    let stuck = TestVm::builder().kernel_arguments("rdinit=/usr/bin/sleep -- 1000");
    let error = stuck.boot_deadline(Duration::from_secs(15)).boot().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    let Error::BootTimedOut { console, .. } = &error else { panic!("{error}") };
    // How far it came depends on the load of the host.
    assert!(console.contains("Linux version 6.1.0-"), "{console}");
    let last = console.trim_end().lines().last().unwrap();
    assert!(error.to_string().ends_with(last), "{error}");
}

#[test]
fn a_kernel_that_panics_is_an_error_at_once() {
    let error = TestVm::builder().kernel_arguments("rdinit=/usr/bin/false").boot().unwrap_err();
    assert!(matches!(error, Error::Died { .. }), "{error}");
    assert!(error.to_string().contains("Attempted to kill init"), "{error}");
}

#[test]
fn the_rbd_module_is_loaded_or_waits_or_is_not_there() {
    let features = ["cat", "/sys/bus/rbd/supported_features"];
    let vm = TestVm::builder().boot().unwrap();
    assert_eq!(vm.check(features, SOON).unwrap(), "0x1bf\n");
    assert!(vm.kernel_release().starts_with("6.1.0-"), "{}", vm.kernel_release());
    drop(vm);

    let vm = TestVm::builder().rbd_module(RbdModule::Unloaded).boot().unwrap();
    assert!(vm.check(features, SOON).is_err());
    vm.check(["modprobe", "rbd", "single_major=N"], SOON).unwrap();
    assert_eq!(vm.check(["cat", "/sys/module/rbd/parameters/single_major"], SOON).unwrap(), "N\n");
    drop(vm);

    let vm = TestVm::builder().rbd_module(RbdModule::Absent).boot().unwrap();
    assert!(vm.check(["modprobe", "rbd"], SOON).is_err());
    assert!(vm.check(["ls", "/sys/bus/rbd"], SOON).is_err());
}

#[test]
fn a_kernel_of_another_suite_boots() {
    let kernel = Kernel::package("linux-image-6.12.*-cloud-amd64").suite("trixie");
    let finished = TestVm::builder()
        .kernel(kernel)
        .run(Command::shell("uname -r; cat /sys/bus/rbd/supported_features"))
        .unwrap();
    let said = String::from_utf8(finished.stdout).unwrap();
    assert!(said.starts_with("6.12.") && said.ends_with("-cloud-amd64\n0x1bf\n"), "{said}");
}
