//! OpenSSL set up for pre-shared keys and nothing else, and its two callbacks.
//!
//! A panic in a callback would abort the process, so they have nothing that could panic.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslRef, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use qio_creds::{Endpoint, Priority, Psk, PskIdentity, PskKey, PskMatch, PskParty, PskUsers, Snapshot};

use crate::config::Cache;
use crate::error::TlsError;
use crate::openssl_identities::IdentityReader;
use crate::openssl_refusal::own_secret;
use crate::provider::has_aes;

/// OpenSSL binds a callback's key to SHA-256, so these are the suites of TLS 1.3 that a key can be used with.
const TLS13: [(u16, &str); 2] = [
    (0x1301, "TLS_AES_128_GCM_SHA256"),
    (0x1303, "TLS_CHACHA20_POLY1305_SHA256"),
];

/// TLS 1.2: ephemeral keys only, so that a key that leaks later opens no recorded session (hostile.md CRED-08). There
/// is no AES-GCM with ECDHE-PSK in OpenSSL.
const TLS12: [(u16, &str); 3] = [
    (0xccac, "ECDHE-PSK-CHACHA20-POLY1305"),
    (0xc037, "ECDHE-PSK-AES128-CBC-SHA256"),
    (0xc038, "ECDHE-PSK-AES256-CBC-SHA384"),
];

/// Groups by their numbers (RFC 8446, section 4.2.7), the quicker ones first.
const GROUPS: [(u16, &str); 5] = [
    (29, "X25519"),
    (23, "P-256"),
    (30, "X448"),
    (24, "P-384"),
    (25, "P-521"),
];

/// Those of `table` that are allowed, in its order, as OpenSSL lists names.
fn names(table: &[(u16, &str)], allowed: impl Fn(u16) -> bool) -> String {
    let names: Vec<&str> = table
        .iter()
        .filter(|(number, _)| allowed(*number))
        .map(|(_, name)| *name)
        .collect();
    names.join(":")
}

/// What the callbacks know of a connection, and the engine learns from them.
pub(crate) struct Exchange {
    /// Holds pre-shared keys of the connection's own side.
    snapshot: Arc<Snapshot>,
    /// The credentials object, as errors name it.
    creds: String,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    named: IdentityReader,
    claim: Option<Claim>,
    /// Until it is known whether the peer may use the service.
    secret: Option<PskKey>,
}

/// Whom a client says it is.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) identity: Vec<u8>,
    /// There is such a user, and the handshake goes on with that user's key.
    pub(crate) known: bool,
}

impl Exchange {
    pub(crate) fn new(creds: &str, snapshot: Arc<Snapshot>) -> Self {
        Exchange {
            snapshot,
            creds: creds.to_owned(),
            progress: Mutex::default(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Progress) -> T) -> T {
        // Nobody panics while it is held; and if, then half a claim is no claim.
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes that a client sent before the session was established.
    pub(crate) fn received(&self, bytes: &[u8]) {
        self.with(|progress| progress.named.feed(bytes));
    }

    /// Whom the client said it is, if it has said so.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.with(|progress| progress.claim.clone())
    }

    /// The secret of our own traffic, once.
    pub(crate) fn take_secret(&self) -> Option<PskKey> {
        self.with(|progress| progress.secret.take())
    }

    fn log(&self, line: &str) {
        if let Some(secret) = own_secret(self.snapshot.endpoint(), line) {
            self.with(|progress| progress.secret = Some(secret));
        }
    }

    /// Whether the client has named any identity.
    pub(crate) fn has_named_any(&self) -> bool {
        self.with(|progress| !progress.named.is_empty())
    }

    pub(crate) fn users(&self) -> Option<&PskUsers> {
        match self.snapshot.psk()?.party() {
            PskParty::Server(users) => Some(users),
            _ => None,
        }
    }

    pub(crate) fn own(&self) -> Option<&PskIdentity> {
        match self.snapshot.psk()?.party() {
            PskParty::Client(own) => Some(own),
            _ => None,
        }
    }

    /// The key to judge a client by. `identity` has been cut at a NUL, if there was one.
    fn judge(&self, identity: &[u8], key: &mut [u8]) -> usize {
        let Some(users) = self.users() else { return 0 };
        self.with(|progress| {
            let found = match users.find(identity) {
                PskMatch::Known(_) if !progress.named.has_named(identity) => PskMatch::Unknown(users.decoy()),
                found => found,
            };
            progress.claim = Some(Claim {
                identity: progress.named.in_full(identity).to_vec(),
                known: matches!(found, PskMatch::Known(_)),
            });
            put(found.key().bytes(), key)
        })
    }

    /// Tells the server who we are, and ourselves with which key.
    fn present(&self, identity: &mut [u8], key: &mut [u8]) -> usize {
        let Some(own) = self.own() else { return 0 };
        let mut name = own.username().as_bytes().to_vec();
        name.push(0);
        if put(&name, identity) == 0 {
            return 0;
        }
        put(own.key().bytes(), key)
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("claim", &self.claim())
            .finish_non_exhaustive()
    }
}

/// Copies `from` to the beginning of `to`, and says how long it is; zero, which is a refusal, if there is no room.
fn put(from: &[u8], to: &mut [u8]) -> usize {
    match to.get_mut(..from.len()) {
        Some(to) => {
            to.copy_from_slice(from);
            from.len()
        }
        None => 0,
    }
}

fn index() -> Result<Index<Ssl, Arc<Exchange>>, ErrorStack> {
    static INDEX: OnceLock<Result<Index<Ssl, Arc<Exchange>>, ErrorStack>> = OnceLock::new();
    INDEX.get_or_init(Ssl::new_ex_index).clone()
}

fn exchange(ssl: &SslRef) -> Option<Arc<Exchange>> {
    ssl.ex_data(index().ok()?).map(Arc::clone)
}

/// A connection of a snapshot with pre-shared keys, before its first byte.
pub(crate) fn connection(snapshot: &Arc<Snapshot>, exchange: Arc<Exchange>) -> Result<Ssl, TlsError> {
    // A context holds no keys: those are looked up through the connection. So the cache keeps no snapshot alive.
    static CONTEXTS: Cache<SslContext> = Cache::new();
    let priority = snapshot.psk().and_then(Psk::priority);
    let endpoint = snapshot.endpoint();
    let unusable = |error: ErrorStack| TlsError::Unusable {
        creds: exchange.creds.clone(),
        what: match priority {
            Some(_) => {
                format!("its priority leaves nothing that OpenSSL could do with pre-shared keys ({error})")
            }
            None => format!("OpenSSL cannot be set up for pre-shared keys ({error})"),
        },
    };
    let build = || match endpoint {
        Endpoint::Server => server(priority),
        Endpoint::Client => client(priority),
    };
    let context = CONTEXTS.get(snapshot, || build().map_err(unusable))?;
    let mut ssl = Ssl::new(&context).map_err(unusable)?;
    let index = index().map_err(unusable)?;
    match endpoint {
        Endpoint::Server => ssl.set_accept_state(),
        Endpoint::Client => ssl.set_connect_state(),
    }
    ssl.set_ex_data(index, exchange);
    Ok(ssl)
}

fn common(priority: Option<&Priority>) -> Result<SslContextBuilder, ErrorStack> {
    let version = |number| priority.is_none_or(|priority| priority.allows_version(number));
    let suite = |number| priority.is_none_or(|priority| priority.cipher_suite(number).is_some());
    let group = |number| priority.is_none_or(|priority| priority.group(number).is_some());

    let mut builder = SslContext::builder(SslMethod::tls())?;
    let (tls12, tls13) = (version(0x0303), version(0x0304));
    builder.set_min_proto_version(Some(if tls12 {
        SslVersion::TLS1_2
    } else {
        SslVersion::TLS1_3
    }))?;
    builder.set_max_proto_version(Some(if tls13 {
        SslVersion::TLS1_3
    } else {
        SslVersion::TLS1_2
    }))?;
    let mut suites = TLS13;
    if !has_aes() {
        suites.reverse();
    }
    builder.set_ciphersuites(&names(&suites, suite))?;
    if tls12 {
        builder.set_cipher_list(&names(&TLS12, suite))?;
    }
    builder.set_groups_list(&names(&GROUPS, group))?;
    // Never a resumption: it goes past the callback, so a user who has been removed would still get in, and under no
    // name (hostile.md CRED-06). Never a second handshake: who a peer is does not change (CRED-02).
    builder.set_options(SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_read_ahead(true);
    builder.set_keylog_callback(|ssl, line| {
        if let Some(exchange) = exchange(ssl) {
            exchange.log(line);
        }
    });
    Ok(builder)
}

fn server(priority: Option<&Priority>) -> Result<SslContext, ErrorStack> {
    let mut builder = common(priority)?;
    builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    builder.set_num_tickets(0)?;
    builder.set_psk_server_callback(|ssl, identity, key| {
        let known = exchange(ssl).zip(identity);
        Ok(known.map_or(0, |(exchange, identity)| exchange.judge(identity, key)))
    });
    Ok(builder.build())
}

fn client(priority: Option<&Priority>) -> Result<SslContext, ErrorStack> {
    let mut builder = common(priority)?;
    // A server may ignore the key and send a certificate. With verification, and no authority to verify by, no
    // certificate passes; without it any would.
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_psk_client_callback(|ssl, _hint, identity, key| {
        Ok(exchange(ssl).map_or(0, |exchange| exchange.present(identity, key)))
    });
    Ok(builder.build())
}
