//! Single calls of the OSDs' class `rbd`, each one round trip. librbd would open the image, which
//! takes more than ten round trips, and acquire the exclusive lock for a change.

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

/// Returns the id that the object of this name holds; `None` if there is none. An image can be
/// opened by its name as long as this object is there.
fn id_object(pool: &IoCtx, name: &str) -> Result<Option<String>, Status> {
    match pool.objects().execute(&format!("rbd_id.{name}"), "rbd", "get_id", &[]) {
        Err(error) if error.is_not_found() => Ok(None),
        answer => Ok(read_text(&answer.or_status()?)),
    }
}

/// Returns whether an object of an image exists.
pub(crate) fn has_object(pool: &IoCtx, kind: &str, id: &str) -> Result<bool, Status> {
    match pool.objects().stat(&format!("{kind}.{id}")) {
        Err(error) if error.is_not_found() => Ok(false),
        found => found.or_status().map(|_| true),
    }
}

/// Returns whether the header of an image exists. A note that came late can have made the object
/// anew, without the image's size.
pub(crate) fn has_header(pool: &IoCtx, id: &str) -> Result<bool, Status> {
    match pool.objects().omap(&format!("rbd_header.{id}")) {
        Err(error) if error.is_not_found() => Ok(false),
        header => Ok(header.or_status()?.contains_key(&b"size"[..])),
    }
}

/// Removes a name if it belongs to this image: first the object by which the image is opened, then
/// the entry in the directory. Until the entry is gone, no other image can get the name.
pub(crate) fn forget_name(pool: &IoCtx, name: &str, id: &str) -> Result<(), Status> {
    remove_id_object(pool, name, id)?;
    if self::id(pool, name)?.as_deref() == Some(id) {
        let input = [text(name), text(id)].concat();
        gone(pool.objects().execute("rbd_directory", "rbd", "dir_remove_image", &input))?;
    }
    Ok(())
}

/// Completes a renaming that was interrupted while both names opened the image.
pub(crate) fn end_rename(pool: &IoCtx, from: &str, to: &str, id: &str) -> Result<(), Status> {
    if self::id(pool, from)?.as_deref() == Some(id) {
        let input = [text(from), text(to), text(id)].concat();
        pool.objects().execute("rbd_directory", "rbd", "dir_rename_image", &input).or_status()?;
    }
    remove_id_object(pool, from, id)
}

fn remove_id_object(pool: &IoCtx, name: &str, id: &str) -> Result<(), Status> {
    if id_object(pool, name)?.as_deref() != Some(id) {
        return Ok(());
    }
    gone(pool.objects().remove(&format!("rbd_id.{name}")))
}

/// Turns a missing object into a success of its removal.
fn gone<T>(removed: rbd::Result<T>) -> Result<(), Status> {
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed.map(drop).or_status(),
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

/// Completes a move to the trash that was interrupted after the image had its entry there. librbd
/// removes no image whose move is incomplete.
pub(crate) fn end_move_to_trash(pool: &IoCtx, id: &str) {
    let input = [&text(id)[..], &[NORMAL, MOVING]].concat();
    // Fails if the move is complete.
    let ended = pool.objects().execute("rbd_trash", "rbd", "trash_state_set", &input);
    tracing::debug!(image = id, ended = ended.is_ok(), "end of the move to the trash");
}
