//! What a certificate is to say.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::DnsName;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::PkiError;
use crate::Endpoint;

/// How long an authority is valid by default: about ten years.
const AUTHORITY_DAYS: u32 = 3650;

/// How long other certificates are valid by default. Web browsers take 398 days at most, the five minutes before
/// now among them; with a day less a browser's console session works too.
const DAYS: u32 = 397;

/// How far before now a validity begins, for peers whose clock is slow.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// The kind of key to make. Written `p256`, `p384`, `ed25519`, `rsa2048`, `rsa3072` or `rsa4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum KeyKind {
    /// ECDSA on NIST P-256: small, fast and taken everywhere.
    #[default]
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// Ed25519. QEMU, GnuTLS 3.6 and OpenSSL 1.1.1 or later take it; web browsers do not.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits; making one takes seconds.
    Rsa4096,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    /// The word for it on a command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "p256",
            Self::EcdsaP384 => "p384",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no kind of key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a kind of key; choose p256, p384, ed25519, rsa2048, rsa3072 or rsa4096")]
pub struct UnknownKeyKind(String);

impl FromStr for KeyKind {
    type Err = UnknownKeyKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKeyKind(text.to_owned()))
    }
}

/// Which end of a session a certificate works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It identifies a server.
    Server,
    /// It identifies a client.
    Client,
    /// It identifies a host on either end, as migration needs it.
    Both,
}

impl Purpose {
    /// The endpoints that may use the certificate.
    #[must_use]
    pub fn endpoints(self) -> &'static [Endpoint] {
        match self {
            Self::Server => &[Endpoint::Server],
            Self::Client => &[Endpoint::Client],
            Self::Both => &[Endpoint::Server, Endpoint::Client],
        }
    }
}

/// A host's name or address, as a client checks it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// A DNS name; the leftmost label may be `*`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// A text that is neither a DNS name nor an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is neither a DNS name nor an IP address; international names are written in their ASCII form (xn--...)"
)]
pub struct InvalidName(String);

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unbracketed = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = unbracketed.parse() {
            return Ok(Self::Ip(address));
        }
        let fixed = text.strip_prefix("*.").unwrap_or(text);
        match DnsName::try_from(fixed) {
            // A trailing dot is right in DNS, but not in a certificate.
            Ok(_) if !text.ends_with('.') => Ok(Self::Dns(text.to_owned())),
            _ => Err(InvalidName(text.to_owned())),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From five minutes ago until so many days from now. A certificate never outlives its authority: it ends with
    /// the authority's, if that is earlier.
    Days(u32),
    /// From one moment to another, both included, whatever the authority's validity is. For tests, and for those
    /// who know what they do.
    Between {
        /// The first moment.
        not_before: OffsetDateTime,
        /// The last moment.
        not_after: OffsetDateTime,
    },
}

impl Validity {
    /// The first and last moment, in whole seconds, as certificates count.
    pub(super) fn moments(
        self,
        now: OffsetDateTime,
        authority_ends: Option<OffsetDateTime>,
    ) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
        let (not_before, not_after) = match self {
            Self::Days(days) => {
                let end = now
                    .checked_add(Duration::days(days.into()))
                    .ok_or(PkiError::Validity)?;
                let begin = now.checked_sub(CLOCK_SKEW).ok_or(PkiError::Validity)?;
                (begin, authority_ends.map_or(end, |authority| authority.min(end)))
            }
            Self::Between {
                not_before,
                not_after,
            } => (not_before, not_after),
        };
        let whole = |moment: OffsetDateTime| {
            let utc = moment.checked_to_offset(UtcOffset::UTC)?;
            utc.replace_nanosecond(0).ok()
        };
        let (not_before, not_after) = whole(not_before)
            .zip(whole(not_after))
            .ok_or(PkiError::Validity)?;
        // RFC 5280 section 4.1.2.5: four digits of the year.
        let sayable = |moment: OffsetDateTime| (1950..=9999).contains(&moment.year());
        if not_before <= not_after && sayable(not_before) && sayable(not_after) {
            Ok((not_before, not_after))
        } else {
            Err(PkiError::Validity)
        }
    }
}

/// What an authority's certificate is to say.
#[derive(Debug, Clone)]
pub struct AuthorityTemplate {
    pub(super) common_name: String,
    pub(super) organization: Option<String>,
    pub(super) key: KeyKind,
    pub(super) validity: Validity,
}

impl AuthorityTemplate {
    /// An authority of this name, with an ECDSA P-256 key, valid for ten years.
    #[must_use]
    pub fn new(common_name: impl Into<String>) -> Self {
        Self {
            common_name: common_name.into(),
            organization: None,
            key: KeyKind::default(),
            validity: Validity::Days(AUTHORITY_DAYS),
        }
    }

    /// Adds an organization to its name.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// Chooses the kind of its key.
    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Chooses when it is valid.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }
}

/// What the certificate of a server, of a client, or of a host that is both is to say.
#[derive(Debug, Clone)]
pub struct Template {
    pub(super) purpose: Purpose,
    pub(super) common_name: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) names: Vec<Name>,
    pub(super) key: KeyKind,
    pub(super) validity: Validity,
}

impl Template {
    /// A certificate for this purpose, with an ECDSA P-256 key, valid for 397 days.
    #[must_use]
    pub fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            common_name: None,
            organization: None,
            names: Vec::new(),
            key: KeyKind::default(),
            validity: Validity::Days(DAYS),
        }
    }

    /// Sets the common name. Without it, it is the first name added, or else `qio client` or `qio server`.
    #[must_use]
    pub fn common_name(mut self, common_name: impl Into<String>) -> Self {
        self.common_name = Some(common_name.into());
        self
    }

    /// Adds an organization to the subject.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// Adds a name or address by which clients may reach the host.
    #[must_use]
    pub fn name(mut self, name: Name) -> Self {
        self.names.push(name);
        self
    }

    /// Chooses the kind of its key.
    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Chooses when it is valid.
    #[must_use]
    pub fn validity(mut self, validity: Validity) -> Self {
        self.validity = validity;
        self
    }

    /// The common name that the certificate gets.
    pub(super) fn subject_name(&self) -> String {
        match (&self.common_name, self.names.first(), self.purpose) {
            (Some(name), ..) => name.clone(),
            (None, Some(name), _) => name.to_string(),
            (None, None, Purpose::Client) => "qio client".to_owned(),
            (None, None, Purpose::Server | Purpose::Both) => "qio server".to_owned(),
        }
    }
}
