//! For tests of what a fork of the process has: its memory, but none of its threads.

/// What `run` says in a fork of this process, within 10 s. It must wait for no lock that another thread may have.
pub(crate) fn in_fork(run: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs what its caller promises to be fit for it, and ends without any cleaning up.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(!super::contain::contain(run).unwrap_or(false));
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
