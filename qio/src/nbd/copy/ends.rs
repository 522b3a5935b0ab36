//! The two ends of a copy, opened.

use std::fs::File;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use qio_nbd::NbdUri;
use qio_nbd::buffer::AlignedBuf;
use qio_nbd::client::AsyncClient;
use qio_nbd::export::{Durability, Export as _, FileExport, OpenOptions, ZeroMode};
use qio_nbd::wire::TransmissionFlags;
use tokio::task::spawn_blocking;

use super::End;
use super::sparse::{is_zero, write_sparse};
use crate::nbd::client::ClientOptions;

/// Where data comes from.
pub(super) enum Source {
    Nbd(AsyncClient),
    File(Arc<FileExport>),
}

impl Source {
    pub(super) async fn open(end: &End, options: &ClientOptions) -> anyhow::Result<Self> {
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

    pub(super) fn size(&self) -> u64 {
        match self {
            Source::Nbd(client) => client.export().size,
            Source::File(file) => file.size(),
        }
    }

    pub(super) fn max_request(&self) -> u32 {
        match self {
            Source::Nbd(client) => client.max_payload(),
            Source::File(_) => u32::MAX,
        }
    }

    pub(super) async fn read(&self, offset: u64, mut buffer: AlignedBuf) -> anyhow::Result<AlignedBuf> {
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

    pub(super) async fn finish(self) -> anyhow::Result<()> {
        match self {
            Source::Nbd(client) => Ok(client.close().await?),
            Source::File(_) => Ok(()),
        }
    }
}

/// Where data goes to.
pub(super) enum Destination {
    Nbd(AsyncClient),
    File { file: Arc<FileExport>, holds: Holds },
    Null,
}

/// What a destination file reads as where nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Zeroes,
    OldData,
}

impl Destination {
    pub(super) async fn open(
        end: &End,
        source: &End,
        size: u64,
        options: &ClientOptions,
    ) -> anyhow::Result<Self> {
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

    pub(super) fn max_request(&self) -> u32 {
        match self {
            Destination::Nbd(client) => client.max_payload(),
            Destination::File { .. } | Destination::Null => u32::MAX,
        }
    }

    pub(super) async fn write(&self, offset: u64, buffer: AlignedBuf) -> anyhow::Result<AlignedBuf> {
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
    pub(super) async fn finish(self) -> anyhow::Result<()> {
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
