//! `qio nbd copy`.

mod ends;
mod sparse;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use clap::Args;
use qio_nbd::NbdUri;
use qio_nbd::buffer::AlignedBuf;
use tokio::task::JoinSet;

use super::client::ClientOptions;
use super::progress::{Progress, Show};
use ends::{Destination, Source};

/// Bytes of one request, unless an export wants less.
const REQUEST: u32 = 256 << 10;

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

#[cfg(test)]
mod fault_tests;

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
    fn every_piece_is_taken_once() {
        let next = AtomicU64::new(0);
        let taken: Vec<u64> = std::iter::from_fn(|| take_piece(&next, 10, 4)).collect();
        assert_eq!(taken, [0, 4, 8]);
        next.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(take_piece(&next, u64::MAX, 4), None);
    }
}
