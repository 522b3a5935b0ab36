//! What can go wrong before a channel exists. (After that it is `io::Error`.)

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One address that was tried, and why it did not do.
#[derive(Debug)]
pub struct Attempt {
    /// The address, numeric or a path.
    pub address: String,
    /// What the system said.
    pub error: io::Error,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.error)
    }
}

/// Why an address could not be understood, connected to or listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The text is no address, or what it says contradicts itself.
    #[error("'{text}' is not a usable socket address: {reason}")]
    InvalidAddress {
        /// The address as given.
        text: String,
        /// What is wrong with it, and what to write.
        reason: String,
    },
    /// Understood, but not something this version can do.
    #[error("cannot use '{address}': {reason}")]
    Unsupported {
        /// The address.
        address: String,
        /// What is missing, and what to use instead.
        reason: &'static str,
    },
    /// A unix socket's path does not fit.
    #[error("the unix socket path '{}' has {length} bytes, at most {limit} fit: use a shorter one", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
        /// The longest possible.
        limit: usize,
    },
    /// A unix socket's path has a NUL inside.
    #[error("the unix socket path {path:?} has a NUL byte inside: remove it")]
    PathHasNul {
        /// The path.
        path: PathBuf,
    },
    /// The host's name could not be looked up.
    #[error("cannot look up the host '{host}': {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The name exists but has no address of a wanted family.
    #[error("the host '{host}' has no {wanted} address: check the ipv4= and ipv6= options")]
    NoSuchFamily {
        /// The name.
        host: String,
        /// `IPv4` or `IPv6`.
        wanted: &'static str,
    },
    /// None of the addresses took the connection.
    #[error("cannot connect to {address}: {}", list(attempts))]
    Connect {
        /// The address asked for.
        address: String,
        /// All that it resolved to, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// The time was over before any address took the connection.
    #[error("cannot connect to {address} within {timeout:?}{}", tried(attempts))]
    TimedOut {
        /// The address asked for.
        address: String,
        /// The time that was allowed in all.
        timeout: Duration,
        /// What was tried before; empty if the time went into looking up the name.
        attempts: Vec<Attempt>,
    },
    /// None of an address's sockets could be opened.
    #[error("cannot listen on {address}: {}", list(attempts))]
    Listen {
        /// The address asked for.
        address: String,
        /// All that it resolved to, in the order tried.
        attempts: Vec<Attempt>,
    },
    /// No address was given to listen on.
    #[error("cannot listen: no address was given")]
    NoAddress,
    /// Another process answers at this path.
    #[error(
        "cannot listen on 'unix:{}': another process is listening there; stop it, or use another path",
        path.display()
    )]
    PathInUse {
        /// The path.
        path: PathBuf,
    },
    /// What lies at this path is not a stream socket, and is not ours to remove.
    #[error(
        "cannot listen on 'unix:{}': there is {found}; remove it, or use another path",
        path.display()
    )]
    PathNotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// Descriptors or memory have run out while accepting. The listener is unharmed and the client still waits
    /// in its queue: close something, or wait, before accepting again.
    #[error("cannot accept a connection now: {source}; close connections, or raise the limit (ulimit -n)")]
    OutOfResources {
        /// `EMFILE`, `ENFILE`, `ENOBUFS` or `ENOMEM`.
        source: io::Error,
    },
    /// Accepting failed for good.
    #[error("cannot accept connections on {address}: {source}")]
    Accept {
        /// The listening address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A descriptor that was handed to us cannot be a socket channel.
    #[error(
        "descriptor {fd} cannot be used as a socket channel: it is {found}, expected a connected stream socket"
    )]
    NotAStreamSocket {
        /// The descriptor's number.
        fd: i32,
        /// What it is instead.
        found: String,
    },
    /// A system call failed that should not have.
    #[error("{doing} failed: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl SocketError {
    /// For `map_err`: a system call's error with what was being done.
    pub(crate) fn system<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| SocketError::System {
            doing,
            source: error.into(),
        }
    }
}

/// For callers whose own errors are I/O errors. The text is kept, and the kind where one fits.
impl From<SocketError> for io::Error {
    fn from(error: SocketError) -> Self {
        let kind = match &error {
            SocketError::InvalidAddress { .. }
            | SocketError::PathTooLong { .. }
            | SocketError::PathHasNul { .. }
            | SocketError::NoAddress
            | SocketError::NotAStreamSocket { .. } => io::ErrorKind::InvalidInput,
            SocketError::Unsupported { .. } => io::ErrorKind::Unsupported,
            SocketError::NoSuchFamily { .. } => io::ErrorKind::NotFound,
            SocketError::TimedOut { .. } => io::ErrorKind::TimedOut,
            SocketError::PathInUse { .. } | SocketError::PathNotASocket { .. } => io::ErrorKind::AddrInUse,
            SocketError::Connect { attempts, .. } | SocketError::Listen { attempts, .. } => attempts
                .last()
                .map_or(io::ErrorKind::Other, |attempt| attempt.error.kind()),
            SocketError::Resolve { source, .. }
            | SocketError::OutOfResources { source }
            | SocketError::Accept { source, .. }
            | SocketError::System { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

fn list(attempts: &[Attempt]) -> String {
    attempts
        .iter()
        .map(Attempt::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn tried(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        " (looking up its name)".to_owned()
    } else {
        format!(" ({})", list(attempts))
    }
}
