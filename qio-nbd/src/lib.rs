//! NBD, the network block device protocol: server, client, exports, and the protocol itself without any I/O.
//!
//! # Serving a disk
//!
//! An [`Export`](export::Export) is anything that can be read and written at offsets: a file, memory, or your own
//! backend. A [`Server`](server::Server) serves any number of them by name, in clear text or under mutual TLS:
//!
//! ```no_run
//! # #[cfg(feature = "tokio")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use qio_nbd::export::OpenOptions;
//! use qio_nbd::server::Server;
//! use qio_socket::{ListenOptions, Listener, SocketAddress};
//!
//! let disk = OpenOptions::new().open("/srv/disk.img")?;
//! let server = Server::builder().export("disk".parse()?, "my disk", Arc::new(disk)).build();
//! let listener = Listener::bind(&[SocketAddress::unix("/run/nbd.sock")], &ListenOptions::default())?;
//! server.serve(listener).await?;
//! # Ok(()) }
//! ```
//!
//! # Using a disk
//!
//! [`client::Session`] negotiates, [`client::Client`] reads and writes on the calling thread, and
//! `client::AsyncClient` keeps many requests in flight under tokio. [`NbdUri`] reads `nbd://` addresses.
//!
//! # The protocol by itself
//!
//! [`wire`] has the constants and headers, [`negotiation`] both ends of the handshake, [`transmission`] both ends
//! of what follows. All of it is pure functions of bytes: to be fuzzed, or driven by an event loop of your own.
//!
//! # What a peer can do
//!
//! Little. Everything a peer can make this crate hold, read or wait for is bounded by a constant in [`limits`];
//! what was said before TLS is forgotten after it; each byte of a read is written exactly once or the read fails.
//!
//! # Features
//!
//! * `tokio` (on by default): `server` and `client::AsyncClient`. Without it the crate has no runtime.
//!
//! # What this crate deliberately does not know
//!
//! TLS engines (it hands channels to `qio-tls`), image formats other than raw, command lines. Of the protocol,
//! metadata contexts, block status and 64-bit headers are yet to come: they are refused politely.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "tests choose their own sizes"
    )
)]

pub mod buffer;
mod cause;
pub mod client;
pub mod export;
pub mod facts;
mod input;
pub mod limits;
mod name;
pub mod negotiation;
#[cfg(feature = "tokio")]
pub mod server;
#[cfg(test)]
mod testing;
mod text;
pub mod transmission;
mod uri;
pub mod wire;

pub use name::{ExportName, InvalidName};
pub use uri::{NbdUri, UriError};
