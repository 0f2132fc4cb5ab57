//! For tests of what a fork of the process has: its memory, but none of its threads.

/// Runs the test of this name in a process of its own, without other threads at work, whose locks a
/// fork would find locked for ever. True there; false here, when it has passed.
pub(crate) fn alone(test: &str) -> bool {
    const ALONE: &str = "RBD_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let name = test.split_once("::").expect("behind the name of the crate").1;
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// What `run` says in a fork of this process, within 10 s. It must wait for no lock that another
/// thread may have.
pub(crate) fn in_fork(run: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs what its caller promises to be fit for it, and ends without any
    // cleaning up.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!crate::raw::thread::catch_panic::catch_panic(run).unwrap_or(false));
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) }
    }
    assert!(child > 0, "fork");
    let mut status = -1;
    let ended = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // SAFETY: our child; the out pointer lives through the call.
        unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) == child }
    });
    if !ended {
        // SAFETY: our child, which was not waited for yet.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, &raw mut status, 0);
        }
    }
    ended && status == 0
}
