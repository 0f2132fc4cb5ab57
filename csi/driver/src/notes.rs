//! Notes about a volume, in the metadata of its image.
//!
//! A clone and a copy get the metadata of their source. So each note begins with the id of its
//! image, and a note of another image counts as missing.

use rbd::{Image, IoCtx, Result};

use crate::calls;

/// The kind of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// The name of the request for the volume. It is written last and marks the image as complete.
    Name,
    /// What the volume started with.
    Source,
    /// The address of this driver's client that flattens the image. It does not count as a user.
    Flattening,
    /// The node that staged the volume last.
    Node,
    /// The file system is being made. Nobody has used the volume yet.
    Formatting,
    /// The file system was made. Then `Formatting` means nothing any more: a node that lost its
    /// connection may write it late.
    Formatted,
    /// The volume was deleted; the image waits in the trash for its clones.
    Deleted,
}

impl Note {
    fn key(self) -> &'static str {
        match self {
            Note::Name => "csi.name",
            Note::Source => "csi.source",
            Note::Flattening => "csi.flattening",
            Note::Node => "csi.node",
            Note::Formatting => "csi.formatting",
            Note::Formatted => "csi.formatted",
            Note::Deleted => "csi.deleted",
        }
    }

    /// Reads the note; `None` if this image has none.
    pub(crate) fn get(self, image: &Image) -> Result<Option<String>> {
        let value = match image.metadata().get(self.key()) {
            Err(error) if error.is_not_found() => return Ok(None),
            value => value?,
        };
        Ok(value.strip_prefix(&image.id()?).and_then(|value| value.strip_prefix(' ')).map(str::to_owned))
    }

    /// Writes the note.
    pub(crate) fn set(self, image: &Image, value: &str) -> Result<()> {
        image.metadata().set(self.key(), &format!("{} {value}", image.id()?))
    }

    /// Removes the note, if there is one, in one round trip and without the exclusive lock.
    pub(crate) fn remove_unopened(self, pool: &IoCtx, id: &str) -> Result<()> {
        calls::remove_metadata(pool, id, self.key())
    }

    /// Writes the note in one round trip, and without the exclusive lock.
    pub(crate) fn set_unopened(self, pool: &IoCtx, id: &str, value: &str) -> Result<()> {
        calls::set_metadata(pool, id, self.key(), &format!("{id} {value}"))
    }

    /// Removes the note, if there is one.
    pub(crate) fn remove(self, image: &Image) -> Result<()> {
        match image.metadata().remove(self.key()) {
            Err(error) if error.is_not_found() => Ok(()),
            removed => removed,
        }
    }
}
