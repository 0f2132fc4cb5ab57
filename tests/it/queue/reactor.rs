//! A queue in tokio's event loop.

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;

use super::*;

/// Submits as many reads as there is room for, and reaps as the documentation says: after clearing
/// the readiness, until nothing is left.
async fn read_blocks(queue: &mut AsyncFd<Queue>, blocks: u64) -> Vec<u64> {
    let (mut next, mut seen) = (0, Vec::new());
    while (seen.len() as u64) < blocks {
        while next < blocks && queue.get_ref().room() > 0 {
            queue.get_mut().read(next, next * 4096, 4096, BytesMut::new()).unwrap();
            next += 1;
        }
        let mut ready = queue.readable_mut().await.unwrap();
        ready.clear_ready();
        while let Some(end) = ready.get_inner_mut().reap() {
            assert!(data(&end) == [end.token as u8 + 1; 4096], "block {}", end.token);
            end.result.unwrap();
            seen.push(end.token);
        }
    }
    seen
}

#[test]
fn tokio_watches_the_descriptor() {
    const BLOCKS: u64 = 200;
    let space = Space::new();
    space.create("foo", 16 << 20).run().unwrap();
    let image = space.open("foo").run().unwrap();
    let content: Vec<u8> = (0..BLOCKS).flat_map(|block| [block as u8 + 1; 4096]).collect();
    image.write_all_at(&content, 0).unwrap();
    image.close().unwrap();
    within(LIMIT, move || {
        // The reactor runs on this thread, or on another one.
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let image = space.open("foo").run().unwrap();
            let runtime = builder.worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                // Deprecated because of types whose descriptor may change. A queue's never does.
                #[allow(deprecated)]
                let mut queue =
                    AsyncFd::with_interest(Queue::new(image, 8).unwrap(), Interest::READABLE).unwrap();
                // First one completion after the other, then many at once: no wake may be lost.
                for blocks in [1, 1, BLOCKS] {
                    let mut seen = read_blocks(&mut queue, blocks).await;
                    seen.sort_unstable();
                    assert_eq!(seen, (0..blocks).collect::<Vec<_>>());
                }
                queue.into_inner().close().unwrap();
            });
        }
    });
}
