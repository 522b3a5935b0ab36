//! The transmission phase, both ends, without any I/O.
//!
//! The server parses requests with [`RequestParser`] and answers with [`ReplyHead`]; the client numbers its
//! requests and sorts out the replies with [`ReplyParser`]. Payload never passes through these types: they
//! say where it belongs, and the driver puts it there directly.

mod coverage;
mod reply;
mod reply_parser;
mod request;

pub use reply::{ErrorReply, ReplyHead};
pub use reply_parser::{Asked, ReplyError, ReplyEvent, ReplyParser};
pub use request::{ExportFacts, Request, RequestEvent, RequestParser, RequestStreamError};

#[cfg(test)]
mod reply_parser_tests;
#[cfg(test)]
mod request_tests;
