//! Single calls of the OSDs' class `rbd`, each one round trip. librbd opens the image for the same,
//! with over ten round trips, and for a change acquires the exclusive lock.

use rbd::IoCtx;
use tonic::Status;

use crate::status::OrStatus;

/// The states of an image in the trash that matter here.
const NORMAL: u8 = 0;
const MOVING: u8 = 1;

fn text(text: &str) -> Vec<u8> {
    // No name, id or value is that long.
    let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes()[..], text.as_bytes()].concat()
}

fn read_text(answer: &[u8]) -> Option<String> {
    let (len, text) = answer.split_first_chunk::<4>()?;
    let text = text.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

/// Returns the id of the image of this name; `None` if there is none.
pub(crate) fn id(pool: &IoCtx, name: &str) -> Result<Option<String>, Status> {
    match pool.objects().execute("rbd_directory", "rbd", "dir_get_id", &text(name)) {
        Err(error) if error.is_not_found() => Ok(None),
        answer => read_text(&answer.or_status()?)
            .map(Some)
            .ok_or_else(|| Status::internal(format!("the OSD's answer about image '{name}' is no id"))),
    }
}

/// Sets a key in the metadata of an image.
pub(crate) fn set_metadata(pool: &IoCtx, id: &str, key: &str, value: &str) -> rbd::Result<()> {
    let pairs = [&1_u32.to_le_bytes()[..], &text(key), &text(value)].concat();
    pool.objects().execute(&format!("rbd_header.{id}"), "rbd", "metadata_set", &pairs).map(drop)
}

/// Removes a key from the metadata of an image, if it is there.
pub(crate) fn remove_metadata(pool: &IoCtx, id: &str, key: &str) -> rbd::Result<()> {
    match pool.objects().execute(&format!("rbd_header.{id}"), "rbd", "metadata_remove", &text(key)) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed.map(drop),
    }
}

/// Ends a move to the trash that was interrupted when the image was in the trash already. librbd
/// removes no image whose move has not ended.
pub(crate) fn end_move_to_trash(pool: &IoCtx, id: &str) {
    let input = [&text(id)[..], &[NORMAL, MOVING]].concat();
    // Fails if the move has ended.
    let ended = pool.objects().execute("rbd_trash", "rbd", "trash_state_set", &input);
    tracing::debug!(image = id, ended = ended.is_ok(), "end of the move to the trash");
}
