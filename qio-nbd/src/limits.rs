//! The budgets that bound what a peer can make this crate hold, read or wait for.

use std::time::Duration;

/// Longest string of the protocol (export names, descriptions, error texts) in bytes.
pub const MAX_STRING: usize = 4096;
/// How many bytes of a peer's string are repeated in an error message or a log line.
pub const MAX_ECHO: usize = 80;
/// Longest option payload that is buffered; longer ones are read past and refused.
pub const MAX_OPTION_BUFFER: u32 = 64 << 10;
/// Longest payload of `NBD_OPT_EXPORT_NAME`, which is a name and nothing else.
pub const MAX_EXPORT_NAME_OPTION: u32 = 4096;
/// Longest option payload that is read past; a peer that announces more is dropped.
pub const MAX_OPTION_DRAIN: u32 = 1 << 20;
/// Options a client may send before it enters transmission...
pub const MAX_OPTIONS: u32 = 32;
/// ... and that many more for each advertised export, because list tools ask about each.
pub const MAX_OPTIONS_PER_EXPORT: u32 = 32;
/// Largest payload of one request or reply, in bytes.
pub const MAX_PAYLOAD: u32 = 32 << 20;
/// Requests of one connection that are worked on at once.
pub const MAX_IN_FLIGHT: usize = 16;
/// Bytes of payload that one connection's requests and unsent replies may hold.
pub const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;
/// Bytes that all connections of a server may hold together, beyond one request each.
pub const MAX_SERVER_BYTES: usize = 1 << 30;
/// Connections of one server.
pub const MAX_CONNECTIONS: usize = 100;
/// Connections of one server that have not finished negotiating.
pub const MAX_UNAUTHENTICATED: usize = 32;
/// From accepting (or connecting) to the transmission phase, TLS included.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a condemned connection may take to send its last bytes.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer to an option that a client accepts, refusals excepted.
pub const MAX_OPTION_REPLY: u32 = 64 << 10;
/// Exports a client takes from a server's list.
pub const MAX_LISTED: usize = 10_000;
/// Bytes of names and descriptions a client takes from a server's list.
pub const MAX_LISTED_BYTES: usize = 4 << 20;
/// Facts about one export that a client takes from a server.
pub const MAX_INFO_REPLIES: u32 = 64;
/// Pieces in which a server may send one read's data.
pub const MAX_READ_FRAGMENTS: usize = 4096;
