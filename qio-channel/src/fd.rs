//! A channel over descriptors: pipe, pty, file, stdio, character device.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::epoll;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::channel::{BoxChannel, Channel, ChannelInfo, Features, Shutdown, SplitError, Whence, unsupported};
use crate::readiness::{Direction, Interest, Readiness};
use crate::wait::wait;

/// The kernel refuses more vectors in one call (`UIO_MAXIOV`); a longer list becomes a short read or write.
const MAX_VECTORS: usize = 1024;

/// A channel over one descriptor for both directions, or one for each.
///
/// * Pipes, FIFOs, terminals and character devices wait for readiness; regular files and block devices are
///   always ready ([`Wait::Now`](crate::Wait::Now)) and can be read and written at an offset.
/// * Non-blocking mode sets `O_NONBLOCK` on the open file description, which is shared with whoever else holds it (a
///   shell, for stdio); the last half dropped puts it back. Blocking mode copes with a descriptor that is
///   non-blocking because somebody else wants it so.
/// * Writing to a pipe without a reader fails with `BrokenPipe` provided that the process ignores `SIGPIPE`,
///   as Rust programs do.
///
/// ```
/// use qio_channel::{Channel, ChannelExt, FdChannel, Shutdown};
/// let (mut reader, mut writer) = FdChannel::pipe()?;
/// writer.write_all(b"through the kernel")?;
/// writer.shutdown(Shutdown::Write)?;
/// let mut text = [0; 18];
/// reader.read_exact(&mut text)?;
/// assert_eq!(reader.read(&mut [0; 1])?, 0);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FdChannel {
    read: Side,
    write: Side,
    kind: &'static str,
    features: Features,
    blocking: bool,
}

/// One direction.
#[derive(Debug, Clone)]
enum Side {
    Open(Arc<Descriptor>),
    /// `shutdown` ended it: the end for a reader, a broken pipe for a writer.
    Ended,
    /// The other half of a split has it, or the descriptor has no such direction.
    Absent,
}

/// A descriptor with the facts that decide how it is driven.
#[derive(Debug)]
struct Descriptor {
    fd: OwnedFd,
    file_type: FileType,
    /// Can it be registered with epoll? If not it never says EAGAIN.
    pollable: bool,
    /// For a terminal: both sides of a channel are often one open file description, and share this.
    terminal: Option<Arc<Restore>>,
    made_nonblocking: AtomicBool,
}

/// Takes `O_NONBLOCK` back from a terminal when the last side that wanted it has gone. It keeps the terminal open until then,
/// which is why pipes, whose closing tells the peer, do without.
#[derive(Debug)]
struct Restore {
    fd: OwnedFd,
    made_nonblocking: AtomicBool,
}

impl Drop for Restore {
    fn drop(&mut self) {
        take_back(&self.fd, &self.made_nonblocking);
    }
}

fn take_back(fd: &OwnedFd, made_nonblocking: &AtomicBool) {
    if made_nonblocking.load(Ordering::Relaxed)
        && let Ok(flags) = fcntl_getfl(fd)
    {
        // Nothing can be done about a failure, and nobody is left to tell.
        let _ = fcntl_setfl(fd, flags - OFlags::NONBLOCK);
    }
}

impl Descriptor {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let file_type = FileType::from_raw_mode(fstat(&fd)?.st_mode);
        let pollable = match file_type {
            FileType::RegularFile | FileType::BlockDevice | FileType::Directory => false,
            FileType::Fifo | FileType::Socket => true,
            _ => epoll_accepts(&fd)?, // some character devices do, /dev/null does not
        };
        let terminal = if rustix::termios::isatty(&fd) {
            let fd = fd.try_clone()?;
            Some(Arc::new(Restore {
                fd,
                made_nonblocking: AtomicBool::new(false),
            }))
        } else {
            None
        };
        Ok(Descriptor {
            fd,
            file_type,
            pollable,
            terminal,
            made_nonblocking: AtomicBool::new(false),
        })
    }

    /// Shares what is to be restored with `other` if both are the same terminal.
    fn join(&mut self, other: &Descriptor) -> io::Result<()> {
        let (this, that) = (fstat(&self.fd)?, fstat(&other.fd)?);
        if self.terminal.is_some() && other.terminal.is_some() && this.st_rdev == that.st_rdev {
            self.terminal.clone_from(&other.terminal);
        }
        Ok(())
    }

    fn make_nonblocking(&self) -> io::Result<()> {
        if !self.pollable {
            return Ok(());
        }
        let flags = fcntl_getfl(&self.fd)?;
        if !flags.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&self.fd, flags | OFlags::NONBLOCK)?;
            let made = self
                .terminal
                .as_ref()
                .map_or(&self.made_nonblocking, |terminal| &terminal.made_nonblocking);
            made.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        take_back(&self.fd, &self.made_nonblocking);
    }
}

/// What a channel over the descriptor is called, and what it can do.
fn kind_of(descriptor: &Descriptor) -> io::Result<(&'static str, Features)> {
    Ok(match descriptor.file_type {
        FileType::Socket => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is a socket: use qio_socket::SocketChannel::from_fd",
            ));
        }
        FileType::Fifo => ("pipe", Features::SPLIT | Features::SHUTDOWN),
        FileType::RegularFile | FileType::BlockDevice => ("file", Features::SPLIT | Features::SEEK),
        _ if descriptor.terminal.is_some() => ("pty", Features::SPLIT),
        _ => ("device", Features::SPLIT),
    })
}

fn epoll_accepts(fd: &OwnedFd) -> io::Result<bool> {
    let probe = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    match epoll::add(&probe, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN) {
        Ok(()) => Ok(true),
        Err(Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl FdChannel {
    /// A channel over one descriptor for both directions: a pty, a file, a device, one end of a pipe.
    ///
    /// Directions that the descriptor was not opened for are absent. Sockets are refused: `qio-socket` has a channel
    /// that knows how to treat them.
    ///
    /// # Errors
    /// `InvalidInput` for a socket; what `fstat` or `fcntl` reports.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let access = fcntl_getfl(&fd)? & OFlags::RWMODE;
        let descriptor = Arc::new(Descriptor::new(fd)?);
        let side = |wanted: bool| {
            if wanted {
                Side::Open(Arc::clone(&descriptor))
            } else {
                Side::Absent
            }
        };
        let (kind, features) = kind_of(&descriptor)?;
        Ok(FdChannel {
            read: side(access != OFlags::WRONLY),
            write: side(access != OFlags::RDONLY),
            kind,
            features,
            blocking: true,
        })
    }

    /// A channel that reads from one descriptor and writes to another, such as a pair of pipes.
    ///
    /// # Errors
    /// `InvalidInput` if they are not open for that; as [`from_fd`](FdChannel::from_fd).
    pub fn from_pair(read: OwnedFd, write: OwnedFd) -> io::Result<Self> {
        let access = |fd: &OwnedFd| Ok::<_, io::Error>(fcntl_getfl(fd)? & OFlags::RWMODE);
        if access(&read)? == OFlags::WRONLY || access(&write)? == OFlags::RDONLY {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the first descriptor must be open for reading and the second for writing",
            ));
        }
        let (reader, mut writer) = (Descriptor::new(read)?, Descriptor::new(write)?);
        writer.join(&reader)?;
        let ((kind, _), (_, features)) = (kind_of(&reader)?, kind_of(&writer)?);
        Ok(FdChannel {
            read: Side::Open(Arc::new(reader)),
            write: Side::Open(Arc::new(writer)),
            kind,
            // Closing the write descriptor is what ends the stream.
            features: Features::SPLIT | (features & Features::SHUTDOWN),
            blocking: true,
        })
    }

    /// An anonymous pipe: (read end, write end), close-on-exec.
    ///
    /// # Errors
    /// What `pipe2(2)` reports.
    pub fn pipe() -> io::Result<(Self, Self)> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        Ok((FdChannel::from_fd(reader)?, FdChannel::from_fd(writer)?))
    }

    /// A channel over an open file, for the directions it was opened for.
    ///
    /// # Errors
    /// As [`from_fd`](FdChannel::from_fd).
    pub fn from_file(file: File) -> io::Result<Self> {
        FdChannel::from_fd(file.into())
    }

    /// This process's standard input and output, duplicated: dropping the channel leaves them open.
    ///
    /// # Errors
    /// What duplicating or inspecting the descriptors reports; `InvalidInput` where one of them is a socket.
    pub fn stdio() -> io::Result<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(FdChannel {
            kind: "stdio",
            ..FdChannel::from_pair(stdin, stdout)?
        })
    }

    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    /// Runs a system call on one direction, as the mode asks for.
    fn call(
        &self,
        direction: Direction,
        mut operation: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let descriptor = match (self.side(direction), direction) {
            (Side::Open(descriptor), _) => descriptor,
            (Side::Ended, Direction::Read) => return Ok(0),
            (Side::Ended, Direction::Write) => return Err(io::ErrorKind::BrokenPipe.into()),
            (Side::Absent, Direction::Read) => {
                return Err(unsupported(&self.info(), "reading from its write side"));
            }
            (Side::Absent, Direction::Write) => {
                return Err(unsupported(&self.info(), "writing to its read side"));
            }
        };
        loop {
            match operation(descriptor.fd.as_fd()) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.blocking && descriptor.pollable => {
                    wait(self.readiness(direction), None)?;
                }
                // The other end of a pty hung up: that is how its stream ends.
                Err(Errno::IO) if descriptor.terminal.is_some() && direction == Direction::Read => {
                    return Ok(0);
                }
                done => return Ok(done?),
            }
        }
    }

    fn seekable(&self) -> io::Result<&Descriptor> {
        match (&self.read, &self.write) {
            (Side::Open(descriptor), _) | (_, Side::Open(descriptor))
                if self.features.contains(Features::SEEK) =>
            {
                Ok(descriptor)
            }
            _ => Err(unsupported(&self.info(), "seeking")),
        }
    }
}

/// As many vectors as the kernel takes, from the first that is not empty: with nothing but empty ones in front, what comes
/// back would look like the end of the stream.
fn first_vectors<T: Deref<Target = [u8]>>(bufs: &[T]) -> &[T] {
    let start = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
    let bufs = bufs.get(start..).unwrap_or_default();
    bufs.get(..MAX_VECTORS).unwrap_or(bufs)
}

/// Likewise, to read into.
fn first_vectors_mut<T: Deref<Target = [u8]>>(bufs: &mut [T]) -> &mut [T] {
    let start = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(0);
    let bufs = bufs.get_mut(start..).unwrap_or_default();
    let n = bufs.len().min(MAX_VECTORS);
    bufs.split_at_mut(n).0
}

impl Channel for FdChannel {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let bufs = first_vectors_mut(bufs);
        self.call(Direction::Read, |fd| rustix::io::readv(fd, bufs))
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = first_vectors(bufs);
        self.call(Direction::Write, |fd| rustix::io::writev(fd, bufs))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        for (direction, side) in [
            (Direction::Read, &mut self.read),
            (Direction::Write, &mut self.write),
        ] {
            if how.includes(direction) && matches!(side, Side::Open(_)) {
                *side = Side::Ended; // closes the descriptor unless the other direction shares it
            }
        }
        Ok(())
    }

    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        if !blocking {
            for side in [&self.read, &self.write] {
                if let Side::Open(descriptor) = side {
                    descriptor.make_nonblocking()?;
                }
            }
        }
        self.blocking = blocking;
        Ok(())
    }

    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        let interest = match direction {
            Direction::Read => Interest::Readable,
            Direction::Write => Interest::Writable,
        };
        match self.side(direction) {
            Side::Open(descriptor) if descriptor.pollable => Readiness::fd(descriptor.fd.as_fd(), interest),
            _ => Readiness::NOW,
        }
    }

    fn features(&self) -> Features {
        self.features
    }

    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            kind: self.kind,
            ..ChannelInfo::default()
        }
    }

    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        let FdChannel {
            read,
            write,
            kind,
            features,
            blocking,
        } = *self;
        Ok((
            Box::new(FdChannel {
                read,
                write: Side::Absent,
                kind,
                features,
                blocking,
            }),
            Box::new(FdChannel {
                read: Side::Absent,
                write,
                kind,
                features,
                blocking,
            }),
        ))
    }

    fn preadv(&mut self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        self.seekable()?;
        let bufs = first_vectors_mut(bufs);
        self.call(Direction::Read, |fd| rustix::io::preadv(fd, bufs, offset))
    }

    fn pwritev(&mut self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.seekable()?;
        let bufs = first_vectors(bufs);
        self.call(Direction::Write, |fd| rustix::io::pwritev(fd, bufs, offset))
    }

    fn seek(&mut self, to: Whence) -> io::Result<u64> {
        let to = match to {
            Whence::Start(at) => rustix::fs::SeekFrom::Start(at),
            Whence::Current(by) => rustix::fs::SeekFrom::Current(by),
            Whence::End(by) => rustix::fs::SeekFrom::End(by),
        };
        Ok(rustix::fs::seek(&self.seekable()?.fd, to)?)
    }
}
