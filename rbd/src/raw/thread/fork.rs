//! Help for tests of forks, which have the memory of the process but none of its threads.

/// Runs the test of this name in a separate process. Other threads cannot hold locks there, which
/// would stay locked in a fork. Returns true in that process, and false here after the test has
/// passed.
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

/// Returns the result of `run` in a fork of this process, within 10 s. `run` must not wait for a
/// lock that another thread may hold.
pub(crate) fn in_fork(run: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs only code that the caller of this function promises to be safe in a
    // fork, and ends without cleaning up.
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
