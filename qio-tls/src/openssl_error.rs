//! OpenSSL's errors, filed under who has to mend them.

use openssl::error::Error as Reason;
use openssl::ssl::{Error, ErrorCode};
use qio_creds::{Endpoint, printable};

use crate::error::{Alert, PeerRole, TlsError};
use crate::openssl_context::Exchange;

/// The reasons of OpenSSL's `sslerr.h` that mean something to people here.
mod reason {
    pub(super) const CERTIFICATE_VERIFY_FAILED: i32 = 134;
    pub(super) const DIGEST_CHECK_FAILED: i32 = 149;
    pub(super) const HTTPS_PROXY_REQUEST: i32 = 155;
    pub(super) const HTTP_REQUEST: i32 = 156;
    pub(super) const NO_SHARED_CIPHER: i32 = 193;
    pub(super) const BINDER_DOES_NOT_VERIFY: i32 = 253;
    pub(super) const UNSUPPORTED_PROTOCOL: i32 = 258;
    pub(super) const WRONG_VERSION_NUMBER: i32 = 267;
    pub(super) const DECRYPTION_FAILED_OR_BAD_RECORD_MAC: i32 = 281;
    pub(super) const NO_SUITABLE_SIGNATURE_ALGORITHM: i32 = 118;
    pub(super) const NO_SUITABLE_KEY_SHARE: i32 = 101;
    pub(super) const BAD_RECORD_TYPE: i32 = 443;
    pub(super) const UNEXPECTED_RECORD: i32 = 245;
    /// An alert that was received has its number above this.
    pub(super) const ALERT: i32 = 1000;
}

/// How much of a client's name is told.
const TOLD: usize = 64;

/// What can be said of a connection when it fails.
pub(crate) struct Circumstances<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) exchange: &'a Exchange,
    pub(crate) established: bool,
}

impl Circumstances<'_> {
    pub(crate) fn role(&self) -> PeerRole {
        PeerRole::of_peer_of(self.endpoint)
    }

    /// The user that we are.
    fn username(&self) -> String {
        let own = self.exchange.own();
        own.map_or_else(String::new, |own| printable(own.username()))
    }

    pub(crate) fn certificate_instead(&self) -> TlsError {
        TlsError::PskIgnored {
            username: self.username(),
        }
    }

    /// The client's claim has come to nothing; whether for want of a user or of a key, it cannot tell.
    pub(crate) fn not_proven(&self) -> Option<TlsError> {
        let claim = self.exchange.claim()?;
        let identity = String::from_utf8_lossy(&claim.identity);
        let mut told: String = identity.chars().take(TOLD).flat_map(char::escape_debug).collect();
        if identity.chars().nth(TOLD).is_some() {
            told.push_str("...");
        }
        Some(TlsError::PskNotProven {
            identity: told,
            known: claim.known,
        })
    }

    pub(crate) fn file(&self, error: &Error) -> TlsError {
        let role = self.role();
        let stack = error.ssl_error();
        let first = stack.and_then(|stack| stack.errors().first());
        let code = first.map(Reason::reason_code);
        let what = first
            .and_then(Reason::reason)
            .map_or_else(|| format!("{:?}", error.code()), str::to_owned);
        let Some(code) = code else {
            return match error.code() {
                ErrorCode::WANT_WRITE => TlsError::Misbehaved {
                    role,
                    what: "it asks for answers and does not read them".to_owned(),
                },
                _ => TlsError::Internal(what),
            };
        };
        if let Some(alert) = u8::try_from(code - reason::ALERT).ok().filter(|alert| *alert > 0) {
            return self.alert(Alert::from_code(alert));
        }
        match (code, self.endpoint) {
            (
                reason::BINDER_DOES_NOT_VERIFY
                | reason::DECRYPTION_FAILED_OR_BAD_RECORD_MAC
                | reason::DIGEST_CHECK_FAILED,
                Endpoint::Server,
            ) if !self.established => self.not_proven().unwrap_or(TlsError::Misbehaved { role, what }),
            (reason::NO_SUITABLE_SIGNATURE_ALGORITHM, Endpoint::Server) if !self.exchange.has_named_any() => {
                TlsError::NoPskOffered
            }
            (reason::CERTIFICATE_VERIFY_FAILED, Endpoint::Client) => self.certificate_instead(),
            (
                reason::HTTP_REQUEST
                | reason::HTTPS_PROXY_REQUEST
                | reason::WRONG_VERSION_NUMBER
                | reason::BAD_RECORD_TYPE
                | reason::UNEXPECTED_RECORD,
                _,
            ) if !self.established => TlsError::NotTls { role },
            (
                reason::NO_SHARED_CIPHER
                | reason::UNSUPPORTED_PROTOCOL
                | reason::NO_SUITABLE_KEY_SHARE
                | reason::NO_SUITABLE_SIGNATURE_ALGORITHM,
                _,
            ) => TlsError::Incompatible { role, what },
            _ => TlsError::Misbehaved { role, what },
        }
    }

    fn alert(&self, alert: Alert) -> TlsError {
        // What servers answer a key with that they do not know: decrypt_error and unknown_psk_identity as the RFCs
        // want it, the others as implementations have it.
        const REFUSALS: [u8; 6] = [20, 40, 47, 51, 71, 115];
        let role = self.role();
        if role == PeerRole::Server && !self.established && REFUSALS.contains(&alert.code()) {
            TlsError::PskRefused {
                username: self.username(),
                alert,
            }
        } else {
            TlsError::AlertReceived { role, alert }
        }
    }
}
