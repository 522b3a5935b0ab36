//! `qio nbd copy`.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use clap::Args;
use qio_nbd::NbdUri;
use qio_nbd::buffer::AlignedBuf;
use qio_nbd::client::AsyncClient;
use qio_nbd::export::{Durability, Export, FileExport, OpenOptions, ZeroMode};
use qio_nbd::wire::TransmissionFlags;
use tokio::task::{JoinSet, spawn_blocking};

use super::client::ClientOptions;
use super::progress::{Progress, Show};

/// Bytes of one request, unless an export wants less.
const REQUEST: u32 = 256 << 10;

/// Zeroes are left out, or sent as a request to zero, in pieces of this many bytes.
const SPARSE: usize = 4096;

/// Copy a disk from and to exports and files.
///
/// A destination file is made anew, with the source's size; zeroes take no space in it. A block device or an
/// export as the destination must be large enough. The copy is on stable storage when the command succeeds.
#[derive(Debug, Args)]
pub(super) struct CopyCommand {
    /// An NBD URI, a raw file or a block device.
    source: End,
    /// An NBD URI, a raw file, a block device, or null: to throw everything away.
    destination: End,
    /// How many requests are kept in flight.
    #[arg(short = 'R', long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    requests: u16,
    /// Show progress even if standard error is no terminal.
    #[arg(short, long)]
    progress: bool,
    #[command(flatten)]
    client: ClientOptions,
}

/// Where data comes from or goes to, as the user says it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Uri(Box<NbdUri>),
    File(PathBuf),
    Null,
}

impl FromStr for End {
    type Err = qio_nbd::UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let scheme = text
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("null") if text.len() == "null:".len() => Ok(End::Null),
            Some("nbd" | "nbds") => text.parse().map(|uri| End::Uri(Box::new(uri))),
            Some(scheme) if scheme.starts_with("nbd+") || scheme.starts_with("nbds+") => {
                text.parse().map(|uri| End::Uri(Box::new(uri)))
            }
            _ => Ok(End::File(PathBuf::from(text))),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Uri(uri) => uri.fmt(f),
            End::File(path) => path.display().fmt(f),
            End::Null => f.write_str("null:"),
        }
    }
}

pub(super) async fn run(command: CopyCommand) -> anyhow::Result<()> {
    let CopyCommand {
        source: from,
        destination: to,
        requests,
        progress,
        client,
    } = command;
    let source = Source::open(&from, &client).await?;
    let size = source.size();
    let destination = Destination::open(&to, &from, size, &client).await?;

    let show = if progress { Show::Always } else { Show::Auto };
    let step = source.max_request().min(destination.max_request()).min(REQUEST);
    let copy = Arc::new(Copy {
        source,
        destination,
        size,
        step: u64::from(step.max(1)),
        next: AtomicU64::new(0),
        progress: Progress::new(size, show),
    });
    let mut workers = JoinSet::new();
    for _ in 0..requests {
        workers.spawn(Arc::clone(&copy).work());
    }
    let mut result = Ok(());
    while let Some(worker) = workers.join_next().await {
        if let Err(error) = worker.context("a copying task failed").and_then(|copied| copied)
            && result.is_ok()
        {
            // The others stop with their next request.
            copy.next.store(u64::MAX, Ordering::Relaxed);
            result = Err(error);
        }
    }
    copy.progress.finish();
    result.with_context(|| format!("copying {from} to {to}"))?;
    let Some(Copy {
        source, destination, ..
    }) = Arc::into_inner(copy)
    else {
        bail!("a copying task is still there");
    };
    destination
        .finish()
        .await
        .with_context(|| format!("finishing {to}"))?;
    source.finish().await.with_context(|| format!("closing {from}"))
}

/// A copy in progress.
struct Copy {
    source: Source,
    destination: Destination,
    size: u64,
    step: u64,
    /// The first byte that no worker has taken on.
    next: AtomicU64,
    progress: Progress,
}

impl Copy {
    /// Copies piece after piece, with one buffer, until nothing is left.
    async fn work(self: Arc<Self>) -> anyhow::Result<()> {
        let mut buffer = AlignedBuf::zeroed(0);
        loop {
            let Some(offset) = take_piece(&self.next, self.size, self.step) else {
                return Ok(());
            };
            let length = self.step.min(self.size.saturating_sub(offset));
            let wanted = usize::try_from(length)?;
            if buffer.len() != wanted {
                buffer = AlignedBuf::zeroed(wanted);
            }
            let place = || format!("{length} bytes at offset {offset}");
            buffer = self
                .source
                .read(offset, buffer)
                .await
                .with_context(|| format!("reading {}", place()))?;
            buffer = self
                .destination
                .write(offset, buffer)
                .await
                .with_context(|| format!("writing {}", place()))?;
            self.progress.add(length);
        }
    }
}

/// The start of the next piece, unless nothing is left.
fn take_piece(next: &AtomicU64, end: u64, step: u64) -> Option<u64> {
    let after = |start: u64| (start < end).then(|| start.saturating_add(step));
    next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after)
        .ok()
}

enum Source {
    Nbd(AsyncClient),
    File(Arc<FileExport>),
}

impl Source {
    async fn open(end: &End, options: &ClientOptions) -> anyhow::Result<Self> {
        match end {
            End::Uri(uri) => connect(uri, options).await.map(Source::Nbd),
            End::File(path) => {
                let path = path.clone();
                let file = spawn_blocking(move || OpenOptions::new().read_only(true).open(&path)).await??;
                Ok(Source::File(Arc::new(file)))
            }
            End::Null => bail!("null: has nothing to copy: it can only be a destination"),
        }
    }

    fn size(&self) -> u64 {
        match self {
            Source::Nbd(client) => client.export().size,
            Source::File(file) => file.size(),
        }
    }

    fn max_request(&self) -> u32 {
        match self {
            Source::Nbd(client) => client.max_payload(),
            Source::File(_) => u32::MAX,
        }
    }

    async fn read(&self, offset: u64, mut buffer: AlignedBuf) -> anyhow::Result<AlignedBuf> {
        match self {
            Source::Nbd(client) => Ok(client.read(offset, buffer).await?),
            Source::File(file) => {
                let ready = file.try_read_now(&mut buffer, offset).unwrap_or(0);
                if ready >= buffer.len() {
                    return Ok(buffer);
                }
                let file = Arc::clone(file);
                spawn_blocking(move || {
                    let from = offset.saturating_add(u64::try_from(ready)?);
                    file.read_at(buffer.get_mut(ready..).unwrap_or_default(), from)?;
                    Ok(buffer)
                })
                .await?
            }
        }
    }

    async fn finish(self) -> anyhow::Result<()> {
        match self {
            Source::Nbd(client) => Ok(client.close().await?),
            Source::File(_) => Ok(()),
        }
    }
}

enum Destination {
    Nbd(AsyncClient),
    File { file: Arc<FileExport>, holds: Holds },
    Null,
}

/// What a destination file reads as where nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Zeroes,
    OldData,
}

impl Destination {
    async fn open(end: &End, source: &End, size: u64, options: &ClientOptions) -> anyhow::Result<Self> {
        match end {
            End::Null => Ok(Destination::Null),
            End::Uri(uri) => {
                let client = connect(uri, options).await?;
                if client.export().flags.contains(TransmissionFlags::READ_ONLY) {
                    bail!("{uri} is read-only, so it cannot be the destination");
                }
                expect_room(end, client.export().size, size)?;
                Ok(Destination::Nbd(client))
            }
            End::File(path) => {
                let (path, source) = (path.clone(), source.clone());
                let (file, holds) = spawn_blocking(move || open_file(&path, &source, size)).await??;
                expect_room(end, file.size(), size)?;
                Ok(Destination::File {
                    file: Arc::new(file),
                    holds,
                })
            }
        }
    }

    fn max_request(&self) -> u32 {
        match self {
            Destination::Nbd(client) => client.max_payload(),
            Destination::File { .. } | Destination::Null => u32::MAX,
        }
    }

    async fn write(&self, offset: u64, buffer: AlignedBuf) -> anyhow::Result<AlignedBuf> {
        match self {
            Destination::Nbd(client) => {
                let can_zero = client
                    .export()
                    .flags
                    .contains(TransmissionFlags::SEND_WRITE_ZEROES);
                if can_zero && is_zero(&buffer) {
                    let length = u64::try_from(buffer.len())?;
                    client
                        .write_zeroes(offset, length, ZeroMode::MayPunch, Durability::Buffered)
                        .await?;
                    return Ok(buffer);
                }
                Ok(client.write(offset, buffer, Durability::Buffered).await?)
            }
            Destination::File { file, holds } => {
                let (file, holds) = (Arc::clone(file), *holds);
                spawn_blocking(move || {
                    match holds {
                        Holds::Zeroes => write_sparse(&file, offset, &buffer)?,
                        Holds::OldData => file.write_at(&buffer, offset, Durability::Buffered)?,
                    }
                    Ok(buffer)
                })
                .await?
            }
            Destination::Null => Ok(buffer),
        }
    }

    /// Makes everything durable, and closes.
    async fn finish(self) -> anyhow::Result<()> {
        match self {
            Destination::Nbd(client) => {
                if client.export().flags.contains(TransmissionFlags::SEND_FLUSH) {
                    client.flush().await?;
                }
                Ok(client.close().await?)
            }
            Destination::File { file, .. } => Ok(spawn_blocking(move || file.flush()).await??),
            Destination::Null => Ok(()),
        }
    }
}

async fn connect(uri: &NbdUri, options: &ClientOptions) -> anyhow::Result<AsyncClient> {
    let session = options.connect(uri).await?;
    let name = uri.export.clone();
    let client = spawn_blocking(move || session.go(&name))
        .await?
        .with_context(|| uri.to_string())?;
    Ok(AsyncClient::new(client)?)
}

fn expect_room(end: &End, has: u64, needs: u64) -> anyhow::Result<()> {
    if has < needs {
        bail!("{end} is too small: it has {has} bytes, and the source has {needs}");
    }
    Ok(())
}

/// Opens the destination: a block device as it is, a file emptied and made as long as the source.
fn open_file(path: &Path, source: &End, size: u64) -> anyhow::Result<(FileExport, Holds)> {
    let name = path.display();
    let metadata = std::fs::metadata(path).ok();
    if metadata
        .as_ref()
        .is_some_and(|found| found.file_type().is_block_device())
    {
        return Ok((OpenOptions::new().open(path)?, Holds::OldData));
    }
    if let (Some(found), End::File(source)) = (&metadata, source) {
        let same = std::fs::metadata(source).is_ok_and(|m| (m.dev(), m.ino()) == (found.dev(), found.ino()));
        if same {
            bail!("{name} is both source and destination");
        }
    }
    if metadata.is_some_and(|found| !found.is_file()) {
        bail!("{name} is neither a file nor a block device, so it cannot be the destination");
    }
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("cannot make {name}"))?;
    file.set_len(size)
        .with_context(|| format!("cannot make {name} {size} bytes long"))?;
    Ok((FileExport::from_file(file, false)?, Holds::Zeroes))
}

/// Writes what is not zero; the rest is zero already.
fn write_sparse(file: &FileExport, offset: u64, data: &[u8]) -> std::io::Result<()> {
    let mut at = offset;
    for run in data_runs(data) {
        match run {
            Run::Zeroes(length) => at = at.saturating_add(length),
            Run::Data(bytes) => {
                file.write_at(bytes, at, Durability::Buffered)?;
                at = at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Run<'a> {
    Zeroes(u64),
    Data(&'a [u8]),
}

/// Cuts data into runs of zero blocks and of others.
fn data_runs(data: &[u8]) -> impl Iterator<Item = Run<'_>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let zero = is_zero(rest.chunks(SPARSE).next()?);
        let alike = rest.chunks(SPARSE).take_while(|block| is_zero(block) == zero);
        let (run, tail) = rest.split_at_checked(alike.map(<[u8]>::len).sum())?;
        rest = tail;
        Some(if zero {
            Run::Zeroes(u64::try_from(run.len()).unwrap_or(u64::MAX))
        } else {
            Run::Data(run)
        })
    })
}

/// By words of 16 bytes: a loop over bytes that may end anywhere is not vectorized.
fn is_zero(data: &[u8]) -> bool {
    let words = data.chunks_exact(16);
    words.remainder().iter().all(|byte| *byte == 0) && words.into_iter().all(|word| word == [0; 16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let parse = |text: &str| text.parse::<End>().unwrap();
        assert_eq!(parse("null:"), End::Null);
        assert_eq!(parse("disk.img"), End::File("disk.img".into()));
        assert_eq!(parse("./nbd:x"), End::File("./nbd:x".into()));
        assert!(matches!(parse("nbds+unix:///x?socket=/s"), End::Uri(_)));
        assert!("nbd+unix:///x".parse::<End>().is_err());
    }

    #[test]
    fn runs_cover_everything_in_order() {
        let mut data = vec![0; 3 * SPARSE + 100];
        data[SPARSE] = 1;
        data[3 * SPARSE + 99] = 1;
        let runs: Vec<_> = data_runs(&data).collect();
        let block = SPARSE as u64;
        assert_eq!(
            runs,
            [
                Run::Zeroes(block),
                Run::Data(&data[SPARSE..2 * SPARSE]),
                Run::Zeroes(block),
                Run::Data(&data[3 * SPARSE..])
            ]
        );
        assert_eq!(data_runs(&[]).count(), 0);
    }

    #[test]
    fn one_byte_anywhere_is_seen() {
        for length in [1, 15, 16, 17, 4096] {
            let mut data = vec![0; length];
            assert!(is_zero(&data));
            for at in 0..length {
                data[at] = 1;
                assert!(!is_zero(&data), "{at} of {length}");
                data[at] = 0;
            }
        }
    }

    #[test]
    fn every_piece_is_taken_once() {
        let next = AtomicU64::new(0);
        let taken: Vec<u64> = std::iter::from_fn(|| take_piece(&next, 10, 4)).collect();
        assert_eq!(taken, [0, 4, 8]);
        next.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(take_piece(&next, u64::MAX, 4), None);
    }
}
