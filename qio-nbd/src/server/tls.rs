//! How clients have to protect what they say, and who may say it.

use std::sync::Arc;

use qio_authz::Authorizer;
use qio_creds::ServerCreds;

/// How clients have to protect what they say.
#[derive(Debug, Clone)]
pub enum ServerTls {
    /// Everything is in clear text.
    Off,
    /// Clients must negotiate TLS before anything else; nothing about exports is told before.
    Required(ServerCreds),
    /// Likewise, and only clients that an access list knows get in.
    Restricted(RestrictedTls),
}

impl ServerTls {
    /// TLS for clients that `authorizer` lets in, by the distinguished name of their certificate in QEMU's spelling, or by
    /// their name among the pre-shared keys.
    ///
    /// # Errors
    /// [`UnverifiedClients`] for credentials with `verify-peer=off`.
    pub fn restricted(
        creds: ServerCreds,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<Self, UnverifiedClients> {
        if !creds.snapshot().authenticates_peer() {
            return Err(UnverifiedClients {
                creds: creds.creds().name().to_owned(),
            });
        }
        Ok(Self::Restricted(RestrictedTls { creds, authorizer }))
    }

    /// The credentials, where there is TLS.
    #[must_use]
    pub fn creds(&self) -> Option<&ServerCreds> {
        match self {
            Self::Off => None,
            Self::Required(creds) => Some(creds),
            Self::Restricted(restricted) => Some(&restricted.creds),
        }
    }

    /// Who decides which clients get in, if anybody does.
    #[must_use]
    pub fn authorizer(&self) -> Option<&Arc<dyn Authorizer>> {
        match self {
            Self::Off | Self::Required(_) => None,
            Self::Restricted(restricted) => Some(&restricted.authorizer),
        }
    }
}

/// Credentials that verify clients, and who of these gets in; made by [`ServerTls::restricted`].
#[derive(Debug, Clone)]
pub struct RestrictedTls {
    creds: ServerCreds,
    authorizer: Arc<dyn Authorizer>,
}

/// An access list for clients that nobody verifies.
///
/// QEMU takes such a pair, and then lets everybody in without looking at the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an access list needs verified clients, and the credentials {creds} do not verify them (verify-peer=off): turn verification on, or leave the list out"
)]
pub struct UnverifiedClients {
    creds: String,
}
