//! The lease of an acquired exclusive lock: a thread renews it until the lock is released.
//!
//! The thread asks the OSD every second whether each such handle still owns its lock. So an I/O
//! request has to wait for an answer only if the process was stopped or the OSD does not answer.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::errno::Errno;
use crate::raw::RawResult;
use crate::raw::image::closing::{is_owner, release};
use crate::raw::op::lease::Moment;
use crate::raw::op::target::Target;

/// The time between two proofs.
const INTERVAL: Duration = Duration::from_secs(1);

/// The handles with a lease, and the id of the process that runs the thread. A fork of it has no
/// thread.
static LEASES: Mutex<(u32, Vec<Weak<Target>>)> = Mutex::new((0, Vec::new()));

/// Begins the lease of a lock that was just acquired. Blocks. The caller has the lease's turn.
pub(super) fn begin_lease(target: &Arc<Target>) -> RawResult<()> {
    target.lease().set_disabled(false);
    let asked = Moment::now();
    let cookie = target.lock_cookie()?;
    // librbd may still believe that it owns a lock that another client has broken.
    // SAFETY: the image is open, as the caller makes sure.
    let owner = unsafe { is_owner(target.image()) }?;
    match cookie.filter(|_| owner) {
        Some(cookie) => target.lease().begin(asked, cookie),
        // SAFETY: as above.
        None if unsafe { target.needs_lock() }? => target.lease().lose(),
        None => return Ok(()),
    }
    let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
    let (process, targets) = &mut *leases;
    if !targets.iter().any(|one| std::ptr::eq(one.as_ptr(), Arc::as_ptr(target))) {
        targets.push(Arc::downgrade(target));
    }
    if *process != std::process::id() {
        // Without a thread, requests renew the lease.
        let started = std::thread::Builder::new().name("rbd-lease".into()).spawn(renew_all);
        *process = started.map_or(0, |_| std::process::id());
    }
    if target.lease().is_lost() { Err(Errno::ENOLCK) } else { Ok(()) }
}

/// Renews all leases until there are none.
fn renew_all() {
    loop {
        std::thread::sleep(INTERVAL);
        let leased: Vec<_> = {
            let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
            let (process, targets) = &mut *leases;
            targets.retain(|one| one.upgrade().is_some_and(|one| one.lease().is_there()));
            if targets.is_empty() {
                *process = 0;
                return;
            }
            targets.iter().filter_map(Weak::upgrade).collect()
        };
        for target in leased {
            if target.enter_renewal() {
                // A failure leaves the lease as it is, and requests ask again when it is too old.
                let _ = target.renew_lease();
                // SAFETY: the image is open, because it was entered above.
                let _ = unsafe { give_back(&target) };
                // SAFETY: entered above, and the Arc keeps it valid.
                unsafe { Target::leave_renewal(Arc::as_ptr(&target)) };
            }
        }
    }
}

/// Releases a lock that librbd has acquired anew after it was lost. The handle does not write, so
/// the new owner must not wait for it. Blocks.
///
/// # Safety
/// The image must be open.
unsafe fn give_back(target: &Target) -> RawResult<()> {
    let Some(_turn) = target.lease().turn_after_loss() else { return Ok(()) };
    // SAFETY: the caller's promise.
    if target.lock_cookie()?.is_some() && unsafe { is_owner(target.image()) }? {
        // SAFETY: as above.
        unsafe { release(target.image()) }?;
    }
    Ok(())
}
