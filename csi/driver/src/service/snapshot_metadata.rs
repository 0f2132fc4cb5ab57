//! The service of the blocks of snapshots.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::controller::snapshot_id;
use super::{ControllerService, answer, bytes, required};
use crate::clusters::Secrets;
use crate::controller::{Block, Blocks};
use crate::proto::csi::snapshot_metadata_server::SnapshotMetadata;
use crate::proto::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};

/// Parts of an answer that wait to be sent.
const PARTS: usize = 4;

type Stream<T> = ReceiverStream<Result<T, Status>>;

fn numbers(from: i64, max: i32) -> Result<(u64, usize), Status> {
    let invalid = |name: &str| Status::invalid_argument(format!("{name} is negative"));
    Ok((
        u64::try_from(from).map_err(|_| invalid("starting_offset"))?,
        usize::try_from(max).map_err(|_| invalid("max_results"))?,
    ))
}

fn blocks(part: Vec<Block>) -> Vec<BlockMetadata> {
    let block =
        |block: Block| BlockMetadata { byte_offset: bytes(block.offset), size_bytes: bytes(block.len) };
    part.into_iter().map(block).collect()
}

impl ControllerService {
    /// Sends the blocks in parts. A failure is the last message.
    fn send<T: Send + 'static>(
        &self,
        asked: Blocks,
        secrets: Secrets,
        message: fn(i64, Vec<BlockMetadata>) -> T,
    ) -> Stream<T> {
        let (sender, receiver) = mpsc::channel(PARTS);
        let controller = self.controller.clone();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _span = span.enter();
            let given = controller.blocks(&asked, &secrets, |size, part| {
                sender.blocking_send(Ok(message(bytes(size), blocks(part)))).is_ok()
            });
            if let Err(status) = given {
                tracing::warn!(code = ?status.code(), reason = status.message(), "failed");
                let _ = sender.blocking_send(Err(status));
            }
        });
        ReceiverStream::new(receiver)
    }
}

#[async_trait]
impl SnapshotMetadata for ControllerService {
    type GetMetadataAllocatedStream = Stream<GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Stream<GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "GetMetadataAllocated", &request.snapshot_id.clone(), async move {
            let target = snapshot_id(&request.snapshot_id)?;
            let (from, max) = numbers(request.starting_offset, request.max_results)?;
            let asked = Blocks { target, base: None, from, max };
            Ok(self.send(asked, Secrets::new(request.secrets), |size, blocks| GetMetadataAllocatedResponse {
                block_metadata_type: BlockMetadataType::VariableLength.into(),
                volume_capacity_bytes: size,
                block_metadata: blocks,
            }))
        })
        .await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let request = request.into_inner();
        answer(&self.identity, "GetMetadataDelta", &request.target_snapshot_id.clone(), async move {
            required("base_snapshot_id", &request.base_snapshot_id)?;
            required("target_snapshot_id", &request.target_snapshot_id)?;
            let base = Some(snapshot_id(&request.base_snapshot_id)?);
            let target = snapshot_id(&request.target_snapshot_id)?;
            let (from, max) = numbers(request.starting_offset, request.max_results)?;
            let asked = Blocks { target, base, from, max };
            Ok(self.send(asked, Secrets::new(request.secrets), |size, blocks| GetMetadataDeltaResponse {
                block_metadata_type: BlockMetadataType::VariableLength.into(),
                volume_capacity_bytes: size,
                block_metadata: blocks,
            }))
        })
        .await
    }
}
