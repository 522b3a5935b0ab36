//! The channel over a connected stream socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use qio_channel::{
    BoxChannel, Channel, ChannelInfo, Direction, Features, Interest, Readiness, Shutdown, SplitError,
    unsupported,
};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketType, recvmsg,
    sendmsg, sockopt,
};

use crate::address::{InetAddress, SocketAddress};
use crate::error::SocketError;
use crate::{fds, names};

/// The kernel refuses more vectors in one call (`UIO_MAXIOV`); a longer list becomes a short read or write.
const MAX_VECTORS: usize = 1024;

/// A connected stream socket: TCP, unix, or any other descriptor of that kind.
///
/// Made by [`connect`](crate::connect), by a [`Listener`](crate::Listener), or from a descriptor.
///
/// Non-blocking mode belongs to this object and not to the socket: every call says for itself whether it may
/// wait (`MSG_DONTWAIT`). Another process that shares the socket, and the other half after
/// [`into_split`](Channel::into_split), keep their own mode.
///
/// On TCP, small writes leave at once (`TCP_NODELAY`); [`set_delay`](Channel::set_delay) and
/// [`set_cork`](Channel::set_cork) change that. Unix sockets pass descriptors. A write to a peer that is gone
/// is an error, never a signal.
///
/// ```
/// use qio_channel::{Channel, ChannelExt};
/// use qio_socket::SocketChannel;
///
/// let (mut a, mut b) = SocketChannel::pair()?;
/// a.write_all(b"ping")?;
/// let mut ping = [0; 4];
/// b.read_exact(&mut ping)?;
/// assert_eq!(&ping, b"ping");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SocketChannel {
    fd: OwnedFd,
    family: Family,
    blocking: bool,
    // Asked once: a log line or an error must not depend on the peer being still there.
    local: Option<SocketAddress>,
    peer: Option<SocketAddress>,
}

/// What the family of a socket decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Tcp,
    Unix,
    Other,
}

impl SocketChannel {
    /// Adopts a connected stream socket. It may be non-blocking, or shared with others.
    ///
    /// # Errors
    /// [`SocketError::NotAStreamSocket`] for anything else, and the descriptor is closed.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SocketError> {
        let refuse = |found: &str| SocketError::NotAStreamSocket {
            fd: fd.as_raw_fd(),
            found: found.to_owned(),
        };
        let stat = fstat(&fd).map_err(SocketError::system("looking at a descriptor"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => {}
            FileType::RegularFile => return Err(refuse("a file")),
            FileType::Directory => return Err(refuse("a directory")),
            FileType::Fifo => return Err(refuse("a pipe")),
            FileType::CharacterDevice => return Err(refuse("a character device")),
            FileType::BlockDevice => return Err(refuse("a block device")),
            _ => return Err(refuse("no socket")),
        }
        match sockopt::socket_type(&fd).map_err(SocketError::system("asking for a socket's type"))? {
            SocketType::STREAM => {}
            SocketType::DGRAM => return Err(refuse("a datagram socket")),
            SocketType::SEQPACKET => return Err(refuse("a sequenced packet socket")),
            _ => return Err(refuse("a socket of another type")),
        }
        if sockopt::socket_acceptconn(&fd).map_err(SocketError::system("asking whether a socket listens"))? {
            return Err(refuse("a listening socket"));
        }
        match rustix::net::getpeername(&fd) {
            Ok(_) => {}
            Err(Errno::NOTCONN | Errno::INVAL) => return Err(refuse("a socket that is not connected")),
            Err(error) => return Err(SocketError::system("asking for a socket's peer")(error)),
        }
        Self::adopt(fd, None).map_err(SocketError::system("setting up a socket"))
    }

    /// Two connected unix sockets, for tests and for talking to a child process.
    ///
    /// # Errors
    /// What `socketpair(2)` reports.
    pub fn pair() -> io::Result<(Self, Self)> {
        use rustix::net::{SocketFlags, socketpair};
        let (a, b) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self::adopt(a, None)?, Self::adopt(b, None)?))
    }

    /// Takes over a socket that is known to be a connected stream socket, with the options of the address
    /// that it was made for. The peer may be gone already; then its address stays unknown.
    pub(crate) fn adopt(fd: OwnedFd, options: Option<&InetAddress>) -> io::Result<Self> {
        let family = match sockopt::socket_domain(&fd)? {
            AddressFamily::INET | AddressFamily::INET6 => Family::Tcp,
            AddressFamily::UNIX => Family::Unix,
            _ => Family::Other,
        };
        if family == Family::Tcp {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        if let Some(options) = options {
            keep_alive(fd.as_fd(), options)?;
        }
        let (local, peer) = (names::local_address(fd.as_fd()), names::peer_address(fd.as_fd()));
        Ok(SocketChannel {
            fd,
            family,
            blocking: true,
            local,
            peer,
        })
    }

    /// Our own end's address; unnamed unix sockets have none.
    #[must_use]
    pub fn local_address(&self) -> Option<&SocketAddress> {
        self.local.as_ref()
    }

    /// The peer's address. Unix clients are mostly unnamed.
    #[must_use]
    pub fn peer_address(&self) -> Option<&SocketAddress> {
        self.peer.as_ref()
    }

    /// Runs one system call as this channel's mode wants it.
    ///
    /// A socket that we adopted may be `O_NONBLOCK` for somebody else's sake, so `EAGAIN` in blocking mode
    /// means: wait, and try again.
    fn call<T>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> io::Result<T> {
        loop {
            match operation(self.fd.as_fd()) {
                Ok(value) => return Ok(value),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.blocking => qio_channel::wait(self.readiness(direction), None)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn recv_flags(&self) -> RecvFlags {
        if self.blocking {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        }
    }

    fn send_flags(&self) -> SendFlags {
        SendFlags::NOSIGNAL
            | if self.blocking {
                SendFlags::empty()
            } else {
                SendFlags::DONTWAIT
            }
    }

    /// Without room for control messages, the kernel drops descriptors that come with the data.
    fn receive(&mut self, bufs: &mut [IoSliceMut<'_>], flags: RecvFlags) -> io::Result<usize> {
        let bufs = window_mut(bufs);
        if bufs.is_empty() {
            return Ok(0);
        }
        let flags = flags | self.recv_flags();
        self.call(Direction::Read, |fd| {
            recvmsg(fd, bufs, &mut RecvAncillaryBuffer::default(), flags).map(|message| message.bytes)
        })
    }
}

/// The vectors that one call takes: none before the first that has room (an empty read would look like the end
/// of the stream), and no more than the kernel accepts.
fn window_mut<'a, 'b>(bufs: &'a mut [IoSliceMut<'b>]) -> &'a mut [IoSliceMut<'b>] {
    let first = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(bufs.len());
    let end = bufs.len().min(first + MAX_VECTORS);
    bufs.get_mut(first..end).unwrap_or_default()
}

fn window<'a, 'b>(bufs: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    let first = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(bufs.len());
    let end = bufs.len().min(first + MAX_VECTORS);
    bufs.get(first..end).unwrap_or_default()
}

fn keep_alive(fd: BorrowedFd<'_>, options: &InetAddress) -> io::Result<()> {
    use std::time::Duration;
    let seconds = |value: Option<u32>| value.filter(|n| *n != 0).map(|n| Duration::from_secs(n.into()));
    if options.keep_alive {
        sockopt::set_socket_keepalive(fd, true)?;
    }
    if let Some(count) = options.keep_alive_count.filter(|n| *n != 0) {
        sockopt::set_tcp_keepcnt(fd, count)?;
    }
    if let Some(idle) = seconds(options.keep_alive_idle) {
        sockopt::set_tcp_keepidle(fd, idle)?;
    }
    if let Some(interval) = seconds(options.keep_alive_interval) {
        sockopt::set_tcp_keepintvl(fd, interval)?;
    }
    Ok(())
}

impl Channel for SocketChannel {
    fn readv(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive(bufs, RecvFlags::empty())
    }

    fn writev(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = window(bufs);
        if bufs.is_empty() {
            return Ok(0);
        }
        let flags = self.send_flags();
        self.call(Direction::Write, |fd| {
            sendmsg(fd, bufs, &mut SendAncillaryBuffer::default(), flags)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // what was accepted is with the kernel
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        match rustix::net::shutdown(&self.fd, how) {
            // The peer has ended the connection before us, which is as good.
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn set_blocking(&mut self, blocking: bool) -> io::Result<()> {
        self.blocking = blocking;
        Ok(())
    }

    fn readiness(&self, direction: Direction) -> Readiness<'_> {
        let interest = match direction {
            Direction::Read => Interest::Readable,
            Direction::Write => Interest::Writable,
        };
        Readiness::fd(self.fd.as_fd(), interest)
    }

    fn features(&self) -> Features {
        let common = Features::SHUTDOWN | Features::SPLIT | Features::PEEK;
        if self.family == Family::Unix {
            common | Features::FD_PASS
        } else {
            common
        }
    }

    fn info(&self) -> ChannelInfo {
        ChannelInfo {
            kind: match self.family {
                Family::Tcp => "tcp",
                Family::Unix => "unix",
                Family::Other => "socket",
            },
            local: self.local.as_ref().map(ToString::to_string),
            peer: self.peer.as_ref().map(ToString::to_string),
            tls: None,
        }
    }

    fn into_split(self: Box<Self>) -> Result<(BoxChannel, BoxChannel), SplitError> {
        match self.fd.try_clone() {
            Ok(fd) => {
                let other = SocketChannel {
                    fd,
                    family: self.family,
                    blocking: self.blocking,
                    local: self.local.clone(),
                    peer: self.peer.clone(),
                };
                Ok((self, Box::new(other)))
            }
            Err(error) => Err(SplitError { channel: self, error }),
        }
    }

    fn readv_fds(&mut self, bufs: &mut [IoSliceMut<'_>], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        if self.family != Family::Unix {
            return Err(unsupported(&self.info(), "receiving descriptors"));
        }
        let bufs = window_mut(bufs);
        if bufs.is_empty() {
            return Ok(0);
        }
        let flags = self.recv_flags();
        let received = self.call(Direction::Read, |fd| fds::receive(fd, bufs, flags))?;
        match received.fds {
            Ok(new) => {
                fds.extend(new);
                Ok(received.bytes)
            }
            Err(error) => {
                // The data that came with them is lost as well, so the stream cannot go on.
                let _ = self.shutdown(Shutdown::Both);
                Err(error)
            }
        }
    }

    fn writev_fds(&mut self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if self.family != Family::Unix {
            return Err(unsupported(&self.info(), "passing descriptors"));
        }
        let bufs = window(bufs);
        fds::check(bufs, fds)?;
        if bufs.is_empty() {
            return Ok(0);
        }
        let flags = self.send_flags();
        self.call(Direction::Write, |fd| fds::send(fd, bufs, fds, flags))
    }

    fn peek(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.receive(bufs, RecvFlags::PEEK)
    }

    fn set_cork(&mut self, cork: bool) -> io::Result<()> {
        match self.family {
            Family::Tcp => Ok(sockopt::set_tcp_cork(&self.fd, cork)?),
            Family::Unix | Family::Other => Ok(()),
        }
    }

    fn set_delay(&mut self, delay: bool) -> io::Result<()> {
        match self.family {
            Family::Tcp => Ok(sockopt::set_tcp_nodelay(&self.fd, !delay)?),
            Family::Unix | Family::Other => Ok(()),
        }
    }
}

impl AsFd for SocketChannel {
    /// Lent for polling and for socket options; reading or writing it directly breaks the layers above it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The socket itself, for another library. It is in the mode it was in when it was adopted.
impl From<SocketChannel> for OwnedFd {
    fn from(channel: SocketChannel) -> Self {
        channel.fd
    }
}
