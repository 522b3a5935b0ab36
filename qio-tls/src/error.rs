//! What can go wrong between two ends of a TLS session, and who has to mend it.

use std::fmt;
use std::io;
use std::time::Duration;

use qio_creds::Endpoint;
use rustls::{AlertDescription, Error as EngineError, InvalidMessage, PeerIncompatible};

/// Which side the peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerRole {
    /// We are the server.
    Client,
    /// We are the client.
    Server,
}

impl PeerRole {
    pub(crate) fn of_peer_of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Client => PeerRole::Server,
            Endpoint::Server => PeerRole::Client,
        }
    }
}

impl fmt::Display for PeerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PeerRole::Client => "client",
            PeerRole::Server => "server",
        })
    }
}

/// Why a certificate was refused. `Display` says it in words, with what would be needed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// No chain leads from it to a certificate of `ca-cert.pem`.
    UnknownIssuer {
        /// The issuer that the certificate names.
        issuer: String,
    },
    /// It, or a certificate of its chain, has expired.
    Expired {
        /// When, in RFC 3339 form.
        not_after: String,
    },
    /// It, or a certificate of its chain, is not valid yet.
    NotYetValid {
        /// From when on it is, in RFC 3339 form.
        not_before: String,
    },
    /// It is for other names than the one that was asked for.
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The names that it has.
        presented: Vec<String>,
    },
    /// Its extended key usage is for something else.
    WrongPurpose {
        /// The purpose that is needed, by its name in RFC 5280.
        needed: &'static str,
    },
    /// A revocation list says that it has been revoked.
    Revoked,
    /// Anything else, in words.
    Unfit(String),
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer { issuer } => write!(
                f,
                "its issuer, \"{issuer}\", is not trusted: no certificate in ca-cert.pem leads to it"
            ),
            Self::Expired { not_after } => write!(f, "it, or its issuer, expired at {not_after}"),
            Self::NotYetValid { not_before } => {
                write!(
                    f,
                    "it, or its issuer, is not valid before {not_before} (is a clock wrong?)"
                )
            }
            Self::WrongName { expected, presented } if presented.is_empty() => {
                write!(f, "it has no name at all, and \"{expected}\" was asked for")
            }
            Self::WrongName { expected, presented } => write!(
                f,
                "it is for {}, and \"{expected}\" was asked for (tls-hostname says which name to ask for)",
                presented.join(", ")
            ),
            Self::WrongPurpose { needed } => {
                write!(f, "its extended key usage does not include {needed}")
            }
            Self::Revoked => f.write_str("it has been revoked (ca-crl.pem)"),
            Self::Unfit(what) => f.write_str(what),
        }
    }
}

/// Why a session could not be established, or cannot go on.
///
/// Cheap to clone: a broken session reports the same error for every later operation.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's certificate did not pass. The peer has been told with the fitting alert.
    #[error("refused the certificate of the {role} (\"{subject}\"): {problem}")]
    PeerCertificate {
        /// Which side the peer is on.
        role: PeerRole,
        /// The certificate's subject.
        subject: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// We verify clients, and this one presented no certificate.
    #[error(
        "the client presented no certificate, and verify-peer=on asks for one \
         (the client needs client-cert.pem and client-key.pem, signed by the authority in our ca-cert.pem)"
    )]
    NoPeerCertificate,
    /// The client did not prove to have the key of the user that it says it is. It hears the same whether there is
    /// such a user or not.
    #[error(
        "the client did not prove to be the user \"{identity}\": {}",
        if *.known { "it has another key than our keys.psk" } else { "our keys.psk has no such user" }
    )]
    PskNotProven {
        /// The user that it says it is, escaped and shortened.
        identity: String,
        /// Whether there is such a user.
        known: bool,
    },
    /// The client did not come with a pre-shared key, and a key is all that would do.
    #[error(
        "the client offered no pre-shared key: it is perhaps set up for certificates, and our credentials \
         (tls-creds-psk) take keys only"
    )]
    NoPskOffered,
    /// The server did not accept the key of the user that we are.
    #[error(
        "the server refused the pre-shared key of the user \"{username}\" with the TLS alert {alert}: its file has \
         no such user, or another key, or it does not take pre-shared keys at all"
    )]
    PskRefused {
        /// The user that we are.
        username: String,
        /// The server's alert.
        alert: Alert,
    },
    /// The server ignored our key, so it has not proved anything.
    #[error(
        "the server answered with a certificate instead of proving that it has the key of the user \"{username}\": \
         it is perhaps set up for tls-creds-x509, which needs tls-creds-x509 here as well"
    )]
    PskIgnored {
        /// The user that we are.
        username: String,
    },
    /// The peer is who it says, and may not use the service. It has been told so with access_denied.
    #[error("the {role} \"{identity}\" is not authorized{}", .why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NotAuthorized {
        /// Which side the peer is on.
        role: PeerRole,
        /// The identity it has proved.
        identity: String,
        /// What the access list said, if it said more than no.
        why: Option<String>,
    },
    /// The peer ended the session with an alert.
    #[error("the {role} ended the session with the TLS alert {alert}{}", Hint(*.alert, *.role))]
    AlertReceived {
        /// Which side the peer is on.
        role: PeerRole,
        /// The alert's name as in RFC 8446, section 6, and its number.
        alert: Alert,
    },
    /// What arrived is not TLS.
    #[error("the {role} does not speak TLS here: what it sent is not a TLS record")]
    NotTls {
        /// Which side the peer is on.
        role: PeerRole,
    },
    /// Both ends speak TLS, and have nothing in common.
    #[error("no TLS parameters in common with the {role}: {what}")]
    Incompatible {
        /// Which side the peer is on.
        role: PeerRole,
        /// What they lack.
        what: String,
    },
    /// The peer broke the protocol.
    #[error("the {role} broke the TLS protocol: {what}")]
    Misbehaved {
        /// Which side the peer is on.
        role: PeerRole,
        /// In which way.
        what: String,
    },
    /// The handshake was not over in time.
    #[error("the TLS handshake with the {role} was not over within {} s", .limit.as_secs_f32())]
    HandshakeTimeout {
        /// Which side the peer is on.
        role: PeerRole,
        /// The time it had.
        limit: Duration,
    },
    /// The peer sent more than any honest handshake needs.
    #[error("the {role} sent more than {limit} bytes of TLS handshake")]
    HandshakeTooLong {
        /// Which side the peer is on.
        role: PeerRole,
        /// What it was allowed.
        limit: usize,
    },
    /// The transport ended during the handshake.
    #[error("the {role} closed the connection during the TLS handshake{}", .after.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    HandshakeCut {
        /// Which side the peer is on.
        role: PeerRole,
        /// The error of the transport, if it was one and not a plain end.
        after: Option<String>,
    },
    /// The transport ended without a close_notify: data may be missing (RFC 8446, section 6.1).
    #[error("the connection ended without a TLS close_notify: what the {role} sent may be cut short")]
    Truncated {
        /// Which side the peer is on.
        role: PeerRole,
    },
    /// The host name to verify is neither a DNS name nor an IP address.
    #[error("\"{name}\" is neither a host name nor an IP address, so no certificate can be verified for it")]
    InvalidName {
        /// The name as given.
        name: String,
    },
    /// A verifying client must know whom it expects.
    #[error(
        "no host name to verify the server's certificate for: name it with tls-hostname, \
         or set verify-peer=off to accept any certificate"
    )]
    NoName,
    /// The credentials hold something that the TLS engine cannot use.
    #[error("the TLS credentials {creds} cannot be used: {what}")]
    Unusable {
        /// The credentials object.
        creds: String,
        /// What the engine objects to.
        what: String,
    },
    /// The transport failed.
    #[error("the connection failed: {message}")]
    Transport {
        /// The kind of the transport's error.
        kind: io::ErrorKind,
        /// What it said.
        message: String,
    },
    /// A bug in this crate or in the engine.
    #[error("the TLS engine failed in a way that should not be possible: {0}")]
    Internal(String),
}

impl TlsError {
    /// Files an error of the engine under who has to mend it.
    pub(crate) fn from_engine(error: &EngineError, endpoint: Endpoint, spoke_tls: bool) -> Self {
        let role = PeerRole::of_peer_of(endpoint);
        match error {
            EngineError::AlertReceived(alert) => TlsError::AlertReceived {
                role,
                alert: Alert(*alert),
            },
            EngineError::NoCertificatesPresented => TlsError::NoPeerCertificate,
            // The verifiers leave the details elsewhere; what comes here are signatures that do not fit.
            EngineError::InvalidCertificate(problem) => TlsError::Misbehaved {
                role,
                what: format!("its certificate does not fit: {problem}"),
            },
            EngineError::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::InvalidEmptyPayload
                | InvalidMessage::MessageTooLarge,
            ) if !spoke_tls => TlsError::NotTls { role },
            EngineError::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
                TlsError::Incompatible {
                    role,
                    what: "no signature algorithm".to_owned(),
                }
            }
            EngineError::PeerIncompatible(what) => TlsError::Incompatible {
                role,
                what: format!("{what:?}"),
            },
            EngineError::PeerMisbehaved(what) => TlsError::Misbehaved {
                role,
                what: format!("{what:?}"),
            },
            EngineError::General(_)
            | EngineError::FailedToGetCurrentTime
            | EngineError::FailedToGetRandomBytes => TlsError::Internal(error.to_string()),
            _ => TlsError::Misbehaved {
                role,
                what: error.to_string(),
            },
        }
    }

    pub(crate) fn transport(error: &io::Error) -> Self {
        TlsError::Transport {
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// The error as the byte path reports it, with this one as its source.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match &self {
            TlsError::Truncated { .. } | TlsError::HandshakeCut { .. } => io::ErrorKind::UnexpectedEof,
            TlsError::AlertReceived { .. } => io::ErrorKind::ConnectionAborted,
            TlsError::HandshakeTimeout { .. } => io::ErrorKind::TimedOut,
            TlsError::PeerCertificate { .. }
            | TlsError::NoPeerCertificate
            | TlsError::PskNotProven { .. }
            | TlsError::NoPskOffered
            | TlsError::PskRefused { .. }
            | TlsError::PskIgnored { .. }
            | TlsError::NotAuthorized { .. } => io::ErrorKind::PermissionDenied,
            TlsError::Transport { kind, .. } => *kind,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

/// A TLS alert (RFC 8446, section 6). Its `Display` is the name in the RFC and the number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Alert(AlertDescription);

impl Alert {
    #[cfg(feature = "psk")]
    pub(crate) fn from_code(code: u8) -> Self {
        Alert(code.into())
    }

    /// The alert's number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        self.0.into()
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alert({self})")
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AlertDescription as A;
        let name = match self.0 {
            A::CloseNotify => "close_notify",
            A::UnexpectedMessage => "unexpected_message",
            A::BadRecordMac => "bad_record_mac",
            A::RecordOverflow => "record_overflow",
            A::HandshakeFailure => "handshake_failure",
            A::BadCertificate => "bad_certificate",
            A::UnsupportedCertificate => "unsupported_certificate",
            A::CertificateRevoked => "certificate_revoked",
            A::CertificateExpired => "certificate_expired",
            A::CertificateUnknown => "certificate_unknown",
            A::IllegalParameter => "illegal_parameter",
            A::UnknownCA => "unknown_ca",
            A::AccessDenied => "access_denied",
            A::DecodeError => "decode_error",
            A::DecryptError => "decrypt_error",
            A::ProtocolVersion => "protocol_version",
            A::InsufficientSecurity => "insufficient_security",
            A::InternalError => "internal_error",
            A::UserCanceled => "user_canceled",
            A::UnrecognisedName => "unrecognized_name",
            A::UnknownPSKIdentity => "unknown_psk_identity",
            A::CertificateRequired => "certificate_required",
            _ => return write!(f, "number {}", self.code()),
        };
        write!(f, "{name} ({})", self.code())
    }
}

/// What an alert usually means for the one who reads it.
struct Hint(Alert, PeerRole);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AlertDescription as A;
        let Hint(alert, role) = self;
        match (alert.0, role) {
            (A::CertificateRequired, PeerRole::Server) => f.write_str(
                ": it asks for a client certificate and got none (client-cert.pem and client-key.pem belong in \
                 the directory of our credentials)",
            ),
            (A::HandshakeFailure, PeerRole::Server) => f.write_str(
                ": it may want a client certificate, or there is no cipher suite in common",
            ),
            (A::UnknownCA, _) => {
                write!(f, ": the {role} does not trust the issuer of our certificate")
            }
            (A::CertificateExpired, _) => {
                write!(f, ": the {role} finds our certificate expired, or not valid yet")
            }
            (A::BadCertificate, PeerRole::Client) => {
                f.write_str(": the client refused our certificate, perhaps for the host name that it expects")
            }
            (
                A::BadCertificate | A::UnsupportedCertificate | A::CertificateUnknown | A::CertificateRevoked,
                _,
            ) => write!(f, ": the {role} refused our certificate"),
            (A::AccessDenied, _) => write!(f, ": the {role} knows who we are, and does not let us in"),
            _ => Ok(()),
        }
    }
}
