//! Why a certificate is revoked.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use x509_parser::revocation_list::RevokedCertificate;

/// Why a certificate is revoked, by the names of RFC 5280 section 5.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RevocationReason {
    /// `unspecified`.
    #[default]
    Unspecified,
    /// `keyCompromise`: somebody else has, or may have, the private key.
    KeyCompromise,
    /// `cACompromise`: likewise, of an authority.
    CaCompromise,
    /// `affiliationChanged`: the subject's name or place has changed.
    AffiliationChanged,
    /// `superseded`: another certificate takes its place.
    Superseded,
    /// `cessationOfOperation`: it is no longer needed.
    CessationOfOperation,
    /// `certificateHold`: it may become valid again.
    CertificateHold,
    /// `privilegeWithdrawn`: the subject may no longer do what the certificate lets it do.
    PrivilegeWithdrawn,
    /// `aACompromise`: an attribute authority is compromised.
    AaCompromise,
}

const REASONS: [(RevocationReason, rcgen::RevocationReason, u8, &str); 9] = {
    use RevocationReason as Reason;
    use rcgen::RevocationReason as Theirs;
    [
        (Reason::Unspecified, Theirs::Unspecified, 0, "unspecified"),
        (Reason::KeyCompromise, Theirs::KeyCompromise, 1, "keyCompromise"),
        (Reason::CaCompromise, Theirs::CaCompromise, 2, "cACompromise"),
        (
            Reason::AffiliationChanged,
            Theirs::AffiliationChanged,
            3,
            "affiliationChanged",
        ),
        (Reason::Superseded, Theirs::Superseded, 4, "superseded"),
        (
            Reason::CessationOfOperation,
            Theirs::CessationOfOperation,
            5,
            "cessationOfOperation",
        ),
        (
            Reason::CertificateHold,
            Theirs::CertificateHold,
            6,
            "certificateHold",
        ),
        (
            Reason::PrivilegeWithdrawn,
            Theirs::PrivilegeWithdrawn,
            9,
            "privilegeWithdrawn",
        ),
        (Reason::AaCompromise, Theirs::AaCompromise, 10, "aACompromise"),
    ]
};

impl RevocationReason {
    /// Its name in RFC 5280.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        REASONS
            .iter()
            .find(|(reason, ..)| *reason == self)
            .map_or("unspecified", |(.., name)| name)
    }

    /// The reason of an entry; none if it is one that RFC 5280 does not have.
    pub(super) fn of_entry(entry: &RevokedCertificate<'_>) -> Option<Self> {
        let Some((_, code)) = entry.reason_code() else {
            return Some(Self::Unspecified);
        };
        REASONS
            .iter()
            .find(|(_, _, number, _)| *number == code.0)
            .map(|(reason, ..)| *reason)
    }

    /// For the library that writes lists. Unspecified is not written (RFC 5280 section 5.3.1).
    pub(super) fn for_library(self) -> Option<rcgen::RevocationReason> {
        let found = REASONS.iter().find(|(reason, ..)| *reason == self);
        found
            .map(|(_, theirs, ..)| *theirs)
            .filter(|_| self != Self::Unspecified)
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RevocationReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A word that names no reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a reason to revoke; choose unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, \
     cessationOfOperation, certificateHold, privilegeWithdrawn or aACompromise"
)]
pub struct UnknownReason(String);

impl FromStr for RevocationReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        REASONS
            .iter()
            .find(|(.., name)| name.eq_ignore_ascii_case(text))
            .map(|(reason, ..)| *reason)
            .ok_or_else(|| UnknownReason(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_parse_as_they_print() {
        for (reason, ..) in REASONS {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        assert!("stolen".parse::<RevocationReason>().is_err());
    }
}
