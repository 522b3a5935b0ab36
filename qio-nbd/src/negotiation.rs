//! Fixed newstyle negotiation, both ends, as state machines that eat and give bytes.
//!
//! Neither end reads, writes or waits. A driver feeds what it received, sends what
//! [`take_output`](ServerNegotiation::take_output) gives, and does what the returned event asks for.
//!
//! # The two phases
//!
//! TLS begins in the middle of a negotiation. Nothing said in clear text may count after that: an attacker
//! between the two could have said it. So the negotiation in clear *ends* with a token
//! ([`ServerUpgrade`], [`ClientUpgrade`]) and the negotiation under TLS is a new value made from the token,
//! which carries nothing but what the greeting fixed. Bytes that arrived behind the upgrade in clear text
//! end the connection on either side.

mod client;
mod client_error;
mod export_details;
mod gather;
mod server;
mod server_event;

pub use client::{ClientEvent, ClientNegotiation, ClientTls, ClientUpgrade, Established};
pub use client_error::{NegotiationError, OptionRefusal};
pub use export_details::{ExportDetails, ListedExport};
pub use server::{ServerNegotiation, ServerUpgrade, TlsPolicy};
pub use server_event::{CloseReason, ListQuery, LookupQuery, Negotiated, ServerEvent, TurnedAway};

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod server_tests;
