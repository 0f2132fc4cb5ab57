//! The journal from a client to the oracle: one line before each operation, and one after it.
//!
//! A line is one `write` to a pipe, short enough to be atomic. So the oracle also reads all lines
//! of a killed client.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a block, the unit of the oracle. Encryption works on blocks of this size.
pub(crate) const BLOCK: u64 = 4096;

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    /// Any operation that makes zeros.
    Zero,
    Read,
    Flush,
    Open,
    Close,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Write, "write"),
    (Kind::Zero, "zero"),
    (Kind::Read, "read"),
    (Kind::Flush, "flush"),
    (Kind::Open, "open"),
    (Kind::Close, "close"),
];

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Begin {
        id: u64,
        kind: Kind,
        block: u64,
        count: u64,
    },
    Done {
        id: u64,
    },
    /// The content of each block that a read returned.
    Found {
        id: u64,
        contents: Vec<Content>,
    },
    Failed {
        id: u64,
        error: String,
        text: String,
    },
}

/// The content of a block: zeros (0), the id of the write, or data that no write made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Of(u64),
    /// The id and the number at its start, and where they end.
    Mixed(u64, u64, usize),
}

impl Content {
    /// Fills a block with its number and the id of the write, repeated.
    pub(crate) fn fill(block: u64, id: u64, into: &mut [u8]) {
        let unit = [id.to_le_bytes(), (block ^ id).to_le_bytes()].concat();
        for piece in into.chunks_exact_mut(unit.len()) {
            piece.copy_from_slice(&unit);
        }
    }

    pub(crate) fn of(block: u64, data: &[u8]) -> Content {
        let id = u64::from_le_bytes(data[..8].try_into().unwrap_or_default());
        let mut wanted = vec![0; data.len()];
        if id != 0 {
            Content::fill(block, id, &mut wanted);
        }
        if wanted == data {
            return Content::Of(id);
        }
        let number = u64::from_le_bytes(data[8..16].try_into().unwrap_or_default());
        let end = data.chunks_exact(16).take_while(|unit| *unit == &data[..16]).count() * 16;
        Content::Mixed(id, number ^ id, end)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Begin { id, kind, block, count } => {
                let name = KINDS.iter().find(|(other, _)| other == kind).map_or("", |(_, name)| name);
                write!(f, "B {id} {name} {block} {count}")
            }
            Line::Done { id } => write!(f, "D {id}"),
            Line::Found { id, contents } => {
                write!(f, "R {id}")?;
                contents.iter().try_for_each(|content| match content {
                    Content::Of(id) => write!(f, " {id}"),
                    Content::Mixed(id, number, end) => write!(f, " x{id}:{number}:{end}"),
                })
            }
            Line::Failed { id, error, text } => {
                let text: String = text.chars().take(600).map(|c| if c == '\n' { ' ' } else { c }).collect();
                write!(f, "F {id} {error} {text}")
            }
        }
    }
}

impl Line {
    pub(crate) fn parse(line: &str) -> Option<Line> {
        let mut words = line.split(' ');
        let tag = words.next()?;
        let id = words.next()?.parse().ok()?;
        Some(match tag {
            "B" => {
                let name = words.next()?;
                let (kind, _) = KINDS.iter().find(|(_, other)| *other == name)?;
                let (block, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                Line::Begin { id, kind: *kind, block, count }
            }
            "D" => Line::Done { id },
            "R" => {
                let contents = words.map(content).collect();
                Line::Found { id, contents }
            }
            "F" => {
                let error = words.next()?.to_owned();
                Line::Failed { id, error, text: words.collect::<Vec<_>>().join(" ") }
            }
            _ => return None,
        })
    }
}

fn content(word: &str) -> Content {
    let Some(mixed) = word.strip_prefix('x') else { return Content::Of(word.parse().unwrap_or(0)) };
    let mut numbers = mixed.split(':').map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    Content::Mixed(next(), next(), next() as usize)
}

/// The client's end of the journal: its standard output.
pub(crate) struct Journal {
    out: File,
    next: AtomicU64,
}

impl Journal {
    /// `first` is the id of the first operation. It is greater than those of all earlier clients.
    pub(crate) fn new(first: u64) -> Journal {
        // A second descriptor, without the buffer of std.
        let out = std::io::stdout().as_fd().try_clone_to_owned().expect("standard output is open");
        Journal { out: File::from(out), next: AtomicU64::new(first) }
    }

    pub(crate) fn begin(&self, kind: Kind, block: u64, count: u64) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.say(&Line::Begin { id, kind, block, count });
        id
    }

    pub(crate) fn end(&self, id: u64, result: &rbd::Result<()>) {
        match result {
            Ok(()) => self.say(&Line::Done { id }),
            Err(error) => self.fail(id, error),
        }
    }

    pub(crate) fn found(&self, id: u64, block: u64, data: &[u8]) {
        let blocks = (block..).zip(data.chunks(BLOCK as usize));
        let contents = blocks.map(|(block, data)| Content::of(block, data)).collect();
        self.say(&Line::Found { id, contents });
    }

    pub(crate) fn fail(&self, id: u64, error: &rbd::Error) {
        let kind = format!("{:?}", error.kind());
        let name: String = kind.chars().take_while(|c| c.is_alphanumeric()).collect();
        self.say(&Line::Failed { id, error: name, text: error.to_string() });
    }

    /// Reports an error that is not from this library.
    pub(crate) fn fail_by(&self, id: u64, error: &str, text: String) {
        self.say(&Line::Failed { id, error: error.to_owned(), text });
    }

    fn say(&self, line: &Line) {
        // Without the oracle, the client has no purpose.
        if (&self.out).write_all(format!("{line}\n").as_bytes()).is_err() {
            std::process::exit(1);
        }
    }
}
