//! What a revocation list says, for people.

use serde::Serialize;
use time::OffsetDateTime;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::RevocationReason;
use crate::distinguished_name;
use crate::pki::{PkiError, serial};

/// What a revocation list says. Nothing of it is verified. Texts may hold any character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RevocationListSummary {
    /// The authority that issued it, spelled as QEMU spells names.
    pub issuer: String,
    /// Its number in hexadecimal, if it has one; later lists have greater numbers.
    pub number: Option<String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub this_update: OffsetDateTime,
    /// When the next one is due, if it says so.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_update: Option<OffsetDateTime>,
    /// The revoked certificates.
    pub revoked: Vec<Revoked>,
}

/// A revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Revoked {
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// Since when it counts as revoked.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Why; `unspecified` also if the reason is none that RFC 5280 knows.
    pub reason: RevocationReason,
}

impl RevocationListSummary {
    /// Reads a list in DER form.
    ///
    /// # Errors
    ///
    /// [`PkiError::Malformed`] if it is not exactly one list.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        match CertificateRevocationList::from_der(der) {
            Ok(([], crl)) => Ok(Self::of(&crl)),
            _ => Err(PkiError::Malformed("revocation list")),
        }
    }

    pub(super) fn of(crl: &CertificateRevocationList<'_>) -> Self {
        let revoked = crl.iter_revoked_certificates().map(|entry| Revoked {
            serial: serial::to_hex(entry.raw_serial()),
            since: entry.revocation_date.to_datetime(),
            reason: RevocationReason::of_entry(entry).unwrap_or_default(),
        });
        Self {
            issuer: distinguished_name::spell(crl.issuer()),
            number: crl
                .crl_number()
                .map(|number| serial::to_hex(&number.to_bytes_be())),
            this_update: crl.last_update().to_datetime(),
            next_update: crl.next_update().map(|next| next.to_datetime()),
            revoked: revoked.collect(),
        }
    }
}
