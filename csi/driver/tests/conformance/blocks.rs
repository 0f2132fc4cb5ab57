//! The blocks that a snapshot holds, and those that changed between two snapshots.

use rbd_csi::proto::csi::{BlockMetadata, GetMetadataAllocatedRequest, GetMetadataDeltaRequest};
use tonic::{Code, Status};

use super::driver::{Driver, MIB, secrets};

/// All blocks, as ranges of MiB, and how many parts they came in.
async fn allocated(
    driver: &Driver,
    snapshot: &str,
    starting_offset: i64,
    max_results: i32,
) -> Result<(Vec<(i64, i64)>, usize), Status> {
    let request = GetMetadataAllocatedRequest {
        snapshot_id: snapshot.into(),
        starting_offset,
        max_results,
        secrets: secrets(),
    };
    let mut stream = driver.blocks.clone().get_metadata_allocated(request).await?.into_inner();
    let (mut all, mut parts) = (Vec::new(), 0);
    while let Some(part) = stream.message().await? {
        assert_eq!(part.volume_capacity_bytes, 16 * MIB);
        assert!(max_results == 0 || part.block_metadata.len() <= max_results as usize);
        all.extend(part.block_metadata);
        parts += 1;
    }
    Ok((ranges(&all), parts))
}

async fn delta(driver: &Driver, base: &str, target: &str) -> Result<Vec<(i64, i64)>, Status> {
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: base.into(),
        target_snapshot_id: target.into(),
        starting_offset: 0,
        max_results: 0,
        secrets: secrets(),
    };
    let mut stream = driver.blocks.clone().get_metadata_delta(request).await?.into_inner();
    let mut all = Vec::new();
    while let Some(part) = stream.message().await? {
        all.extend(part.block_metadata);
    }
    Ok(ranges(&all))
}

fn ranges(blocks: &[BlockMetadata]) -> Vec<(i64, i64)> {
    blocks.iter().map(|block| (block.byte_offset / MIB, block.size_bytes / MIB)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_snapshots_are_told() {
    let driver = Driver::start().await;
    let volume = driver.volume("a").await;
    let image = driver.pool.open("csi-vol-a").run().unwrap();
    let mib = vec![1; MIB as usize];
    image.write_all_at(&mib, 0).unwrap();
    image.write_all_at(&mib, 8 << 20).unwrap();
    image.flush().unwrap();
    let first = driver.snapshot("first", &volume.volume_id).await.unwrap().snapshot_id;
    image.write_all_at(&mib, 4 << 20).unwrap();
    image.discard(8 << 20, 4 << 20).unwrap();
    image.flush().unwrap();
    let second = driver.snapshot("second", &volume.volume_id).await.unwrap().snapshot_id;
    image.close().unwrap();

    assert_eq!(allocated(&driver, &first, 0, 0).await.unwrap(), (vec![(0, 1), (8, 1)], 1));
    assert_eq!(allocated(&driver, &first, 0, 1).await.unwrap().0, [(0, 1), (8, 1)]);
    assert_eq!(allocated(&driver, &first, 0, 1).await.unwrap().1, 2);
    assert_eq!(allocated(&driver, &first, 4 * MIB, 0).await.unwrap().0, [(8, 1)]);
    assert_eq!(allocated(&driver, &second, 0, 0).await.unwrap().0, [(0, 1), (4, 1)]);
    // What became a hole has changed, too.
    assert_eq!(delta(&driver, &first, &second).await.unwrap(), [(4, 1), (8, 1)]);
    assert_eq!(delta(&driver, &first, &first).await.unwrap(), []);

    let code = |result: Result<_, Status>| result.map(drop).unwrap_err().code();
    assert_eq!(code(allocated(&driver, &first, 16 * MIB, 0).await.map(drop)), Code::OutOfRange);
    assert_eq!(code(allocated(&driver, &first, -1, 0).await.map(drop)), Code::InvalidArgument);
    assert_eq!(code(allocated(&driver, "", 0, 0).await.map(drop)), Code::InvalidArgument);
    assert_eq!(code(allocated(&driver, "x", 0, 0).await.map(drop)), Code::NotFound);
    let other = driver.volume("b").await;
    let theirs = driver.snapshot("theirs", &other.volume_id).await.unwrap().snapshot_id;
    assert_eq!(code(delta(&driver, &first, &theirs).await.map(drop)), Code::InvalidArgument);
    driver.delete_snapshot(&first).await.unwrap();
    assert_eq!(code(delta(&driver, &first, &second).await.map(drop)), Code::NotFound);
}
