//! What an established session has negotiated, and with whom.

use std::fmt;

use rustls_pki_types::CertificateDer;

/// The protocol version in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::Tls12 => "TLS 1.2",
            TlsVersion::Tls13 => "TLS 1.3",
        })
    }
}

/// What was negotiated. Its `Display` is one line: `TLS 1.3, TLS13_AES_128_GCM_SHA256, X25519`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsFacts {
    /// The protocol version.
    pub version: TlsVersion,
    /// The cipher suite, by its IANA name without underscores lost.
    pub cipher_suite: String,
    /// Whether it goes on from an earlier session, by ticket. The peer has been judged and authorized again.
    pub resumed: bool,
    /// The key exchange group, by its IANA name, where one was used.
    pub group: Option<String>,
}

impl fmt::Display for TlsFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.version, self.cipher_suite)?;
        if let Some(group) = &self.group {
            write!(f, ", {group}")?;
        }
        f.write_str(if self.resumed { ", resumed" } else { "" })
    }
}

/// Who is at the other end, and how far that is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// It proved to own this certificate, and the certificate passed every check.
    Verified(PeerCertificate),
    /// It proved to own this certificate, but `verify-peer=off` left the certificate unchecked: anyone can make
    /// one.
    Unverified(PeerCertificate),
    /// It proved to have the pre-shared key of this user: to a server, the client is that user; to a client, the
    /// server knows the user that it is itself.
    Psk {
        /// The user's name in `keys.psk`.
        identity: String,
    },
    /// It presented no certificate, and was not asked for one.
    Unknown,
}

impl Peer {
    /// The name that access lists know the peer by: only a verified peer has one.
    #[must_use]
    pub fn verified_name(&self) -> Option<&str> {
        match self {
            Peer::Verified(certificate) => Some(certificate.subject()),
            Peer::Psk { identity } => Some(identity),
            Peer::Unverified(_) | Peer::Unknown => None,
        }
    }
}

/// The certificate of a peer, with the chain that it sent.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    subject: String,
    chain: Vec<CertificateDer<'static>>,
}

impl PeerCertificate {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        let subject = chain
            .first()
            .and_then(|leaf| qio_creds::CertificateSummary::from_der(leaf).ok())
            .map(|summary| summary.subject)
            .unwrap_or_default();
        PeerCertificate { subject, chain }
    }

    /// The subject's distinguished name, spelled as QEMU spells it for access lists.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The chain as it was sent, the peer's own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }
}

impl fmt::Debug for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCertificate")
            .field("subject", &self.subject)
            .field("certificates", &self.chain.len())
            .finish()
    }
}
