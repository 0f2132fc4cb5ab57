//! Reads pieces on several threads, and passes their data on in order.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use rbd::Image;

/// The number of pieces that are read at the same time.
const DEPTH: usize = 8;

/// A range of the image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Whether it holds data. A hole is not read.
    pub(crate) exists: bool,
}

/// The thread whose piece is next, and what became of the earlier pieces.
struct Turns<F> {
    next: usize,
    each: F,
    outcome: io::Result<()>,
}

/// Calls `each` with the offset and the data of each part, in order, and once without data for each
/// hole. Ends at the first error. The data is not copied: `each` gets librbd's own buffer.
pub(crate) fn read(
    image: &Image,
    pieces: impl Iterator<Item = io::Result<Piece>> + Send,
    each: impl FnMut(Piece, &[u8]) -> io::Result<()> + Send,
) -> io::Result<()> {
    let pieces = &Mutex::new(pieces.enumerate());
    let turns = &Mutex::new(Turns { next: 0, each, outcome: Ok(()) });
    let changed = &Condvar::new();
    let wait_for = |number| -> MutexGuard<'_, _> {
        let turns = turns.lock().expect("no thread panics");
        changed.wait_while(turns, |turns| turns.next < number).expect("no thread panics")
    };
    let pass_on = |number, piece: Piece, data: &[u8]| {
        let turns = &mut *wait_for(number);
        if turns.outcome.is_ok() {
            turns.outcome = (turns.each)(piece, data);
        }
        if turns.outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let read_one = |number, piece: io::Result<Piece>| -> io::Result<()> {
        let piece = piece?;
        if !piece.exists {
            let _ = pass_on(number, piece, &[]);
            return Ok(());
        }
        image.read_each(piece.offset, piece.len, |offset, data| {
            pass_on(number, Piece { offset, len: data.len() as u64, exists: true }, data)
        })?;
        Ok(())
    };
    let work = || loop {
        let next = pieces.lock().expect("no thread panics").next();
        let Some((number, piece)) = next else { return };
        let read = read_one(number, piece);
        let mut turns = wait_for(number);
        turns.next += 1;
        if turns.outcome.is_ok() {
            turns.outcome = read;
        }
        let failed = turns.outcome.is_err();
        drop(turns);
        changed.notify_all();
        if failed {
            return;
        }
    };
    thread::scope(|scope| (0..DEPTH).for_each(|_| drop(scope.spawn(work))));
    let mut turns = turns.lock().expect("no thread panics");
    std::mem::replace(&mut turns.outcome, Ok(()))
}
