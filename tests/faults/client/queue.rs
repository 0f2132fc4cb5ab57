//! A queue and its event loop.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rbd::queue::Buffer;
use rbd::{Image, Queue};

use super::{BEFORE_REOPEN, Lane, NOWHERE, Todo, Work, data};
use crate::journal::{BLOCK, Kind};

const DEPTH: u64 = 16;

pub(super) fn create(image: Image) -> rbd::Result<Queue> {
    Queue::new(image, DEPTH as usize)
}

pub(super) fn run(work: &Work<'_>, mut queue: Queue) {
    let mut lanes = Lane::all(work.spec, DEPTH);
    // The operation for which each lane waits.
    let mut waiting: Vec<Option<(u64, Todo)>> = lanes.iter().map(|_| None).collect();
    let mut done = 0;
    let mut failed = false;
    loop {
        let goes_on = work.goes_on() && done < BEFORE_REOPEN;
        for (token, (lane, waiting)) in lanes.iter_mut().zip(&mut waiting).enumerate() {
            if waiting.is_some() || !goes_on {
                continue;
            }
            std::thread::sleep(work.pace());
            let todo = lane.next();
            let id = todo.begin(work.journal);
            done += 1;
            match submit(&mut queue, token as u64, id, todo) {
                Ok(()) => *waiting = Some((id, todo)),
                Err(refused) => {
                    work.end(id, &Err(refused));
                    failed = true;
                }
            }
        }
        if queue.in_flight() == 0 && !goes_on {
            break;
        }
        if std::mem::take(&mut failed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        queue.wait(Duration::from_millis(500)).expect("no callback");
        while let Some(end) = queue.reap() {
            let Some((id, todo)) = waiting[end.token as usize].take() else { continue };
            failed |= end.result.is_err();
            match (todo, &end.result, end.buffer) {
                (Todo::Read { block, .. }, Ok(()), Buffer::BytesMut(found)) => {
                    work.journal.found(id, block, &found);
                }
                (Todo::Compare { .. }, Ok(()), _) => {
                    work.compared(id, Ok(end.compare.expect("it has found something")));
                }
                (_, result, _) => work.end(id, result),
            }
        }
    }
    let id = work.journal.begin(Kind::Close, 0, 0);
    work.end(id, &queue.close());
}

fn submit(queue: &mut Queue, token: u64, id: u64, todo: Todo) -> rbd::Result<()> {
    match todo {
        Todo::Write { block, count } => {
            queue.write(token, block * BLOCK, Bytes::from(data(block, count, id)))
        }
        Todo::WriteSame { block } => {
            queue.write_same(token, block * BLOCK, BLOCK, Bytes::from(data(block, 1, id)))
        }
        Todo::WriteZeroes { block, count } => queue.write_zeroes(token, block * BLOCK, count * BLOCK),
        Todo::Discard { block, count } => queue.discard(token, block * BLOCK, count * BLOCK),
        Todo::Read { block, count } => {
            queue.read(token, block * BLOCK, (count * BLOCK) as usize, BytesMut::new())
        }
        Todo::Compare { block } => {
            let nowhere = Bytes::from_static(&NOWHERE);
            queue.compare_and_write(token, block * BLOCK, nowhere.clone(), nowhere)
        }
        Todo::Flush => queue.flush(token),
    }
}
