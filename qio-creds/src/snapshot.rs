//! What a credentials object holds at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::{Endpoint, PrivateKey, Problem};

/// What a credentials object holds at one moment; it never changes.
///
/// Services take a snapshot when a connection begins, and keep it for the handshake. A reload makes a new
/// snapshot and leaves those in use alone.
#[derive(Debug)]
pub struct Snapshot {
    generation: u64,
    endpoint: Endpoint,
    verify_peer: bool,
    ca: Vec<CertificateDer<'static>>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    identities: Vec<Identity>,
    warnings: Vec<Problem>,
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

/// The contents of a snapshot before it has a generation.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) ca: Vec<CertificateDer<'static>>,
    pub(crate) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(crate) identities: Vec<Identity>,
}

impl Snapshot {
    pub(crate) fn new(
        endpoint: Endpoint,
        verify_peer: bool,
        contents: Contents,
        warnings: Vec<Problem>,
    ) -> Self {
        // One counter for the whole process: a generation names a snapshot, whichever object it came from, so it
        // can be the key of a cache.
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let Contents { ca, crls, identities } = contents;
        Self {
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
            endpoint,
            verify_peer,
            ca,
            crls,
            identities,
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

    /// What QEMU accepts in silence and some peers will refuse, found by the checks at load.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }
}
