//! An NBD server over any channels, driven by tokio.
//!
//! ```no_run
//! use std::sync::Arc;
//! use qio_nbd::export::{MemoryExport, OpenOptions};
//! use qio_nbd::server::Server;
//! use qio_socket::{ListenOptions, Listener, SocketAddress};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder()
//!     .export("".parse()?, "scratch space", Arc::new(MemoryExport::new(64 << 20)))
//!     .export("disk".parse()?, "", Arc::new(OpenOptions::new().open("/srv/disk.img")?))
//!     .build();
//! let listener = Listener::bind(&[SocketAddress::tcp("localhost", 10809)], &ListenOptions::default())?;
//! server.serve(listener).await?;
//! # Ok(()) }
//! ```

mod acceptor;
mod budget;
mod builder;
mod connection;
mod end;
mod handshake;
mod output;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use qio_channel::BoxChannel;
use qio_socket::Listener;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use crate::buffer::BufferPool;
use crate::export::Export;
use crate::facts::ExportInfo;
use crate::limits;
use crate::name::ExportName;
use crate::negotiation::TlsPolicy;

use acceptor::{Accepted, Acceptor};
pub use builder::ServerBuilder;
pub use end::{ConnectionEnd, ConnectionError, ServeError};
pub use tls::{RestrictedTls, ServerTls, UnverifiedClients};

/// Bytes of buffers kept for the next requests, by a whole server.
const POOLED_BYTES: usize = 32 << 20;

/// When a server has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// When it is stopped.
    Persistent,
    /// When it is stopped, or when the last connection is gone, once any client has got as far as an export.
    UntilIdle,
}

/// What clients can make a server hold. The defaults are those of [`limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; accepting pauses there. At least 1. With 1, clients are not told that several
    /// connections work well together.
    pub max_connections: usize,
    /// Connections at once that have not chosen an export yet. At least 1.
    pub max_unauthenticated: usize,
    /// Requests of one connection that are worked on, or whose reply is not sent yet. At least 1.
    pub max_in_flight: usize,
    /// Bytes that these hold. One request is always served, however large.
    pub max_in_flight_bytes: usize,
    /// Bytes that those of all connections together hold. Beyond it each connection is served one request at a
    /// time.
    pub max_server_bytes: usize,
    /// From accepting to the choice of an export, TLS included; `None` for no limit.
    pub handshake_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: limits::MAX_CONNECTIONS,
            max_unauthenticated: limits::MAX_UNAUTHENTICATED,
            max_in_flight: limits::MAX_IN_FLIGHT,
            max_in_flight_bytes: limits::MAX_IN_FLIGHT_BYTES,
            max_server_bytes: limits::MAX_SERVER_BYTES,
            handshake_timeout: Some(limits::HANDSHAKE_TIMEOUT),
        }
    }
}

/// One export and what is said about it.
struct Served {
    export: Arc<dyn Export>,
    info: ExportInfo,
}

/// What all connections of a server share.
struct Shared {
    exports: BTreeMap<ExportName, Served>,
    default_export: Option<ExportName>,
    tls: ServerTls,
    limits: Limits,
    lifetime: Lifetime,
    pool: BufferPool,
    /// Bytes of payload that all connections hold.
    held: Arc<AtomicUsize>,
    stop: watch::Sender<bool>,
}

impl Shared {
    /// The export a client means by `name`.
    fn find(&self, name: &ExportName) -> Option<&Served> {
        self.exports.get(name).or_else(|| {
            let default = self
                .default_export
                .as_ref()
                .filter(|_| name.as_str().is_empty())?;
            self.exports.get(default)
        })
    }

    fn policy(&self) -> TlsPolicy {
        match self.tls {
            ServerTls::Off => TlsPolicy::Off,
            ServerTls::Required(_) | ServerTls::Restricted(_) => TlsPolicy::Required,
        }
    }

    fn max_options(&self) -> u32 {
        let exports = u32::try_from(self.exports.len()).unwrap_or(u32::MAX);
        limits::MAX_OPTIONS.saturating_add(exports.saturating_mul(limits::MAX_OPTIONS_PER_EXPORT))
    }

    /// Waits until the server is to stop.
    async fn stopped(&self) {
        // An error means that the sender is gone, and it is in `self`.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// A server and its exports. Cloning it makes another handle to the same server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("exports", &self.shared.exports.keys())
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

/// What a connection's task reports to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It got as far as an export.
    Negotiated,
    /// It did not.
    TurnedAway,
}

impl Server {
    /// Starts putting a server together.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            exports: BTreeMap::new(),
            default_export: None,
            tls: ServerTls::Off,
            limits: Limits::default(),
            lifetime: Lifetime::Persistent,
        }
    }

    /// Makes every [`serve`](Self::serve) of this server end: no more requests are taken, what is in flight is
    /// finished, and `serve` returns, all within a few seconds.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Accepts and serves clients until the server is stopped, or idle if its [`Lifetime`] says so.
    ///
    /// At the limits accepting pauses: clients wait in the listener's queue. When this returns, no task is
    /// left behind. Dropping the future drops all connections.
    ///
    /// # Errors
    /// When the listener fails for good. Nothing a client does has that effect.
    pub async fn serve(&self, listener: Listener) -> Result<(), ServeError> {
        let mut acceptor = Acceptor::new(listener.into_async()?, &self.shared.limits);
        let mut connections = JoinSet::new();
        let mut served_any = false;
        let result = loop {
            tokio::select! {
                biased;
                () = self.shared.stopped() => break Ok(()),
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    // The last to leave may be one that was turned away.
                    served_any |= self.note_end(ended) == Progress::Negotiated;
                    if connections.is_empty() {
                        // Buffers are kept for clients that are there, not for those that may come.
                        self.shared.pool.clear();
                    }
                    if served_any && connections.is_empty() && self.shared.lifetime == Lifetime::UntilIdle {
                        tracing::info!("the last client has left");
                        break Ok(());
                    }
                }
                accepted = acceptor.accept() => match accepted {
                    Ok(accepted) => {
                        connections.spawn(self.clone().run(accepted));
                    }
                    Err(error) => break Err(ServeError::Accept(error)),
                },
            }
        };
        drop(acceptor);
        self.stop();
        // Every connection ends by itself within the close timeout; this waits for them to have done so.
        while let Some(ended) = connections.join_next().await {
            self.note_end(ended);
        }
        result
    }

    /// Serves one client on a channel that is already connected: a socket pair, stdin and stdout, a test's double.
    ///
    /// # Errors
    /// Why the connection was ended.
    pub async fn serve_channel(&self, channel: BoxChannel) -> Result<ConnectionEnd, ConnectionError> {
        let (_, result) = self.converse(channel, None).await;
        result
    }

    fn note_end(&self, ended: Result<Progress, JoinError>) -> Progress {
        ended.unwrap_or_else(|error| {
            tracing::error!(%error, "a connection's task failed; this is a bug");
            Progress::TurnedAway
        })
    }

    /// A connection's task: serves, and logs how it went.
    async fn run(self, accepted: Accepted) -> Progress {
        let Accepted {
            channel,
            slot,
            unauthenticated,
        } = accepted;
        let info = channel.info();
        // Of the highest level, so that the line of a refusal names the peer whatever is logged besides.
        let span = tracing::error_span!("nbd", peer = info.peer.as_deref().unwrap_or(info.kind));
        async {
            let (progress, result) = self.converse(channel, Some(unauthenticated)).await;
            match result {
                Ok(end) => tracing::info!("connection ended: {end}"),
                Err(error) => tracing::warn!("connection ended: {error}"),
            }
            drop(slot);
            progress
        }
        .instrument(span)
        .await
    }

    async fn converse(
        &self,
        channel: BoxChannel,
        unauthenticated: Option<OwnedSemaphorePermit>,
    ) -> (Progress, Result<ConnectionEnd, ConnectionError>) {
        let shared = &self.shared;
        let negotiated = tokio::select! {
            biased;
            () = shared.stopped() => return (Progress::TurnedAway, Ok(ConnectionEnd::Stopped)),
            negotiated = handshake::negotiate(channel, shared) => negotiated,
        };
        drop(unauthenticated);
        match negotiated {
            Ok(handshake::Outcome::Serve(connection)) => {
                (Progress::Negotiated, connection.run(shared.stopped()).await)
            }
            Ok(handshake::Outcome::Ended(end)) => (Progress::TurnedAway, Ok(end)),
            Err(error) => (Progress::TurnedAway, Err(error)),
        }
    }
}
