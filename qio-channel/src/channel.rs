//! The trait itself and the small types in its signatures.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, OwnedFd};

use crate::readiness::{Direction, Readiness};

/// A channel behind a pointer, the form in which services accept them.
pub type BoxChannel = Box<dyn Channel>;

bitflags::bitflags! {
    /// What a channel can do beyond reading and writing; ask before using an optional operation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// Descriptors travel beside data: [`Channel::readv_fds`], [`Channel::writev_fds`].
        const FD_PASS = 1 << 0;
        /// [`Channel::shutdown`] reaches the peer, one direction at a time.
        const SHUTDOWN = 1 << 1;
        /// [`Channel::peek`] works.
        const PEEK = 1 << 2;
        /// [`Channel::seek`], [`Channel::preadv`] and [`Channel::pwritev`] work.
        const SEEK = 1 << 3;
        /// [`Channel::into_split`] gives two independent directions.
        const SPLIT = 1 << 4;
    }
}

/// Which direction (or both) of a channel to end, as in `shutdown(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shutdown {
    /// Nothing will be read any more.
    Read,
    /// Nothing will be written any more; the peer reads an end of stream.
    Write,
    /// Both of the above.
    Both,
}

impl Shutdown {
    /// Does this end `direction`?
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        match self {
            Shutdown::Read => direction == Direction::Read,
            Shutdown::Write => direction == Direction::Write,
            Shutdown::Both => true,
        }
    }
}

/// Where a [`Channel::seek`] counts from. The variants mean what `SEEK_SET`, `SEEK_CUR` and `SEEK_END` mean.
pub use std::io::SeekFrom as Whence;

/// What a channel says of itself, for logs and error messages. Never a secret.
///
/// Its `Display` is one line: `tcp 127.0.0.1:10809 -> 127.0.0.1:40312 (TLS 1.3 ...)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The kind of channel: `tcp`, `unix`, `pipe`, `file`, `buffer`, `null`, ...
    pub kind: &'static str,
    /// Our own address, printed as the address parser takes it, where there is one.
    pub local: Option<String>,
    /// The peer's address, likewise.
    pub peer: Option<String>,
    /// What a TLS layer negotiated, in words; `None` in clear text.
    pub tls: Option<String>,
}

impl fmt::Display for ChannelInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.kind.is_empty() {
            "channel"
        } else {
            self.kind
        })?;
        if let Some(local) = &self.local {
            write!(f, " {local}")?;
        }
        if let Some(peer) = &self.peer {
            write!(f, " <-> {peer}")?;
        }
        if let Some(tls) = &self.tls {
            write!(f, " ({tls})")?;
        }
        Ok(())
    }
}

/// A channel that could not be split, given back unharmed with the reason.
pub struct SplitError {
    /// The channel, as it was.
    pub channel: BoxChannel,
    /// Why it could not be split.
    pub error: io::Error,
}

impl fmt::Debug for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SplitError")
            .field("channel", &self.channel.info())
            .field("error", &self.error)
            .finish()
    }
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot split {} into two directions: {}",
            self.channel.info(),
            self.error
        )
    }
}

impl std::error::Error for SplitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The error of an optional operation that a channel does not offer.
///
/// For implementers: names the channel and the operation, with kind
/// [`Unsupported`](io::ErrorKind::Unsupported).
#[must_use]
pub fn unsupported(info: &ChannelInfo, operation: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!("{operation} is not supported by this channel ({info}); ask Channel::features() first"),
    )
}

/// A stream of bytes in two directions.
///
/// # Contract
///
/// * Short reads and writes are normal. `Ok(0)` from [`readv`](Channel::readv) into room for at least one
///   byte is the end of the stream, and stays the end.
/// * "Not now" is an error of kind [`WouldBlock`](io::ErrorKind::WouldBlock), and nothing else. A channel in
///   blocking mode never returns it. `Interrupted` is handled inside and never returned.
/// * After `WouldBlock`, [`readiness`](Channel::readiness) of the *same* direction says what to wait for.
///   The descriptor it names has itself just said `EAGAIN`, so registering it edge-triggered is safe.
/// * A `writev` that returns `Ok(n)` has *accepted* n bytes; [`flush`](Channel::flush) hands everything
///   accepted to the kernel; only `shutdown(Write)` ends the stream for the peer.
/// * Dropping a channel frees everything and sends nothing.
///
/// Implementers run `testing::conformance` (feature `testing`) over every way their channel can be driven.
pub trait Channel: Send {
    /// Reads into the vectors in order. `Ok(0)` is the end of the stream (or room for no byte at all).
    ///
    /// # Errors
    /// `WouldBlock` in non-blocking mode; `UnexpectedEof` where a layer can tell that the stream was cut.
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Writes from the vectors in order, and says how many bytes were accepted.
    ///
    /// # Errors
    /// `WouldBlock` in non-blocking mode; `BrokenPipe` when the peer is gone (never a `SIGPIPE` from sockets).
    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Hands everything that was accepted to the kernel. A no-op for channels that keep nothing back.
    ///
    /// # Errors
    /// `WouldBlock` in non-blocking mode (wait for [`Direction::Write`]); otherwise what writing reports.
    fn flush(&mut self) -> io::Result<()>;

    /// Ends one direction or both. Legal in every state, and idempotent.
    ///
    /// Where a direction cannot be ended alone (no [`Features::SHUTDOWN`]) it closes what can be closed:
    /// a pipe's write end, for example.
    ///
    /// # Errors
    /// `WouldBlock` in non-blocking mode, when a goodbye (close_notify) does not fit yet: call again.
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()>;

    /// Chooses between blocking (the initial mode) and non-blocking.
    ///
    /// # Errors
    /// What the system call reports.
    fn set_blocking(&mut self, blocking: bool) -> io::Result<()>;

    /// What to wait for before trying an operation of `direction` again.
    ///
    /// A read may name write-readiness (a TLS layer that has to answer first), and the reverse.
    /// [`Wait::Now`](crate::Wait::Now) means: try at once, nothing to wait for (plaintext is buffered; a regular file).
    fn readiness(&self, direction: Direction) -> Readiness<'_>;

    /// What this channel can do beyond reading and writing.
    fn features(&self) -> Features;

    /// Name, addresses and TLS facts, for logs and errors.
    fn info(&self) -> ChannelInfo;

    /// Splits into a read half and a write half that two threads can use independently.
    ///
    /// # Errors
    /// The channel itself, unharmed, and why it cannot be split.
    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError>;

    /// Reads data and the descriptors that came beside it, which are appended to `fds`, close-on-exec.
    ///
    /// # Errors
    /// `Unsupported` without [`Features::FD_PASS`]; otherwise as [`readv`](Channel::readv).
    fn readv_fds(&mut self, _bufs: &mut [IoSliceMut<'_>], _fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        Err(unsupported(&self.info(), "receiving descriptors"))
    }

    /// Writes data with descriptors beside its first byte.
    ///
    /// # Errors
    /// `Unsupported` without [`Features::FD_PASS`]; otherwise as [`writev`](Channel::writev).
    fn writev_fds(&mut self, _bufs: &[IoSlice<'_>], _fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        Err(unsupported(&self.info(), "passing descriptors"))
    }

    /// Reads at `offset` without moving the current position.
    ///
    /// # Errors
    /// `Unsupported` without [`Features::SEEK`]; otherwise as [`readv`](Channel::readv).
    fn preadv(&mut self, _bufs: &mut [IoSliceMut<'_>], _offset: u64) -> io::Result<usize> {
        Err(unsupported(&self.info(), "reading at an offset"))
    }

    /// Writes at `offset` without moving the current position.
    ///
    /// # Errors
    /// `Unsupported` without [`Features::SEEK`]; otherwise as [`writev`](Channel::writev).
    fn pwritev(&mut self, _bufs: &[IoSlice<'_>], _offset: u64) -> io::Result<usize> {
        Err(unsupported(&self.info(), "writing at an offset"))
    }

    /// Moves the current position and returns it, in bytes from the start.
    ///
    /// # Errors
    /// `Unsupported` without [`Features::SEEK`].
    fn seek(&mut self, _to: Whence) -> io::Result<u64> {
        Err(unsupported(&self.info(), "seeking"))
    }

    /// Reads without taking the bytes off the stream.
    ///
    /// # Errors
    /// `Unsupported` without [`Features::PEEK`]; otherwise as [`readv`](Channel::readv).
    fn peek(&mut self, _bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Err(unsupported(&self.info(), "peeking"))
    }

    /// Holds small writes back until uncorked (`TCP_CORK`). Ignored by channels that have no such thing.
    ///
    /// # Errors
    /// What the system call reports.
    fn set_cork(&mut self, _cork: bool) -> io::Result<()> {
        Ok(())
    }

    /// Allows (`true`) or forbids (`false`, `TCP_NODELAY`) waiting for more data before sending. Ignored
    /// by channels that have no such thing.
    ///
    /// # Errors
    /// What the system call reports.
    fn set_delay(&mut self, _delay: bool) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for dyn Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channel({})", self.info())
    }
}

/// A channel behind a pointer is a channel, so that layers stack over [`BoxChannel`].
impl<C: Channel + ?Sized> Channel for Box<C> {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (**self).readv(bufs)
    }
    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (**self).writev(bufs)
    }
    fn flush(&mut self) -> io::Result<()> {
        (**self).flush()
    }
    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        (**self).shutdown(how)
    }
    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        (**self).set_blocking(blocking)
    }
    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        (**self).readiness(direction)
    }
    fn features(&self) -> Features {
        (**self).features()
    }
    fn info(&self) -> ChannelInfo {
        (**self).info()
    }
    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        (*self).into_split()
    }
    fn readv_fds(&mut self, bufs: &mut [IoSliceMut<'_>], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        (**self).readv_fds(bufs, fds)
    }
    fn writev_fds(&mut self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        (**self).writev_fds(bufs, fds)
    }
    fn preadv(&mut self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        (**self).preadv(bufs, offset)
    }
    fn pwritev(&mut self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        (**self).pwritev(bufs, offset)
    }
    fn seek(&mut self, to: Whence) -> io::Result<u64> {
        (**self).seek(to)
    }
    fn peek(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (**self).peek(bufs)
    }
    fn set_cork(&mut self, cork: bool) -> io::Result<()> {
        (**self).set_cork(cork)
    }
    fn set_delay(&mut self, delay: bool) -> io::Result<()> {
        (**self).set_delay(delay)
    }
}
