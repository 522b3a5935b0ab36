//! A channel that is always empty and swallows everything.

use std::io::{self, IoSlice, IoSliceMut};

use crate::channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError, Whence};
use crate::readiness::{Direction, Readiness};

/// `/dev/null` as a channel: reads are at the end, writes accept everything. Never blocks.
///
/// ```
/// use qio_channel::{ChannelExt, NullChannel};
/// let mut null = NullChannel::new();
/// null.write_all(&[0; 1 << 20])?;
/// assert_eq!(null.read(&mut [0; 16])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct NullChannel {
    write_ended: bool,
}

impl NullChannel {
    /// A new null channel.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Channel for NullChannel {
    fn readv(&mut self, _bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(0)
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.write_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.write_ended |= how.includes(Direction::Write);
        Ok(())
    }

    fn set_blocking(&mut self, _blocking: bool) -> io::Result<()> {
        Ok(())
    }

    fn readiness(&self, _direction: Direction) -> Readiness<'_> {
        Readiness::NOW
    }

    fn features(&self) -> Features {
        Features::SEEK | Features::PEEK | Features::SPLIT
    }

    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            kind: "null",
            ..ChannelInfo::default()
        }
    }

    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        Ok((self.clone(), self))
    }

    fn preadv(&mut self, _bufs: &mut [IoSliceMut<'_>], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn pwritev(&mut self, bufs: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        self.writev(bufs)
    }

    fn seek(&mut self, _to: Whence) -> io::Result<u64> {
        Ok(0)
    }

    fn peek(&mut self, _bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(0)
    }
}
