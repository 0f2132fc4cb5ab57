//! The kinds of requests to an image.

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Discard,
    WriteZeroes,
    WriteZeroesThick,
    WriteSame,
    CompareAndWrite,
    Flush,
}

impl Kind {
    /// Returns the name in errors and events.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Discard => "discard",
            Kind::WriteZeroes | Kind::WriteZeroesThick => "write zeroes to",
            Kind::WriteSame => "write a pattern to",
            Kind::CompareAndWrite => "compare and write",
            Kind::Flush => "flush",
        }
    }

    /// Returns whether data is transferred, whose length librbd limits. The other kinds are split
    /// if they are longer.
    pub(crate) fn moves_data(self) -> bool {
        !matches!(self, Kind::Discard | Kind::WriteZeroes | Kind::WriteZeroesThick | Kind::Flush)
    }

    /// Returns whether the request changes data.
    pub(crate) fn changes_data(self) -> bool {
        !matches!(self, Kind::Read | Kind::Flush)
    }
}
