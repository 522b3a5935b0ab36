//! What can go wrong for a client.

use std::io;
use std::time::Duration;

use qio_socket::SocketError;
use qio_tls::TlsError;

use crate::cause::from_cause;
use crate::negotiation::{NegotiationError, OptionRefusal};
use crate::transmission::ReplyError;
use crate::wire::ErrorNumber;

/// Why there is no connection, or no export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] SocketError),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// TLS credentials that verify the server, and nothing to verify.
    #[error(
        "TLS needs the server's name to verify its certificate, and there is no host in the address: give tls-hostname (--tls-hostname, or ?tls-hostname= in the URI)"
    )]
    NoName,
    /// The negotiation failed.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The server would not.
    #[error("{0}")]
    Refused(OptionRefusal),
    /// The server took too long.
    #[error("the server did not finish negotiating within {0:?}")]
    Timeout(Duration),
    /// The server hung up.
    #[error(
        "the server closed the connection during negotiation; it may have refused the export or the client, and its log will say why"
    )]
    Closed,
    /// The connection broke.
    #[error("the connection broke during negotiation: {0}")]
    Io(io::Error),
    /// The session had ended before.
    #[error("this session has ended")]
    Ended,
}

from_cause!(ClientError::Io(io::Error));

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The server could not do it. The connection goes on.
    #[error("the server failed to serve the request: {error}{}", said(text))]
    Server {
        /// The number.
        error: ErrorNumber,
        /// The server's own words; may be empty.
        text: String,
    },
    /// The connection is of no more use, and every request that was in flight has failed.
    #[error("the connection to the server is lost: {0}")]
    Lost(String),
    /// Not sent: the export is read-only.
    #[error("the export is read-only")]
    ReadOnly,
    /// Not sent: the server did not offer it.
    #[error("the server does not offer {0} for this export")]
    NotOffered(&'static str),
    /// Not sent: not inside the export.
    #[error("{length} bytes at offset {offset} are past the end of the export, which has {size} bytes")]
    PastEnd {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// The export's size in bytes.
        size: u64,
    },
    /// Not sent: the server insists on larger blocks.
    #[error("{length} bytes at offset {offset} are not aligned to the export's blocks of {minimum} bytes")]
    Unaligned {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// The minimum block size in bytes.
        minimum: u64,
    },
    /// Not sent: more than one request can carry.
    #[error("{length} bytes are too many for one request: at most {maximum}")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The most this export takes at once.
        maximum: u32,
    },
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        RequestError::Lost(error.to_string())
    }
}

impl From<ReplyError> for RequestError {
    fn from(error: ReplyError) -> Self {
        RequestError::Lost(error.to_string())
    }
}

impl From<RequestError> for io::Error {
    fn from(error: RequestError) -> Self {
        let kind = match &error {
            RequestError::Server { error, .. } => error.kind(),
            RequestError::Lost(_) => io::ErrorKind::ConnectionAborted,
            RequestError::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            RequestError::NotOffered(_) => io::ErrorKind::Unsupported,
            RequestError::PastEnd { .. } | RequestError::Unaligned { .. } | RequestError::TooLong { .. } => {
                io::ErrorKind::InvalidInput
            }
        };
        io::Error::new(kind, error)
    }
}

fn said(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(" (it says: {text})")
    }
}
