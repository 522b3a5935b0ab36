//! Engine configurations, built once for each snapshot of a credentials object.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use qio_creds::{Snapshot, X509};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use crate::error::TlsError;
use crate::priority;
use crate::provider::provider;
use crate::verify::{ClientVerifier, Rules, ServerVerifier};

/// Servers that a client remembers a session of, for each credentials object.
const CLIENT_SESSIONS: usize = 32;

/// A configuration per snapshot that is still in use. Few: a process has a handful of credentials objects.
pub(crate) struct Cache<T>(Mutex<Vec<(Weak<Snapshot>, Arc<T>)>>);

impl<T> Cache<T> {
    pub(crate) const fn new() -> Self {
        Cache(Mutex::new(Vec::new()))
    }

    pub(crate) fn get(
        &self,
        snapshot: &Arc<Snapshot>,
        build: impl FnOnce() -> Result<T, TlsError>,
    ) -> Result<Arc<T>, TlsError> {
        // Whole entries are pushed and removed, so a panic elsewhere cannot have left half of one.
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|(owner, _)| owner.strong_count() > 0);
        let known = entries.iter().find(|(owner, _)| {
            owner
                .upgrade()
                .is_some_and(|owner| owner.generation() == snapshot.generation())
        });
        if let Some((_, config)) = known {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(build()?);
        entries.push((Arc::downgrade(snapshot), Arc::clone(&config)));
        Ok(config)
    }
}

/// What all connections with one snapshot share.
pub(crate) struct Setup<Config> {
    pub(crate) config: Arc<Config>,
    pub(crate) rules: Arc<Rules>,
}

/// Whether a server gives tickets to resume sessions with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tickets {
    None,
    /// One for each session: a client that wants several connections at once does full handshakes for them.
    One,
}

/// The set-up of a server with these credentials. `creds` names them in errors.
pub(crate) fn server(
    creds: &str,
    snapshot: &Arc<Snapshot>,
    tickets: Tickets,
) -> Result<Arc<Setup<ServerConfig>>, TlsError> {
    static WITHOUT: Cache<Setup<ServerConfig>> = Cache::new();
    static WITH: Cache<Setup<ServerConfig>> = Cache::new();
    let cache = match tickets {
        Tickets::None => &WITHOUT,
        Tickets::One => &WITH,
    };
    cache.get(snapshot, || build_server(creds, snapshot, tickets))
}

/// The set-up of a client with these credentials. `creds` names them in errors.
pub(crate) fn client(creds: &str, snapshot: &Arc<Snapshot>) -> Result<Arc<Setup<ClientConfig>>, TlsError> {
    static CACHE: Cache<Setup<ClientConfig>> = Cache::new();
    CACHE.get(snapshot, || build_client(creds, snapshot))
}

fn certificates(snapshot: &Snapshot) -> Result<&X509, String> {
    snapshot
        .x509()
        .ok_or_else(|| "pre-shared keys need the feature `psk` of qio-tls".to_owned())
}

fn build_server(creds: &str, snapshot: &Snapshot, tickets: Tickets) -> Result<Setup<ServerConfig>, TlsError> {
    let unusable = |what: String| TlsError::Unusable {
        creds: creds.to_owned(),
        what,
    };
    let x509 = certificates(snapshot).map_err(unusable)?;
    let algorithms = priority::algorithms(x509).map_err(unusable)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&algorithms.provider))
        .with_protocol_versions(&algorithms.versions)
        .map_err(|error| unusable(error.to_string()))?;
    let rules = Arc::new(Rules::new(x509, algorithms.provider).map_err(unusable)?);
    let builder = if x509.verify_peer() {
        builder.with_client_cert_verifier(Arc::new(ClientVerifier(Arc::clone(&rules))))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(Identities::new(x509).map_err(unusable)?));
    // Our order of suites wins: peers tend to list AES-256 first, which is slower and no safer.
    config.ignore_client_order = true;
    // Sessions are resumed by ticket only: nothing is kept here for clients that may never come back. The keys are
    // of this snapshot, so a reload ends the tickets that were given before it. Whoever comes back is judged and
    // authorized again, see RustlsEngine::judge_resumed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.require_ems = algorithms.require_ems;
    if tickets == Tickets::One && algorithms.tickets {
        config.ticketer = Ticketer::new().map_err(|error| unusable(error.to_string()))?;
        config.send_tls13_tickets = 1;
    }
    config.enable_secret_extraction = true; // for refusal.rs
    Ok(Setup {
        config: Arc::new(config),
        rules,
    })
}

fn build_client(creds: &str, snapshot: &Snapshot) -> Result<Setup<ClientConfig>, TlsError> {
    let unusable = |what: String| TlsError::Unusable {
        creds: creds.to_owned(),
        what,
    };
    let x509 = certificates(snapshot).map_err(unusable)?;
    let algorithms = priority::algorithms(x509).map_err(unusable)?;
    let rules = Arc::new(Rules::new(x509, Arc::clone(&algorithms.provider)).map_err(unusable)?);
    let builder = ClientConfig::builder_with_provider(algorithms.provider)
        .with_protocol_versions(&algorithms.versions)
        .map_err(|error| unusable(error.to_string()))?
        // "Dangerous" is any verifier but rustls's own. Ours is there because QEMU's rules differ: see verify.rs.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier(Arc::clone(&rules))));
    let mut config = if x509.identities().is_empty() {
        builder.with_no_client_auth()
    } else {
        builder.with_client_cert_resolver(Arc::new(Identities::new(x509).map_err(unusable)?))
    };
    config.require_ems = algorithms.require_ems;
    config.resumption = if algorithms.tickets {
        Resumption::in_memory_sessions(CLIENT_SESSIONS)
    } else {
        Resumption::disabled()
    };
    config.enable_secret_extraction = true; // for refusal.rs
    Ok(Setup {
        config: Arc::new(config),
        rules,
    })
}

/// The identities of a credentials object; the first that fits the peer's signature algorithms is presented.
struct Identities(Vec<Arc<CertifiedKey>>);

impl Identities {
    fn new(x509: &X509) -> Result<Self, String> {
        let load = |identity: &qio_creds::Identity| {
            let key = provider()
                .key_provider
                .load_private_key(identity.key().der().clone_key())
                .map_err(|error| format!("its private key is of a kind that is not supported ({error})"))?;
            let key = priority::restrict_key(key, x509.priority());
            Ok(Arc::new(CertifiedKey::new(identity.chain().to_vec(), key)))
        };
        Ok(Identities(
            x509.identities()
                .iter()
                .map(load)
                .collect::<Result<_, String>>()?,
        ))
    }

    fn choose(&self, offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0
            .iter()
            .find(|identity| identity.key.choose_scheme(offered).is_some())
            .cloned()
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(client_hello.signature_schemes())
    }
}

impl ResolvesClientCert for Identities {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // The hints name authorities that the server trusts, but may do so incompletely: an identity that it
        // refuses gives a better message than none at all.
        self.choose(schemes)
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}
