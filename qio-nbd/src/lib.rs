//! NBD, the network block device protocol: wire format, negotiation, server, client, exports.

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
