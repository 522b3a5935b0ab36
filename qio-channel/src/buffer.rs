//! A channel over memory: what is written can be read back.

use std::io::{self, IoSlice, IoSliceMut};

use crate::channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError, Whence, unsupported};
use crate::readiness::{Direction, Readiness};

/// A growing memory buffer with a read position, like QEMU's `QIOChannelBuffer`.
///
/// Writes append (they never move the read position); reads take from the read position and give `Ok(0)` at
/// the end of what has been written, so it never blocks. [`Channel::seek`] moves the read position.
///
/// ```
/// use qio_channel::{BufferChannel, ChannelExt};
/// let mut buffer = BufferChannel::from(b"abc".to_vec());
/// buffer.write_all(b"def")?;
/// let mut all = [0; 6];
/// buffer.read_exact(&mut all)?;
/// assert_eq!(&all, b"abcdef");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct BufferChannel {
    data: Vec<u8>,
    position: usize,
    write_ended: bool,
    read_ended: bool,
}

impl BufferChannel {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything written so far, whether read back or not.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Gives the memory up to the caller.
    #[must_use]
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    fn copy_out(&self, bufs: &mut [IoSliceMut<'_>], from: usize) -> usize {
        let mut rest = self.data.get(from..).unwrap_or_default();
        let mut done = 0;
        for buf in bufs {
            let n = buf.len().min(rest.len());
            let (now, later) = rest.split_at(n);
            if let Some(space) = buf.get_mut(..n) {
                space.copy_from_slice(now);
            }
            rest = later;
            done += n;
        }
        done
    }
}

impl From<Vec<u8>> for BufferChannel {
    /// A buffer that already holds `data`, to be read from its start.
    fn from(data: Vec<u8>) -> Self {
        BufferChannel {
            data,
            ..Self::default()
        }
    }
}

impl Channel for BufferChannel {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.read_ended {
            return Ok(0);
        }
        let n = self.copy_out(bufs, self.position);
        self.position += n;
        Ok(n)
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.write_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        for buf in bufs {
            self.data.extend_from_slice(buf);
        }
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.read_ended |= how.includes(Direction::Read);
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
        Features::SEEK | Features::PEEK
    }

    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            kind: "buffer",
            ..ChannelInfo::default()
        }
    }

    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        // One buffer with one position has no two directions that mean anything alone.
        let error = unsupported(&self.info(), "splitting");
        Err(SplitError { channel: self, error })
    }

    fn preadv(&mut self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        Ok(self.copy_out(bufs, usize::try_from(offset).unwrap_or(usize::MAX)))
    }

    fn pwritev(&mut self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let past_end = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "writing behind the end of a buffer would leave a gap",
            )
        };
        let mut at = usize::try_from(offset).map_err(|_| past_end())?;
        if at > self.data.len() {
            return Err(past_end());
        }
        for buf in bufs {
            let (over, append) = buf.split_at(buf.len().min(self.data.len() - at));
            if let Some(space) = self.data.get_mut(at..at + over.len()) {
                space.copy_from_slice(over);
            }
            self.data.extend_from_slice(append);
            at += buf.len();
        }
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }

    fn seek(&mut self, to: Whence) -> io::Result<u64> {
        let (base, by) = match to {
            Whence::Start(at) => (0, i64::try_from(at).unwrap_or(i64::MAX)),
            Whence::Current(by) => (self.position as u64, by),
            Whence::End(by) => (self.data.len() as u64, by),
        };
        let target = base
            .checked_add_signed(by)
            .filter(|&at| at <= self.data.len() as u64);
        let target = target.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "a buffer's read position stays within its data",
            )
        })?;
        self.position = usize::try_from(target).unwrap_or(self.position);
        Ok(target)
    }

    fn peek(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(if self.read_ended {
            0
        } else {
            self.copy_out(bufs, self.position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelExt;

    #[test]
    fn positioned_io_leaves_the_position_alone() {
        let mut buffer = BufferChannel::from(b"0123456789".to_vec());
        let mut two = [0; 2];
        buffer.read_exact(&mut two).unwrap();
        assert_eq!(buffer.preadv(&mut [IoSliceMut::new(&mut two)], 8).unwrap(), 2);
        assert_eq!(&two, b"89");
        buffer
            .pwritev(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 8)
            .unwrap();
        assert_eq!(buffer.data(), b"01234567abcd");
        buffer.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"23");
        assert!(buffer.pwritev(&[IoSlice::new(b"x")], 99).is_err());
    }

    #[test]
    fn seek_stays_within_the_data() {
        let mut buffer = BufferChannel::from(vec![0; 10]);
        assert_eq!(buffer.seek(Whence::End(-3)).unwrap(), 7);
        assert_eq!(buffer.seek(Whence::Current(2)).unwrap(), 9);
        assert!(buffer.seek(Whence::Current(2)).is_err());
        assert!(buffer.seek(Whence::End(i64::MIN)).is_err());
        assert!(buffer.seek(Whence::Start(u64::MAX)).is_err());
        assert_eq!(buffer.seek(Whence::Current(0)).unwrap(), 9);
    }

    #[test]
    fn peek_does_not_consume() {
        let mut buffer = BufferChannel::from(b"ab".to_vec());
        let mut two = [0; 2];
        assert_eq!(buffer.peek(&mut [IoSliceMut::new(&mut two)]).unwrap(), 2);
        buffer.read_exact(&mut two).unwrap();
        assert_eq!(&two, b"ab");
    }
}
