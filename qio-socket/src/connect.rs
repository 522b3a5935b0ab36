//! Connecting: every address in turn, within one deadline.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use qio_channel::{Interest, Readiness};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, socket_with};

use crate::address::{InetAddress, SocketAddress, UnixAddress};
use crate::channel::SocketChannel;
use crate::error::{Attempt, SocketError};
use crate::names;
use crate::resolve::{Purpose, resolve};

/// How to connect.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions {
    /// The time for everything together: looking the name up and trying all its addresses. `None`: as long as
    /// the system takes, which is minutes when nobody answers.
    ///
    /// Of several addresses each gets an equal part of what is left, so that a dead one does not use it all up.
    pub timeout: Option<Duration>,
}

impl ConnectOptions {
    /// No more than this long.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        ConnectOptions {
            timeout: Some(timeout),
        }
    }
}

/// Connects, and blocks until that is done. The channel is in blocking mode.
///
/// A name's addresses are tried in the resolver's order.
///
/// # Errors
/// A [`SocketError`] that lists every address tried, with its reason.
pub fn connect(address: &SocketAddress, options: &ConnectOptions) -> Result<SocketChannel, SocketError> {
    let mut progress = Progress::new(address, options);
    match address {
        SocketAddress::Inet(inet) => match resolve(inet, Purpose::Connect, progress.deadline)? {
            Some(targets) => connect_inet(inet, &targets, progress),
            None => Err(progress.give_up()),
        },
        SocketAddress::Unix(unix) => {
            let target = unix_target(unix)?;
            match connect_unix(&target, progress.deadline).and_then(|fd| SocketChannel::adopt(fd, None)) {
                Ok(channel) => Ok(channel),
                Err(error) => {
                    progress.failed(unix.path.display().to_string(), error);
                    Err(progress.give_up())
                }
            }
        }
        other => Err(unsupported(other)),
    }
}

/// Tries addresses that are already resolved.
fn connect_inet(
    inet: &InetAddress,
    targets: &[SocketAddr],
    mut progress: Progress,
) -> Result<SocketChannel, SocketError> {
    for (index, target) in targets.iter().enumerate() {
        let end = progress.share(targets.len() - index);
        match connect_tcp(*target, inet, end) {
            Ok(channel) => return Ok(channel),
            Err(error) => progress.failed(target.to_string(), error),
        }
    }
    Err(progress.give_up())
}

fn connect_tcp(target: SocketAddr, inet: &InetAddress, end: Option<Instant>) -> io::Result<SocketChannel> {
    let fd = start_tcp(target, inet.mptcp)?;
    while !is_connected(fd.as_fd())? {
        qio_channel::wait(Readiness::fd(fd.as_fd(), Interest::Writable), end)?;
    }
    into_channel(fd, inet)
}

/// Blocks in `connect(2)`, because a full queue of a unix listener is nothing that could be polled for. The
/// kernel applies the socket's send timeout to it.
fn connect_unix(target: &SocketAddrUnix, deadline: Option<Instant>) -> io::Result<OwnedFd> {
    let fd = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    loop {
        if let Some(deadline) = deadline {
            // Zero would mean: without limit.
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            sockopt::set_socket_timeout(&fd, Timeout::Send, Some(left))?;
        }
        match rustix::net::connect(&fd, target) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the listener's queue stayed full",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if deadline.is_some() {
        sockopt::set_socket_timeout(&fd, Timeout::Send, None)?;
    }
    Ok(fd)
}

pub(crate) fn unix_target(unix: &UnixAddress) -> Result<SocketAddrUnix, SocketError> {
    if unix.path.as_os_str().is_empty() && !unix.abstract_name {
        return Err(SocketError::InvalidAddress {
            text: SocketAddress::Unix(unix.clone()).to_string(),
            reason: "the path to connect to is empty".to_owned(),
        });
    }
    names::unix_sockaddr(unix)
}

pub(crate) fn unsupported(address: &SocketAddress) -> SocketError {
    SocketError::Unsupported {
        address: address.to_string(),
        reason: match address {
            SocketAddress::Fd(_) => "addresses of open descriptors are not supported yet; use tcp or unix",
            _ => "addresses of this type are not supported yet; use tcp or unix",
        },
    }
}

/// Opens a TCP socket and starts connecting it, without waiting.
pub(crate) fn start_tcp(target: SocketAddr, mptcp: bool) -> io::Result<OwnedFd> {
    let fd = tcp_socket(target, mptcp)?;
    match rustix::net::connect(&fd, &target) {
        // Interrupted means that it goes on in the background, as with INPROGRESS.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// A non-blocking TCP (or Multipath TCP) socket of the target's family.
pub(crate) fn tcp_socket(target: SocketAddr, mptcp: bool) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let protocol = if mptcp { ipproto::MPTCP } else { ipproto::TCP };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, Some(protocol))?)
}

/// Has a connection that was started come about? `Ok(false)`: not yet.
pub(crate) fn is_connected(fd: BorrowedFd<'_>) -> io::Result<bool> {
    sockopt::socket_error(fd)??;
    match rustix::net::getpeername(fd) {
        Ok(_) => Ok(true),
        // Reset between the two calls: then the error is there now.
        Err(Errno::NOTCONN | Errno::INVAL) => sockopt::socket_error(fd)?
            .map(|()| false)
            .map_err(io::Error::from),
        Err(error) => Err(error.into()),
    }
}

/// A socket of ours, connected: back to the blocking mode that nobody else shares.
pub(crate) fn into_channel(fd: OwnedFd, inet: &InetAddress) -> io::Result<SocketChannel> {
    fcntl_setfl(&fd, fcntl_getfl(&fd)? - OFlags::NONBLOCK)?;
    let channel = SocketChannel::adopt(fd, Some(inet))?;
    // The kernel may pick the very port that we connect to for our own end, and TCP then connects the socket to
    // itself. Nobody listens there.
    if channel.peer_address().is_some() && channel.peer_address() == channel.local_address() {
        return Err(Errno::CONNREFUSED.into());
    }
    Ok(channel)
}

/// What has been tried, and the time that is left.
#[derive(Debug)]
pub(crate) struct Progress {
    address: String,
    timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
    attempts: Vec<Attempt>,
}

impl Progress {
    pub(crate) fn new(address: &SocketAddress, options: &ConnectOptions) -> Self {
        Progress {
            address: address.to_string(),
            timeout: options.timeout,
            // A time beyond what the clock can say is no limit.
            deadline: options
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout)),
            attempts: Vec::new(),
        }
    }

    /// When the next of `left` addresses has had its part of the time.
    pub(crate) fn share(&self, left: usize) -> Option<Instant> {
        let now = Instant::now();
        let parts = u32::try_from(left).unwrap_or(u32::MAX).max(1);
        self.deadline
            .map(|deadline| now + deadline.saturating_duration_since(now) / parts)
    }

    pub(crate) fn failed(&mut self, address: String, error: io::Error) {
        tracing::debug!(target_address = %address, %error, "connection attempt failed");
        self.attempts.push(Attempt { address, error });
    }

    /// The error that tells the whole story.
    pub(crate) fn give_up(self) -> SocketError {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match self.timeout {
            Some(timeout) if late => SocketError::TimedOut {
                address: self.address,
                timeout,
                attempts: self.attempts,
            },
            _ => SocketError::Connect {
                address: self.address,
                attempts: self.attempts,
            },
        }
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
