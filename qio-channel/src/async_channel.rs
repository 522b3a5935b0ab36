//! Any channel as a tokio stream.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::channel::{Channel, ChannelInfo, Shutdown};
use crate::readiness::{Direction, Interest, Wait};
use crate::sys::{DuplicatedFd, register_with_tokio};

/// A [`Channel`] driven by tokio: `AsyncRead + AsyncWrite`, vectored both ways.
///
/// Every operation first tries the channel, and registers what [`Channel::readiness`] names only when that
/// would block; a descriptor is registered once per direction of use, on its first `WouldBlock`. All
/// operations are cancellation safe: a dropped future has either moved bytes and said so, or moved none.
///
/// A channel that names a time to try again ([`Readiness::until`](crate::Readiness::until): a deadline, a rate limit) needs a
/// runtime with its timer enabled.
///
/// ```
/// use qio_channel::{AsyncChannel, FdChannel};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (reader, writer) = FdChannel::pipe()?;
/// let (mut reader, mut writer) = (AsyncChannel::new(reader)?, AsyncChannel::new(writer)?);
/// writer.write_all(b"ping").await?;
/// let mut ping = [0; 4];
/// reader.read_exact(&mut ping).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct AsyncChannel<C> {
    inner: C,
    // One registration for reads and one for writes, because a registration remembers one waker per interest,
    // and a TLS read that waits for writability must not displace the writer that does.
    read: Registered,
    write: Registered,
}

/// The registration that one direction of use waits on.
#[derive(Debug, Default)]
struct Registered {
    current: Option<(RawFd, AsyncFd<DuplicatedFd>)>,
    /// Wakes at [`Readiness::until`]. Made when the first channel asks for it.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Registered {
    /// Ready when `until` has come; registers for it otherwise.
    fn poll_until(&mut self, cx: &mut Context<'_>, until: Option<std::time::Instant>) -> Poll<()> {
        let Some(until) = until else {
            self.alarm = None;
            return Poll::Pending;
        };
        let until = Instant::from_std(until);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if alarm.deadline() != until {
            alarm.as_mut().reset(until);
        }
        alarm.as_mut().poll(cx)
    }

    fn get(&mut self, fd: std::os::fd::BorrowedFd<'_>) -> io::Result<&AsyncFd<DuplicatedFd>> {
        let number = fd.as_raw_fd();
        if self.current.as_ref().is_none_or(|(known, _)| *known != number) {
            self.current = Some((number, register_with_tokio(fd)?));
        }
        match &self.current {
            Some((_, registration)) => Ok(registration),
            None => Err(io::ErrorKind::NotFound.into()), // set two lines above
        }
    }
}

impl<C: Channel> AsyncChannel<C> {
    /// Takes a channel over, switching it to non-blocking mode. Must be used within a tokio runtime.
    ///
    /// # Errors
    /// What [`Channel::set_blocking`] reports.
    pub fn new(mut inner: C) -> io::Result<Self> {
        inner.set_blocking(false)?;
        Ok(AsyncChannel {
            inner,
            read: Registered::default(),
            write: Registered::default(),
        })
    }

    /// The channel underneath, in non-blocking mode and no longer registered.
    pub fn into_inner(self) -> C {
        self.inner
    }

    /// The channel underneath, to ask it things.
    pub fn get_ref(&self) -> &C {
        &self.inner
    }

    /// The channel underneath. Switching it to blocking mode would block the runtime.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.inner
    }

    /// Names and addresses, see [`Channel::info`].
    pub fn info(&self) -> ChannelInfo {
        self.inner.info()
    }

    /// The poll form of [`readv`](AsyncChannel::readv).
    ///
    /// # Errors
    /// As [`Channel::readv`], without `WouldBlock`.
    pub fn poll_readv(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_operation(cx, Direction::Read, |inner| inner.readv(bufs))
    }

    /// The poll form of [`writev`](AsyncChannel::writev).
    ///
    /// # Errors
    /// As [`Channel::writev`], without `WouldBlock`.
    pub fn poll_writev(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_operation(cx, Direction::Write, |inner| inner.writev(bufs))
    }

    /// The poll form of [`flush`](AsyncChannel::flush).
    ///
    /// # Errors
    /// As [`Channel::flush`], without `WouldBlock`.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_operation(cx, Direction::Write, Channel::flush)
    }

    /// The poll form of [`shutdown`](AsyncChannel::shutdown).
    ///
    /// # Errors
    /// As [`Channel::shutdown`], without `WouldBlock`.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>, how: Shutdown) -> Poll<io::Result<()>> {
        ready!(self.poll_operation(cx, Direction::Write, |inner| inner.shutdown(how)))?;
        // A registration holds a duplicate of the descriptor. Where closing is what ends the stream (a pipe),
        // the peer would never see the end while that is open.
        if how.includes(Direction::Write) {
            self.write.current = None;
        }
        if how.includes(Direction::Read) {
            self.read.current = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Runs any non-blocking operation of the channel, waiting for the readiness of `direction` while it
    /// would block. For handshakes and other operations that the trait does not have.
    ///
    /// # Errors
    /// What the operation reports, without `WouldBlock`.
    pub fn poll_operation<T>(
        &mut self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&mut C) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match operation(&mut self.inner) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
        loop {
            let registered = match direction {
                Direction::Read => &mut self.read,
                Direction::Write => &mut self.write,
            };
            let readiness = self.inner.readiness(direction);
            let Wait::Fd(fd, interest) = readiness.wait else {
                // Worth trying at once, but not worth starving the other tasks for.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            };
            // The alarm first: both have to be registered before this returns. Once it has gone off the operation is
            // tried anyway, and says itself that a deadline has passed.
            let alarm = registered.poll_until(cx, readiness.until);
            let number = fd.as_raw_fd();
            let registration = registered.get(fd)?;
            let event = match interest {
                Interest::Readable => registration.poll_read_ready(cx),
                Interest::Writable => registration.poll_write_ready(cx),
            };
            let mut guard = match (event, alarm) {
                (Poll::Ready(guard), _) => guard?,
                (Poll::Pending, Poll::Pending) => return Poll::Pending,
                (Poll::Pending, Poll::Ready(())) => match operation(&mut self.inner) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // It wants a later time, or nothing changed: look again, but let others have their turn.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    done => return Poll::Ready(done),
                },
            };
            // The reactor's readiness may be older than our EAGAIN. Trying once more under its guard makes
            // clearing exact: an event that comes after the guard was taken is not lost by it.
            match operation(&mut self.inner) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Wait::Fd(fd, now) = self.inner.readiness(direction).wait
                        && fd.as_raw_fd() == number
                        && now == interest
                    {
                        guard.clear_ready();
                    }
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// Reads into the vectors in order. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    /// As [`Channel::readv`], without `WouldBlock`.
    pub async fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_readv(cx, bufs)).await
    }

    /// Writes from the vectors in order, and says how many bytes were accepted.
    ///
    /// # Errors
    /// As [`Channel::writev`], without `WouldBlock`.
    pub async fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_writev(cx, bufs)).await
    }

    /// Hands everything accepted to the kernel.
    ///
    /// # Errors
    /// As [`Channel::flush`], without `WouldBlock`.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    /// As [`Channel::shutdown`], without `WouldBlock`.
    pub async fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx, how)).await
    }
}

impl<C: Channel + Unpin> AsyncRead for AsyncChannel<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Zeroing what has not been initialised yet costs once per buffer, and keeps this crate free of
        // unsafe on the byte path.
        let space = buf.initialize_unfilled();
        let n = ready!(self.get_mut().poll_readv(cx, &mut [IoSliceMut::new(space)]))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<C: Channel + Unpin> AsyncWrite for AsyncChannel<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writev(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_writev(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_shutdown(cx, Shutdown::Write)
    }
}
