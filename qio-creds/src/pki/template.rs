//! What a certificate is to say.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};
use rustls_pki_types::DnsName;

use super::certtool;
use super::name::{alternative_name, attribute_value};
use super::validity::Validity;
use super::{KeyKind, PkiError};
use crate::Endpoint;

/// How long an authority is valid by default: about ten years.
pub(super) const AUTHORITY_DAYS: u32 = 3650;

/// How long other certificates are valid by default. Web browsers take 398 days at most, the five minutes before
/// now among them; with a day less a browser's console session works too.
pub(super) const DAYS: u32 = 397;

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

/// What an authority's certificate is to say.
#[derive(Debug, Clone)]
pub struct AuthorityTemplate {
    common_name: Option<String>,
    organization: Option<String>,
    pub(super) key: KeyKind,
    pub(super) validity: Validity,
    certtool: Option<CertificateParams>,
}

impl AuthorityTemplate {
    /// An authority of this name, with an ECDSA P-256 key, valid for ten years.
    #[must_use]
    pub fn new(common_name: impl Into<String>) -> Self {
        Self {
            common_name: Some(common_name.into()),
            organization: None,
            key: KeyKind::default(),
            validity: Validity::Days(AUTHORITY_DAYS),
            certtool: None,
        }
    }

    /// An authority as a template of certtool describes it, which must have the option `ca`. Where the template says
    /// nothing of the validity, it is ten years.
    ///
    /// ```
    /// use qio_creds::pki::{Authority, AuthorityTemplate};
    ///
    /// let template = AuthorityTemplate::from_certtool("cn = Name of your organization\nca\ncert_signing_key\n")?;
    /// let authority = Authority::create(&template)?;
    /// # Ok::<(), qio_creds::pki::PkiError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PkiError::Template`] with every line that is wrong, or [`PkiError::UnfitTemplate`] if QEMU would not take the
    /// certificate for an authority's.
    pub fn from_certtool(text: &str) -> Result<Self, PkiError> {
        let certtool::Contents { params, validity } = certtool::parse(text).map_err(PkiError::Template)?;
        let usages = &params.key_usages;
        if !matches!(params.is_ca, IsCa::Ca(_)) {
            return Err(PkiError::UnfitTemplate(
                "add the line `ca`: without it the certificate is no authority's",
            ));
        }
        if !usages.is_empty() && !usages.contains(&KeyUsagePurpose::KeyCertSign) {
            return Err(PkiError::UnfitTemplate(
                "add the line `cert_signing_key`: an authority needs it",
            ));
        }
        if params.distinguished_name.iter().next().is_none() {
            return Err(PkiError::UnfitTemplate(
                "add a line `cn = NAME`: an authority needs a name",
            ));
        }
        Ok(Self {
            common_name: None,
            organization: None,
            key: KeyKind::default(),
            validity: validity.unwrap_or(Validity::Days(AUTHORITY_DAYS)),
            certtool: Some(params),
        })
    }

    /// Sets its name.
    #[must_use]
    pub fn common_name(mut self, common_name: impl Into<String>) -> Self {
        self.common_name = Some(common_name.into());
        self
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

    /// Everything but dates and serial number.
    pub(super) fn params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = self.certtool.clone().unwrap_or_else(|| {
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params
        });
        add_subject(
            &mut params,
            self.organization.as_deref(),
            self.common_name.as_deref(),
        )?;
        Ok(params)
    }
}

/// What the certificate of a server, of a client, or of a host that is both is to say.
#[derive(Debug, Clone)]
pub struct Template {
    purpose: Purpose,
    common_name: Option<String>,
    organization: Option<String>,
    names: Vec<Name>,
    pub(super) key: KeyKind,
    pub(super) validity: Validity,
    certtool: Option<CertificateParams>,
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
            certtool: None,
        }
    }

    /// A certificate as a template of certtool describes it. Where the template says nothing of the validity, it is
    /// 397 days. Names and attributes that are set afterwards come on top.
    ///
    /// # Errors
    ///
    /// [`PkiError::Template`] with every line that is wrong, or [`PkiError::UnfitTemplate`] if QEMU would not take the
    /// certificate for this purpose.
    pub fn from_certtool(purpose: Purpose, text: &str) -> Result<Self, PkiError> {
        let certtool::Contents { params, validity } = certtool::parse(text).map_err(PkiError::Template)?;
        let (usages, purposes) = (&params.key_usages, &params.extended_key_usages);
        let any = ExtendedKeyUsagePurpose::Other(vec![2, 5, 29, 37, 0]);
        let lacks = |wanted| !purposes.is_empty() && !purposes.contains(&any) && !purposes.contains(&wanted);
        if matches!(params.is_ca, IsCa::Ca(_)) {
            return Err(PkiError::UnfitTemplate(
                "the line `ca` makes an authority, which cannot be an endpoint; remove it, or use `qio pki init`",
            ));
        }
        if !usages.is_empty() && !usages.contains(&KeyUsagePurpose::DigitalSignature) {
            return Err(PkiError::UnfitTemplate(
                "add the line `signing_key`: TLS signs with the key",
            ));
        }
        if purpose != Purpose::Client && lacks(ExtendedKeyUsagePurpose::ServerAuth) {
            return Err(PkiError::UnfitTemplate(
                "add the line `tls_www_server`: clients look for it",
            ));
        }
        if purpose != Purpose::Server && lacks(ExtendedKeyUsagePurpose::ClientAuth) {
            return Err(PkiError::UnfitTemplate(
                "add the line `tls_www_client`: servers look for it",
            ));
        }
        Ok(Self {
            validity: validity.unwrap_or(Validity::Days(DAYS)),
            certtool: Some(params),
            ..Self::new(purpose)
        })
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

    /// The purpose it is for.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether the subject is the template's matter, and not that of a request to be signed.
    pub(super) fn has_subject(&self) -> bool {
        self.certtool.is_some() || self.common_name.is_some() || self.organization.is_some()
    }

    /// Everything but dates and serial number.
    pub(super) fn params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = match &self.certtool {
            Some(params) => {
                let mut params = params.clone();
                add_subject(
                    &mut params,
                    self.organization.as_deref(),
                    self.common_name.as_deref(),
                )?;
                params
            }
            None => self.usual_params()?,
        };
        for name in &self.names {
            params.subject_alt_names.push(alternative_name(name)?);
        }
        Ok(params)
    }

    fn usual_params(&self) -> Result<CertificateParams, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        add_subject(
            &mut params,
            self.organization.as_deref(),
            Some(&self.subject_name()),
        )?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = match self.purpose {
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        Ok(params)
    }

    /// The common name that the certificate gets.
    fn subject_name(&self) -> String {
        match (&self.common_name, self.names.first(), self.purpose) {
            (Some(name), ..) => name.clone(),
            (None, Some(name), _) => name.to_string(),
            (None, None, Purpose::Client) => "qio client".to_owned(),
            (None, None, Purpose::Server | Purpose::Both) => "qio server".to_owned(),
        }
    }
}

fn add_subject(
    params: &mut CertificateParams,
    organization: Option<&str>,
    common_name: Option<&str>,
) -> Result<(), PkiError> {
    for (kind, text) in [
        (DnType::OrganizationName, organization),
        (DnType::CommonName, common_name),
    ] {
        if let Some(text) = text {
            let value = attribute_value(&kind, text)?;
            params.distinguished_name.push(kind, value);
        }
    }
    Ok(())
}
