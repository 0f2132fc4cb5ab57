//! Blocking calls of some threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rbd::Image;

use super::{BEFORE_REOPEN, Lane, NOWHERE, Todo, Work, close, data};
use crate::journal::BLOCK;

pub(super) fn run(work: &Work<'_>, image: Image) {
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for mut lane in Lane::all(work.spec, 4) {
            let (image, done) = (&image, &done);
            scope.spawn(move || {
                while work.goes_on() && done.fetch_add(1, Ordering::Relaxed) < BEFORE_REOPEN {
                    std::thread::sleep(work.pace());
                    if !step(work, image, lane.next()) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
            });
        }
    });
    close(work, image);
}

/// Makes one step. Returns whether it succeeded.
fn step(work: &Work<'_>, image: &Image, todo: Todo) -> bool {
    let id = todo.begin(work.journal);
    let result = match todo {
        Todo::Write { block, count } => image.write_all_at(&data(block, count, id), block * BLOCK),
        Todo::WriteSame { block } => image.write_same(block * BLOCK, BLOCK, &data(block, 1, id)),
        Todo::WriteZeroes { block, count } => image.write_zeroes(block * BLOCK, count * BLOCK),
        Todo::Discard { block, count } => image.discard(block * BLOCK, count * BLOCK),
        Todo::Read { block, count } => {
            let mut found = vec![0xee; (count * BLOCK) as usize];
            match image.read_exact_at(&mut found, block * BLOCK) {
                Ok(()) => {
                    work.journal.found(id, block, &found);
                    return true;
                }
                Err(error) => Err(error),
            }
        }
        Todo::Compare { block } => {
            work.compared(id, image.compare_and_write(block * BLOCK, &NOWHERE, &NOWHERE));
            return true;
        }
        Todo::Flush => image.flush(),
    };
    work.end(id, &result);
    result.is_ok()
}
