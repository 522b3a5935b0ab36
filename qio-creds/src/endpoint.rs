//! Which side of a TLS session credentials are for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The side of a TLS session that credentials are for.
///
/// Written `client` or `server` in options, as in QEMU's `endpoint=`; a client is the default there and here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// Connects, and verifies the server it reaches.
    #[default]
    Client,
    /// Accepts connections, and verifies the clients that come.
    Server,
}

impl Endpoint {
    /// The other side.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Credentials were given to a service that stands on the other side of the session.
///
/// Found when a service is set up, before any connection. The first words are QEMU's own, so that people and
/// scripts recognise them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Expected TLS credentials for a {needed} endpoint, but the object {name} is for a {has} endpoint; \
     write endpoint={needed} in its --object, or name another object"
)]
pub struct WrongEndpoint {
    /// The object, as an error names it: its id, or its directory where it has none.
    pub name: String,
    /// The endpoint that the object was made for.
    pub has: Endpoint,
    /// The endpoint that the service needs.
    pub needed: Endpoint,
}
