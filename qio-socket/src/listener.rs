//! Accepting from any number of listening sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::address::{InetAddress, SocketAddress};
use crate::bind;
use crate::channel::SocketChannel;
use crate::error::SocketError;
use crate::unix_path::BoundPath;

/// How to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// How many connections the kernel keeps waiting per socket. The system's own limit
    /// (`net.core.somaxconn`) also holds.
    pub backlog: u16,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions { backlog: 4096 }
    }
}

/// A set of listening sockets, accepted from as if they were one.
///
/// * [`accept`](Listener::accept) blocks, [`try_accept`](Listener::try_accept) does not: pick one per call.
///   For an event loop, register [`sockets`](Listener::sockets). For tokio there is `into_async`.
/// * To pause, do not call them: clients wait in the kernel's queue, and connect as soon as accepting goes on.
/// * Errors of single connections (a client that left before it was accepted) are skipped. Running out of
///   descriptors is [`SocketError::OutOfResources`], for the caller to free some or wait.
/// * Unix sockets' files are removed when the listener is dropped.
///
/// ```
/// use qio_socket::{ConnectOptions, ListenOptions, Listener, connect};
///
/// let listener = Listener::bind(&["127.0.0.1:0".parse()?], &ListenOptions::default())?;
/// let address = listener.local_addresses().next().unwrap();
/// let client = connect(address, &ConnectOptions::default())?;
/// let server = listener.accept()?;
/// assert_eq!(server.peer_address(), client.local_address());
/// # Ok::<(), qio_socket::SocketError>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<ListeningSocket>,
    /// The socket to ask first, so that a busy one does not starve the others.
    next: AtomicUsize,
}

/// One socket of a [`Listener`]; always non-blocking, since a client may vanish between `poll` and `accept`.
#[derive(Debug)]
pub(crate) struct ListeningSocket {
    /// Before `fd`: while the socket is open the file's inode number cannot come to name another file, so that
    /// the check whether it is still ours is exact.
    pub(crate) _path: Option<BoundPath>,
    pub(crate) fd: OwnedFd,
    pub(crate) address: SocketAddress,
    /// Options for accepted connections, from the address.
    pub(crate) options: Option<InetAddress>,
}

impl Listener {
    /// Listens on every address given, and on everything that each of them resolves to.
    ///
    /// * Port 0 lets the kernel choose; see [`local_addresses`](Listener::local_addresses) for what it chose.
    /// * With `to=`, the first free port of the range is taken.
    /// * Of several addresses of one name, some may fail (a machine without IPv6); all may not.
    /// * A file at a unix socket's path is replaced only if it is a socket that nobody listens on.
    ///
    /// Looking names up blocks.
    ///
    /// # Errors
    /// A [`SocketError`]; no socket stays open and no file behind.
    pub fn bind(addresses: &[SocketAddress], options: &ListenOptions) -> Result<Self, SocketError> {
        if addresses.is_empty() {
            return Err(SocketError::NoAddress);
        }
        let mut sockets = Vec::new();
        for address in addresses {
            sockets.extend(bind::listen_on(address, *options)?);
        }
        for socket in &sockets {
            tracing::debug!(address = %socket.address, "listening");
        }
        Ok(Listener {
            sockets,
            next: AtomicUsize::new(0),
        })
    }

    /// What is listened on: numeric, with the ports that were really taken.
    pub fn local_addresses(&self) -> impl Iterator<Item = &SocketAddress> {
        self.sockets.iter().map(|socket| &socket.address)
    }

    /// The sockets, to poll for readability together with other things. They are non-blocking.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.fd.as_fd())
    }

    /// Waits for a connection on any of the sockets. Several threads may call this at the same time.
    ///
    /// # Errors
    /// [`SocketError::OutOfResources`], after which accepting may be tried again, later; or
    /// [`SocketError::Accept`].
    pub fn accept(&self) -> Result<SocketChannel, SocketError> {
        loop {
            if let Some(channel) = self.try_accept()? {
                return Ok(channel);
            }
            let mut polled: Vec<_> = self
                .sockets()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            match poll(&mut polled, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::NOMEM) => {
                    return Err(SocketError::OutOfResources {
                        source: Errno::NOMEM.into(),
                    });
                }
                Err(error) => return Err(SocketError::system("waiting for a connection")(error)),
            }
        }
    }

    /// Accepts a connection that is waiting, if there is one. Never blocks.
    ///
    /// # Errors
    /// As [`accept`](Listener::accept).
    pub fn try_accept(&self) -> Result<Option<SocketChannel>, SocketError> {
        for index in self.turn() {
            if let Some(channel) = self.try_accept_from(index)? {
                return Ok(Some(channel));
            }
        }
        Ok(None)
    }

    /// All sockets' indices, beginning with another one each time.
    pub(crate) fn turn(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.sockets.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..count).map(move |step| first.wrapping_add(step) % count)
    }

    pub(crate) fn try_accept_from(&self, index: usize) -> Result<Option<SocketChannel>, SocketError> {
        let Some(socket) = self.sockets.get(index) else {
            return Ok(None);
        };
        loop {
            // Every round takes one connection off the queue, so this ends when the queue does.
            let error = match accept_with(&socket.fd, SocketFlags::CLOEXEC) {
                Ok(fd) => match SocketChannel::adopt(fd, socket.options.as_ref()) {
                    Ok(channel) => return Ok(Some(channel)),
                    Err(error) => {
                        tracing::debug!(address = %socket.address, %error, "a connection ended while being set up");
                        continue;
                    }
                },
                Err(error) => error,
            };
            match error {
                Errno::AGAIN => return Ok(None),
                error if concerns_one_connection(error) => {
                    tracing::debug!(address = %socket.address, %error, "a connection ended before it was accepted");
                }
                Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                    return Err(SocketError::OutOfResources { source: error.into() });
                }
                error => {
                    let address = socket.address.to_string();
                    return Err(SocketError::Accept {
                        address,
                        source: io::Error::from(error),
                    });
                }
            }
        }
    }
}

/// Errors of `accept(2)` that the next call does not repeat: Linux reports a new connection's pending network
/// errors through it.
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NOPROTOOPT
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::NONET
            | Errno::CONNRESET
            | Errno::TIMEDOUT
    )
}
