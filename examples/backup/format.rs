//! The files of `rbd export-diff`, version 1: a header, then records, all numbers in little endian.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

const MAGIC: &[u8] = b"rbd diff v1\n";
/// How much is written or compared at once: a part of an object. Buffers of this size are used
/// again, while a new one of a whole object costs as much as the copy into it.
const CHUNK: u64 = 1 << 20;
/// How much is read at once.
const PIECE: u64 = 2 << 20;

/// The header of a file.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// The snapshot from which it starts; `None` in a full one.
    pub(crate) from: Option<String>,
    /// The snapshot at which it ends.
    pub(crate) to: String,
    /// The size of the image at that snapshot, in bytes.
    pub(crate) size: u64,
}

/// The content of a range of the image.
#[derive(Debug)]
pub(crate) enum Record {
    Data { offset: u64, data: Bytes },
    Zeros { offset: u64, len: usize },
}

impl Record {
    pub(crate) fn offset(&self) -> u64 {
        match self {
            Record::Data { offset, .. } | Record::Zeros { offset, .. } => *offset,
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Record::Data { data, .. } => data.len(),
            Record::Zeros { len, .. } => *len,
        }
    }

    /// Returns whether the bytes are equal to the record.
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        match self {
            Record::Data { data, .. } => data == bytes,
            Record::Zeros { len, .. } => bytes.len() == *len && bytes.iter().all(|byte| *byte == 0),
        }
    }
}

/// Divides a range into pieces that can be read at once: offset and length.
pub(crate) fn pieces(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    (offset..end).step_by(PIECE as usize).map(move |at| (at, PIECE.min(end - at)))
}

/// Returns the parts of the data that are not zero, in steps of 64 KiB.
pub(crate) fn filled(data: &[u8]) -> impl Iterator<Item = Range<usize>> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let mut blocks = data.chunks(ZEROS.len()).map(|block| (block != &ZEROS[..block.len()], block.len()));
    let mut start = 0;
    std::iter::from_fn(move || {
        let (_, first) = blocks.by_ref().find(|(filled, len)| {
            start += if *filled { 0 } else { *len };
            *filled
        })?;
        let mut end = start + first;
        let mut gap = 0;
        for (filled, len) in blocks.by_ref() {
            if !filled {
                gap = len;
                break;
            }
            end += len;
        }
        let part = start..end;
        start = end + gap;
        Some(part)
    })
}

/// Writes a file.
pub(crate) struct Writer<W: Write>(BufWriter<W>);

impl<W: Write> Writer<W> {
    pub(crate) fn new(file: W, header: &Header) -> io::Result<Writer<W>> {
        let mut file = BufWriter::new(file);
        file.write_all(MAGIC)?;
        for (tag, name) in [(b"f", header.from.as_ref()), (b"t", Some(&header.to))] {
            if let Some(name) = name {
                file.write_all(tag)?;
                file.write_all(&(name.len() as u32).to_le_bytes())?;
                file.write_all(name.as_bytes())?;
            }
        }
        file.write_all(b"s")?;
        file.write_all(&header.size.to_le_bytes())?;
        Ok(Writer(file))
    }

    pub(crate) fn put_data(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.put(b"w", offset, data.len() as u64)?;
        self.0.write_all(data)
    }

    pub(crate) fn put_zeros(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.put(b"z", offset, len)
    }

    fn put(&mut self, tag: &[u8], offset: u64, len: u64) -> io::Result<()> {
        self.0.write_all(tag)?;
        self.0.write_all(&offset.to_le_bytes())?;
        self.0.write_all(&len.to_le_bytes())
    }

    /// Writes the mark that shows that a file is complete.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.0.write_all(b"e")?;
        self.0.flush()
    }
}

/// Reads a file: an iterator over its records. Long ones are divided into pieces.
pub(crate) struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    header: Header,
    /// The rest of a long record: its tag, offset and length.
    rest: (u8, u64, u64),
}

impl Reader {
    pub(crate) fn open(path: &Path) -> io::Result<Reader> {
        let mut reader = Reader {
            path: path.to_owned(),
            file: BufReader::new(File::open(path).map_err(|error| named(path, &error))?),
            header: Header { from: None, to: String::new(), size: 0 },
            rest: (b'z', 0, 0),
        };
        reader.read_header().map_err(|error| named(path, &error))?;
        Ok(reader)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    fn read_header(&mut self) -> io::Result<()> {
        if self.take::<12>()? != MAGIC {
            return Err(damaged("this is no file of `rbd export-diff`, version 1"));
        }
        while let Some(tag @ (b'f' | b't' | b's')) = self.file.fill_buf()?.first().copied() {
            self.file.consume(1);
            match tag {
                b'f' => self.header.from = Some(self.name()?),
                b't' => self.header.to = self.name()?,
                _ => self.header.size = self.number()?,
            }
        }
        if self.header.to.is_empty() { Err(damaged("it does not lead to a snapshot")) } else { Ok(()) }
    }

    fn record(&mut self) -> io::Result<Option<Record>> {
        while self.rest.2 == 0 {
            self.rest = match self.take::<1>()?[0] {
                b'e' => return Ok(None),
                tag @ (b'w' | b'z') => (tag, self.number()?, self.number()?),
                tag => return Err(damaged(&format!("a record of the unknown kind {tag}"))),
            };
        }
        let (tag, offset, len) = self.rest;
        let now = len.min(CHUNK);
        let next = offset.checked_add(now).ok_or_else(|| damaged("a record behind all ends"))?;
        self.rest = (tag, next, len - now);
        if tag == b'z' {
            return Ok(Some(Record::Zeros { offset, len: now as usize }));
        }
        let mut data = vec![0; now as usize];
        self.file.read_exact(&mut data)?;
        Ok(Some(Record::Data { offset, data: data.into() }))
    }

    fn name(&mut self) -> io::Result<String> {
        let len = u32::from_le_bytes(self.take()?);
        let mut name = String::new();
        self.file.by_ref().take(len.into()).read_to_string(&mut name)?;
        Ok(name)
    }

    fn number(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Iterator for Reader {
    type Item = io::Result<Record>;

    fn next(&mut self) -> Option<io::Result<Record>> {
        self.record().map_err(|error| named(&self.path, &error)).transpose()
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Adds the file's name. A file that ends early was never completed.
fn named(path: &Path, error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(&format!("{}: the file ends too early", path.display())),
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    }
}
