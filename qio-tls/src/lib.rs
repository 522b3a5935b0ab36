//! TLS over any I/O channel, with QEMU's credentials and QEMU's rules of verification.
//!
//! [`TlsChannel`] wraps any [`Channel`](qio_channel::Channel) and is one. It comes out of a
//! [`TlsHandshake`], and from nowhere else, so that a channel in hand is a peer verified: chain, dates,
//! purpose and name together, as the credentials ask for.
//!
//! ```no_run
//! use std::time::Duration;
//! use qio_channel::{BoxChannel, ChannelExt};
//! use qio_creds::{KeyPermissions, TlsCreds, TlsCredsX509Options};
//! use qio_tls::TlsHandshake;
//!
//! # fn connected_socket() -> BoxChannel { unimplemented!() }
//! let creds = TlsCreds::load(
//!     TlsCredsX509Options::client("/etc/pki/qemu"),
//!     KeyPermissions::Private,
//! )?;
//! let handshake = TlsHandshake::client(connected_socket(), &creds.for_client()?, Some("vmhost.example.com"))?;
//! let mut channel = handshake.complete(Duration::from_secs(10))?;
//! channel.write_all(b"hello")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layers
//!
//! * [`Handshake`] and [`Session`] are sans-I/O: they eat and give bytes, and own no descriptor.
//! * [`TlsHandshake`] and [`TlsChannel`] drive them over a channel: blocking ([`TlsHandshake::complete`]), in an
//!   event loop ([`TlsHandshake::step`]), or under tokio (`TlsHandshake::complete_async`, feature `tokio`).
//!
//! # What it does as QEMU does, and what not
//!
//! The peer's chain is verified against `ca-cert.pem`, any certificate of which is a trust anchor. A host name is looked
//! for in the certificate's alternative names, and in its common name only where it has none. TLS 1.2 and 1.3 are
//! spoken. Anonymous key exchange is not. The end of the transport without a close_notify is an error (RFC 8446,
//! section 6.1), unless [`TlsChannel::set_relaxed_eof`] says otherwise.
//!
//! This crate deliberately does not know files, options, sockets or what is carried over the channel.

mod buffer;
mod channel;
mod config;
mod engine;
mod error;
mod facts;
mod handshake;
#[cfg(feature = "psk")]
mod openssl_context;
#[cfg(feature = "psk")]
mod openssl_engine;
#[cfg(feature = "psk")]
mod openssl_error;
#[cfg(feature = "psk")]
mod openssl_identities;
#[cfg(feature = "psk")]
mod openssl_refusal;
mod path;
mod priority;
mod provider;
mod refusal;
mod rustls_engine;
mod session;
mod transport;
mod verify;

pub use channel::TlsChannel;
pub use error::{CertificateProblem, PeerRole, TlsError};
pub use facts::{Peer, PeerCertificate, TlsFacts, TlsVersion};
pub use handshake::{Progress, Question, TlsHandshake};
pub use session::{Handshake, HandshakeStep, ReadOutcome, Session, Verdict};
pub use transport::Transport;
