//! How connections and servers end.

use std::fmt;
use std::io;
use std::time::Duration;

use qio_socket::SocketError;
use qio_tls::TlsError;
use tokio::task::JoinError;

use crate::cause::from_cause;
use crate::negotiation::CloseReason;
use crate::transmission::RequestStreamError;
use crate::wire::OptionCode;

/// How a connection ended that did nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The client ended the negotiation, having learned what it wanted.
    Aborted,
    /// The client said goodbye: `NBD_CMD_DISC`.
    Disconnected,
    /// The client closed without saying goodbye.
    Vanished,
    /// The server was stopped.
    Stopped,
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionEnd::Aborted => "the client left without choosing an export",
            ConnectionEnd::Disconnected => "the client disconnected",
            ConnectionEnd::Vanished => "the client closed the connection without disconnecting",
            ConnectionEnd::Stopped => "the server was stopped",
        })
    }
}

/// Why a connection was ended. It concerns no other connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The negotiation failed.
    #[error("negotiation failed: {0}")]
    Negotiation(CloseReason),
    /// What the client asked for was refused, and it left.
    #[error("the client was refused {option:?}, and left: {why}")]
    TurnedAway {
        /// The option that was refused.
        option: OptionCode,
        /// Why.
        why: String,
    },
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The client took too long to choose an export.
    #[error("the client did not finish negotiating within {0:?}")]
    HandshakeTimeout(Duration),
    /// The stream of requests cannot be followed.
    #[error(transparent)]
    Requests(#[from] RequestStreamError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The export panicked. The client cannot be told which request will never be answered.
    #[error("the export failed to serve a request: {0}")]
    Export(JoinError),
    /// The connection was over, because the client left or the server was stopped, but for replies that the client
    /// did not take.
    #[error("the client did not take its last replies within {0:?}")]
    CloseTimeout(Duration),
}

from_cause!(
    ConnectionError::Negotiation(CloseReason),
    ConnectionError::Io(io::Error),
    ConnectionError::Export(JoinError)
);

/// Why a server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Accepting failed for good.
    #[error(transparent)]
    Accept(#[from] SocketError),
}
