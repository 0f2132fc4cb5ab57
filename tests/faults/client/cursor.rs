//! A stream for tokio. It writes behind, and reports a failed write with a later call.

use std::io;
use std::time::Duration;

use rbd::Image;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{BEFORE_REOPEN, Lane, Todo, Work, close, data};
use crate::journal::BLOCK;

pub(super) fn run(work: &Work<'_>, image: Image) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut stream = rbd::aio::AsyncCursor::new(&image).chunk_size(16 << 10).max_in_flight(4);
        let mut lanes = Lane::all(work.spec, 1);
        for _ in 0..BEFORE_REOPEN {
            if !work.goes_on() {
                break;
            }
            tokio::time::sleep(work.pace()).await;
            let todo = lanes[0].next();
            let id = todo.begin(work.journal);
            match step(&mut stream, todo, id).await {
                Ok(Some((block, found))) => work.journal.found(id, block, &found),
                Ok(None) => work.end(id, &Ok(())),
                Err(error) => {
                    end(work, id, error);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
        // Writes that librbd does not have yet could not be reported by closing.
        let id = Todo::Flush.begin(work.journal);
        match stream.flush().await {
            Ok(()) => work.end(id, &Ok(())),
            Err(error) => end(work, id, error),
        }
    });
    close(work, image);
}

async fn step(
    stream: &mut rbd::aio::AsyncCursor<&Image>,
    todo: Todo,
    id: u64,
) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut seek = async |block| stream.seek(io::SeekFrom::Start(block * BLOCK)).await;
    match todo {
        Todo::Write { block, count } => {
            seek(block).await?;
            stream.write_all(&data(block, count, id)).await?;
        }
        Todo::WriteSame { block } => {
            seek(block).await?;
            stream.write_all(&data(block, 1, id)).await?;
        }
        Todo::WriteZeroes { block, count } | Todo::Discard { block, count } => {
            seek(block).await?;
            stream.write_all(&vec![0; (count * BLOCK) as usize]).await?;
        }
        // A stream cannot do this.
        Todo::Compare { .. } => {}
        Todo::Read { block, count } => {
            seek(block).await?;
            let mut found = vec![0; (count * BLOCK) as usize];
            stream.read_exact(&mut found).await?;
            return Ok(Some((block, found)));
        }
        Todo::Flush => stream.flush().await?,
    }
    Ok(None)
}

/// Reports the failure: an error of this library, or that of std at the end of an image that has
/// shrunk.
fn end(work: &Work<'_>, id: u64, error: io::Error) {
    let ends = matches!(error.kind(), io::ErrorKind::WriteZero | io::ErrorKind::UnexpectedEof);
    match error.downcast::<rbd::Error>() {
        Ok(error) => work.end(id, &Err(error)),
        Err(error) => {
            let (spec, kind) = (work.spec, if ends { "OutOfRange" } else { "Other" });
            work.journal.fail_by(id, kind, format!("{}/{}: {error}", spec.pool, spec.image));
        }
    }
}
