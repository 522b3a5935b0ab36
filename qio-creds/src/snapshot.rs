//! What a credentials object holds at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::{Endpoint, Priority, PrivateKey, Problem, Psk};

/// What a credentials object holds at one moment; it never changes.
///
/// Services take a snapshot when a connection begins, and keep it for the handshake. A reload makes a new
/// snapshot and leaves those in use alone.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    endpoint: Endpoint,
    contents: Contents,
    warnings: Vec<Problem>,
}

/// What a snapshot proves one end to the other with.
#[derive(Debug)]
#[non_exhaustive]
pub enum Contents {
    /// Certificates: `tls-creds-x509`.
    X509(X509),
    /// Pre-shared keys: `tls-creds-psk`.
    Psk(Psk),
}

/// The contents of a `tls-creds-x509` object.
#[derive(Debug)]
pub struct X509 {
    pub(crate) verify_peer: bool,
    pub(crate) ca: Vec<CertificateDer<'static>>,
    pub(crate) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(crate) identities: Vec<Identity>,
    pub(crate) priority: Option<Priority>,
}

impl X509 {
    /// Nothing yet.
    pub(crate) fn empty(verify_peer: bool) -> Self {
        Self {
            verify_peer,
            ca: Vec::new(),
            crls: Vec::new(),
            identities: Vec::new(),
            priority: None,
        }
    }

    /// Whether the peer must present a certificate that verifies against [`ca`](Self::ca).
    #[must_use]
    pub fn verify_peer(&self) -> bool {
        self.verify_peer
    }

    /// The trust anchors: every certificate of `ca-cert.pem`, roots and intermediates alike.
    #[must_use]
    pub fn ca(&self) -> &[CertificateDer<'static>] {
        &self.ca
    }

    /// The revocation lists of `ca-crl.pem`; empty where there is none.
    #[must_use]
    pub fn crls(&self) -> &[CertificateRevocationListDer<'static>] {
        &self.crls
    }

    /// The identities this endpoint can present: at least one for a server, perhaps none for a client.
    #[must_use]
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Which versions and algorithms of TLS the object's `priority` allows; none if it leaves that to the engine.
    #[must_use]
    pub fn priority(&self) -> Option<&Priority> {
        self.priority.as_ref()
    }
}

/// A certificate with what leads from it to its authority, and the private key that belongs to it.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
}

impl Identity {
    /// Pairs a chain, the endpoint's own certificate first, with its private key.
    ///
    /// Nothing is checked here; that happens when credentials are built from it.
    #[must_use]
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Self {
        Self { chain, key }
    }

    /// The certificates to present: the endpoint's own first, then what leads to the authority.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key of the first certificate.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}

impl Snapshot {
    pub(crate) fn new(endpoint: Endpoint, contents: Contents, warnings: Vec<Problem>) -> Self {
        // One counter for the whole process: a generation names a snapshot, whichever object it came from, so it
        // can be the key of a cache.
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        Self {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            endpoint,
            contents,
            warnings,
        }
    }

    /// A number that no other snapshot of this process has; it grows with every load and reload.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The side of the session these credentials are for.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Certificates or keys.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The certificates, if that is what the object holds.
    #[must_use]
    pub fn x509(&self) -> Option<&X509> {
        match &self.contents {
            Contents::X509(x509) => Some(x509),
            Contents::Psk(_) => None,
        }
    }

    /// The pre-shared keys, if that is what the object holds.
    #[must_use]
    pub fn psk(&self) -> Option<&Psk> {
        match &self.contents {
            Contents::Psk(psk) => Some(psk),
            Contents::X509(_) => None,
        }
    }

    /// Whether a session with these credentials proves who the peer is: pre-shared keys always do, certificates
    /// unless `verify-peer=off`.
    #[must_use]
    pub fn authenticates_peer(&self) -> bool {
        match &self.contents {
            Contents::X509(x509) => x509.verify_peer,
            Contents::Psk(_) => true,
        }
    }

    /// Whether a client with these credentials must know the server's name: certificates are verified for a name,
    /// and a key proves itself.
    #[must_use]
    pub fn needs_peer_name(&self) -> bool {
        match &self.contents {
            Contents::X509(x509) => x509.verify_peer,
            Contents::Psk(_) => false,
        }
    }

    /// What QEMU accepts in silence and some peers will refuse, found by the checks at load.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}
