//! Read and write deadlines on any channel.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError, Whence};
use crate::readiness::{Direction, Readiness};
use crate::wait::wait;

/// A channel whose reads and writes give up at a deadline, each direction with its own.
///
/// An operation that is still waiting when its deadline passes fails with
/// [`TimedOut`](io::ErrorKind::TimedOut). Bytes that were already moved stay moved; set a new deadline and go on, or give up. Inside, the
/// channel underneath is non-blocking and this one polls, so a deadline also bounds a TLS read that has to write first.
///
/// ```
/// use std::time::{Duration, Instant};
/// use qio_channel::{BufferChannel, ChannelExt, Deadlined, Direction};
///
/// let mut channel = Deadlined::new(BufferChannel::new())?;
/// channel.set_deadline(Direction::Read, Some(Instant::now() + Duration::from_secs(5)));
/// assert_eq!(channel.read(&mut [0; 16])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Deadlined<C> {
    inner: C,
    blocking: bool,
    read_deadline: Option<Instant>,
    write_deadline: Option<Instant>,
}

impl<C: Channel> Deadlined<C> {
    /// Wraps `inner`, which must be in blocking mode (as every new channel is). No deadline is set yet.
    ///
    /// # Errors
    /// What switching `inner` to non-blocking mode reports.
    pub fn new(mut inner: C) -> io::Result<Self> {
        inner.set_blocking(false)?;
        Ok(Deadlined {
            inner,
            blocking: true,
            read_deadline: None,
            write_deadline: None,
        })
    }

    /// Sets or (`None`) clears the deadline of one direction. It holds for every later operation.
    pub fn set_deadline(&mut self, direction: Direction, deadline: Option<Instant>) {
        match direction {
            Direction::Read => self.read_deadline = deadline,
            Direction::Write => self.write_deadline = deadline,
        }
    }

    /// The channel underneath, back in the mode this one is in.
    ///
    /// # Errors
    /// What switching the mode reports.
    pub fn into_inner(mut self) -> io::Result<C> {
        self.inner.set_blocking(self.blocking)?;
        Ok(self.inner)
    }

    fn deadline(&self, direction: Direction) -> Option<Instant> {
        match direction {
            Direction::Read => self.read_deadline,
            Direction::Write => self.write_deadline,
        }
    }

    fn retry<T>(
        &mut self,
        direction: Direction,
        mut operation: impl FnMut(&mut C) -> io::Result<T>,
    ) -> io::Result<T> {
        let deadline = self.deadline(direction);
        loop {
            match operation(&mut self.inner) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.blocking {
                        wait(self.inner.readiness(direction), deadline)?;
                    } else if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "the deadline passed"));
                    } else {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }
}

impl<C: Channel + 'static> Channel for Deadlined<C> {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.retry(Direction::Read, |inner| inner.readv(bufs))
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.retry(Direction::Write, |inner| inner.writev(bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.retry(Direction::Write, Channel::flush)
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        self.retry(Direction::Write, |inner| inner.shutdown(how))
    }

    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        self.blocking = blocking;
        Ok(())
    }

    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        self.inner.readiness(direction).until(self.deadline(direction))
    }

    fn features(&self) -> Features {
        self.inner.features()
    }

    fn info(&self) -> ChannelInfo {
        self.inner.info()
    }

    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        let Deadlined {
            inner,
            blocking,
            read_deadline,
            write_deadline,
        } = *self;
        let wrap = |inner: BoxChannel| -> BoxChannel {
            Box::new(Deadlined {
                inner,
                blocking,
                read_deadline,
                write_deadline,
            })
        };
        match Box::new(inner).into_split() {
            Ok((reader, writer)) => Ok((wrap(reader), wrap(writer))),
            Err(SplitError { channel, error }) => Err(SplitError {
                channel: wrap(channel),
                error,
            }),
        }
    }

    fn readv_fds(&mut self, bufs: &mut [IoSliceMut<'_>], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        self.retry(Direction::Read, |inner| inner.readv_fds(bufs, fds))
    }

    fn writev_fds(&mut self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.retry(Direction::Write, |inner| inner.writev_fds(bufs, fds))
    }

    fn preadv(&mut self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        self.retry(Direction::Read, |inner| inner.preadv(bufs, offset))
    }

    fn pwritev(&mut self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.retry(Direction::Write, |inner| inner.pwritev(bufs, offset))
    }

    fn seek(&mut self, to: Whence) -> io::Result<u64> {
        self.inner.seek(to)
    }

    fn peek(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.retry(Direction::Read, |inner| inner.peek(bufs))
    }

    fn set_cork(&mut self, cork: bool) -> io::Result<()> {
        self.inner.set_cork(cork)
    }

    fn set_delay(&mut self, delay: bool) -> io::Result<()> {
        self.inner.set_delay(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChannelExt, FdChannel};
    use std::time::Duration;

    #[test]
    fn a_silent_peer_costs_no_more_than_the_deadline() {
        let (reader, mut writer) = FdChannel::pipe().unwrap();
        let mut reader = Deadlined::new(reader).unwrap();
        reader.set_deadline(Direction::Read, Some(Instant::now() + Duration::from_millis(2)));
        assert_eq!(
            reader.read(&mut [0; 1]).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
        writer.write_all(b"late").unwrap();
        let mut late = [0; 4];
        reader.read_exact(&mut late).unwrap(); // a passed deadline does not refuse what is there
        assert_eq!(&late, b"late");
    }

    #[test]
    fn a_full_pipe_costs_no_more_than_the_deadline() {
        let (_reader, writer) = FdChannel::pipe().unwrap();
        let mut writer = Deadlined::new(writer).unwrap();
        writer.set_deadline(Direction::Write, Some(Instant::now() + Duration::from_millis(2)));
        assert_eq!(
            writer.write_all(&vec![0; 1 << 20]).unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }
}
