//! A small backup tool: a full copy of an image, copies of later changes, and a new image restored
//! from them.
//!
//!     cargo run --example backup -- save foo monday.diff --snap monday
//!     cargo run --example backup -- save foo tuesday.diff --snap tuesday --since monday
//!     cargo run --example backup -- restore bar monday.diff tuesday.diff
//!
//! It reads only allocated or changed data, with several reads in flight. The files have the format
//! of `rbd export-diff`: `rbd import-diff` and `rbd merge-diff` read them, and `restore` reads
//! theirs.
//!
//! If a signal kills it, it cannot clean up: a save leaves its snapshot and a file `.tmp…` in the
//! directory of the new file, a restore leaves the incomplete image. A restore from an incomplete
//! or damaged file leaves the incomplete image, too. Remove them before the next attempt.
//!
//! The format contains no id of the image. So a restore checks only the names of the snapshots:
//! it takes files of two different images that have the same names.

#[path = "../common/mod.rs"]
mod common;
mod format;
mod ordered;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::{ClusterFlags, Failure, ImageFlags, failed};
use format::{Header, Reader, Record, Writer};
use ordered::Piece;
use rbd::{Errno, Image, aio::Op};

/// How many reads or writes of a restore are in flight, each with up to 1 MiB.
const DEPTH: usize = 16;

/// Save an image to files, and restore it from them.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    image: ImageFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create a snapshot of an image and save it, completely or the changes since an earlier one.
    Save {
        /// image specification: [<pool-name>/[<namespace>/]]<image-name>
        image_spec: String,
        /// the new file
        file: PathBuf,
        /// name of the new snapshot; keep it for the next --since
        #[arg(long)]
        snap: String,
        /// the snapshot of an earlier save: save only later changes
        #[arg(long)]
        since: Option<String>,
    },
    /// Create an image from a full save and the later ones, in this order, and compare it with
    /// them.
    Restore {
        /// specification of the new image: [<pool-name>/[<namespace>/]]<image-name>
        image_spec: String,
        /// the files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: &Args) -> Result<(), Failure> {
    let (Command::Save { image_spec, .. } | Command::Restore { image_spec, .. }) = &args.command;
    let spec = args.image.spec(Some(image_spec))?;
    let cluster = args.cluster.connect()?;
    let pool = cluster.open(&spec.place)?;
    let open =
        || pool.open(&spec.image).run().map_err(failed(format_args!("error opening image {}", spec.image)));
    match &args.command {
        Command::Save { file, snap, since, .. } => {
            if file.as_os_str() == "-" {
                let why = "a save is no stream: name a file";
                return Err(Failure::errno(Errno::EINVAL.code(), "save error").because(why));
            }
            if file.try_exists().unwrap_or(false) {
                let why = format!("{} is there already: name a new file", file.display());
                return Err(Failure::errno(Errno::EEXIST.code(), "save error").because(why));
            }
            let image = open()?;
            image.snapshots().create(snap).run().map_err(failed("failed to create snapshot"))?;
            save(&image, snap, since.as_deref(), file).map_err(|error| {
                // The snapshot is no base for a later save.
                let failure = io_failed("save error", &error);
                match image.snapshots().remove(snap).run() {
                    Ok(()) => failure,
                    Err(left) => failure.because(format_args!("the snapshot is left, too: {left}")),
                }
            })
        }
        Command::Restore { files, .. } => {
            let size = check_chain(files).map_err(|error| io_failed("restore error", &error))?;
            pool.create(&spec.image, size).run().map_err(failed("create error"))?;
            let image = open()?;
            files.iter().try_for_each(|file| restore(&image, file)).map_err(|error| {
                io_failed("restore error", &error).because("the new image is not complete: remove it")
            })
        }
    }
}

/// Reports an error of a file or of the image; `?` turns both into [`io::Error`]s. An error with a
/// custom message has only a kind.
fn io_failed(what: &str, error: &io::Error) -> Failure {
    let errno = Errno::from_io_error(error).unwrap_or(match error.kind() {
        io::ErrorKind::NotFound => Errno::ENOENT,
        io::ErrorKind::PermissionDenied => Errno::EACCES,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Errno::EINVAL
        }
        _ => Errno::EIO,
    });
    Failure::errno(errno.code(), what).because(error)
}

/// Writes the content of a snapshot, or its differences from an earlier one, to a new file. The
/// file appears only when it is complete.
fn save(image: &Image, snapshot: &str, since: Option<&str>, path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let id = image.snapshots().id(snapshot)?;
    let then = image.at_snapshot(id)?;
    let header = Header { from: since.map(str::to_owned), to: snapshot.to_owned(), size: then.size()? };
    let mut writer = Writer::new(file.as_file(), &header)?;

    let mut diff = then.diff();
    match since {
        Some(since) => diff = diff.from_snapshot(since),
        // The object map knows which objects exist, so that no OSD is asked about holes.
        None => diff = diff.whole_objects(true),
    }
    // The list is read in parts: neither the list nor the data is in memory completely.
    let pieces = diff.extents()?.flat_map(|extent| match extent {
        Ok(extent) => format::pieces(extent.offset, extent.len)
            .map(|(offset, len)| Ok(Piece { offset, len, exists: extent.exists }))
            .collect(),
        Err(error) => vec![Err(error.into())],
    });
    ordered::read(&then, pieces, |Piece { offset, len, exists }, data| match (exists, since) {
        (true, None) => {
            format::filled(data).try_for_each(|part| writer.put_data(offset + part.start as u64, &data[part]))
        }
        (true, Some(_)) => writer.put_data(offset, data),
        (false, _) => writer.put_zeros(offset, len),
    })?;

    writer.end()?;
    file.as_file().sync_all()?;
    then.close()?;
    // The handle at the snapshot does not notice a removal, and reads zeros from then on. The other
    // handle notices it.
    if image.snapshots().id(snapshot)? != id {
        return Err(io::Error::other(format!("snapshot '{snapshot}' was replaced while it was read")));
    }
    file.persist_noclobber(path)?;
    Ok(())
}

/// Applies a file to an image, creates its snapshot, and reads the snapshot to compare it with the
/// file.
fn restore(image: &Image, path: &Path) -> io::Result<()> {
    let reader = Reader::open(path)?;
    let Header { to, size, .. } = reader.header().clone();
    image.resize(size).allow_shrink(true).run()?;
    let write = |record: &Record| match record {
        Record::Data { offset, data } => image.aio().write(*offset, data.clone()),
        Record::Zeros { offset, len } => image.aio().write_zeroes(*offset, *len as u64),
    };
    in_flight(reader, write, |_, ()| Ok(()))?;
    image.flush()?;
    image.snapshots().create(&to).run()?;

    let image = image.at_snapshot(&to)?;
    let read = |record: &Record| image.aio().read(record.offset(), record.len());
    in_flight(Reader::open(path)?, read, |record, found| {
        if record.is(&found) {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "other data than in {} from offset {}",
            path.display(),
            record.offset()
        )))
    })
}

/// Submits an operation for each request, keeps up to `DEPTH` of them in flight, and passes the
/// results on in the order of the requests. Returns at the first error. Operations in flight then
/// continue, and closing the image waits for them.
fn in_flight<R, T: 'static>(
    requests: impl IntoIterator<Item = io::Result<R>>,
    submit: impl Fn(&R) -> Op<T>,
    mut ended: impl FnMut(R, T) -> io::Result<()>,
) -> io::Result<()> {
    let mut flight: VecDeque<(R, Op<T>)> = VecDeque::with_capacity(DEPTH);
    for request in requests {
        let request = request?;
        if flight.len() == DEPTH {
            if let Some((request, op)) = flight.pop_front() {
                ended(request, op.wait()?)?;
            }
        }
        let op = submit(&request);
        flight.push_back((request, op));
    }
    flight.into_iter().try_for_each(|(request, op)| ended(request, op.wait()?))
}

/// Checks that each file begins where the previous one ends. Returns the initial size.
fn check_chain(files: &[PathBuf]) -> io::Result<u64> {
    let mut now = None;
    let mut size = None;
    for path in files {
        let reader = Reader::open(path)?;
        let header = reader.header();
        if header.from != now {
            let name = |snapshot: &Option<String>| {
                snapshot.as_ref().map_or("an empty image".to_owned(), |name| format!("snapshot '{name}'"))
            };
            let why =
                format!("{} starts from {}, not from {}", path.display(), name(&header.from), name(&now));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        now = Some(header.to.clone());
        size.get_or_insert(header.size);
    }
    Ok(size.unwrap_or_default())
}
