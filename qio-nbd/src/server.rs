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

mod budget;
mod connection;
mod handshake;
mod output;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use qio_channel::BoxChannel;
use qio_creds::ServerCreds;
use qio_socket::{AsyncListener, Listener, SocketError};
use qio_tls::TlsError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument;

use crate::buffer::BufferPool;
use crate::cause::from_cause;
use crate::export::Export;
use crate::facts::ExportInfo;
use crate::limits;
use crate::name::ExportName;
use crate::negotiation::{CloseReason, TlsPolicy};
use crate::transmission::RequestStreamError;
use crate::wire::{OptionCode, TransmissionFlags};

/// Bytes of buffers kept for the next requests, by a whole server.
const POOLED_BYTES: usize = 32 << 20;

/// How long accepting rests when descriptors or memory have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// How clients have to protect what they say.
#[derive(Debug, Clone)]
pub enum ServerTls {
    /// Everything is in clear text.
    Off,
    /// Clients must negotiate TLS before anything else; nothing about exports is told before.
    Required(ServerCreds),
}

/// When a server has done its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// When it is stopped.
    Persistent,
    /// When it is stopped, or when the last client has left that got as far as an export.
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

/// Puts a [`Server`] together. A server does nothing before it has everything: there is no half-made one.
#[must_use]
pub struct ServerBuilder {
    exports: BTreeMap<ExportName, (Arc<dyn Export>, String)>,
    default_export: Option<ExportName>,
    tls: ServerTls,
    limits: Limits,
    lifetime: Lifetime,
}

impl ServerBuilder {
    /// Adds an export, or replaces the one of that name. The description is for people, and may be empty.
    pub fn export(mut self, name: ExportName, description: &str, export: Arc<dyn Export>) -> Self {
        self.exports.insert(name, (export, description.to_owned()));
        self
    }

    /// Serves this export to clients that name none, unless there is one with the empty name.
    pub fn default_export(mut self, name: ExportName) -> Self {
        self.default_export = Some(name);
        self
    }

    /// How clients have to protect what they say; [`ServerTls::Off`] unless said otherwise.
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = tls;
        self
    }

    /// What clients can make the server hold.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When the server has done its work; [`Lifetime::Persistent`] unless said otherwise.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The finished server.
    #[must_use]
    pub fn build(self) -> Server {
        let shared_disk = self.limits.max_connections != 1;
        let exports = self.exports.into_iter().map(|(name, (export, description))| {
            let mut flags = export.capabilities().transmission_flags();
            if !shared_disk {
                flags.remove(TransmissionFlags::CAN_MULTI_CONN);
            }
            let info = ExportInfo {
                size: export.size(),
                flags,
                description,
                block_sizes: export.block_sizes(),
            };
            (name, Served { export, info })
        });
        Server {
            shared: Arc::new(Shared {
                exports: exports.collect(),
                default_export: self.default_export,
                tls: self.tls,
                limits: self.limits,
                lifetime: self.lifetime,
                pool: BufferPool::new(POOLED_BYTES),
                held: Arc::default(),
                stop: watch::Sender::new(false),
            }),
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("exports", &self.exports.keys())
            .finish_non_exhaustive()
    }
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
            ServerTls::Required(_) => TlsPolicy::Required,
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
    /// What was in flight did not get out in time after the server was stopped.
    #[error("the client did not take its last replies within {0:?} of the server being stopped")]
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
        let result = loop {
            tokio::select! {
                biased;
                () = self.shared.stopped() => break Ok(()),
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    let served = self.note_end(ended) == Progress::Negotiated;
                    if served && connections.is_empty() && self.shared.lifetime == Lifetime::UntilIdle {
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

/// A client that was let in, and the places it takes.
struct Accepted {
    channel: BoxChannel,
    slot: OwnedSemaphorePermit,
    unauthenticated: OwnedSemaphorePermit,
}

/// Accepts clients, as many at a time as the limits allow.
struct Acceptor {
    listener: AsyncListener,
    slots: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
}

impl Acceptor {
    fn new(listener: AsyncListener, limits: &Limits) -> Self {
        let semaphore = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Acceptor {
            listener,
            slots: semaphore(limits.max_connections),
            unauthenticated: semaphore(limits.max_unauthenticated),
        }
    }

    /// Waits for room, then for a client. Safe to cancel.
    async fn accept(&mut self) -> Result<Accepted, SocketError> {
        let (slot, unauthenticated) = tokio::join!(
            Arc::clone(&self.slots).acquire_owned(),
            Arc::clone(&self.unauthenticated).acquire_owned()
        );
        let (Ok(slot), Ok(unauthenticated)) = (slot, unauthenticated) else {
            // The semaphores are never closed.
            return std::future::pending().await;
        };
        loop {
            match self.listener.accept().await {
                Ok(channel) => {
                    return Ok(Accepted {
                        channel: Box::new(channel),
                        slot,
                        unauthenticated,
                    });
                }
                Err(error @ SocketError::OutOfResources { .. }) => {
                    tracing::warn!("{error}; trying again in {ACCEPT_BACKOFF:?}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
