//! NBD, the network block device protocol: wire format, negotiation, server, client, exports.

pub mod facts;
pub mod limits;
mod name;
pub mod negotiation;
#[cfg(test)]
mod testing;
mod text;
pub mod transmission;
pub mod wire;

pub use name::{ExportName, InvalidName};
