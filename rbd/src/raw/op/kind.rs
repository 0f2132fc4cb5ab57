//! The kinds of requests to an image.

/// What is done to an image.
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
    /// What it is called in errors and events.
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

    /// Whether librbd moves data, whose length is limited. A longer range of the others is split.
    pub(crate) fn moves_data(self) -> bool {
        !matches!(self, Kind::Discard | Kind::WriteZeroes | Kind::WriteZeroesThick | Kind::Flush)
    }

    /// Whether it changes data.
    pub(crate) fn changes_data(self) -> bool {
        !matches!(self, Kind::Read | Kind::Flush)
    }
}
