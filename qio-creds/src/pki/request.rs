//! Certificate signing requests (PKCS #10, RFC 2986): the key stays with its owner, the authority sees a request.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, IsCa, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use serde::Serialize;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

use super::pair::{self, signer};
use super::template::{Name, Template};
use super::{PkiError, name};
use crate::certificate::{key_algorithm, printable};
use crate::{KeyAlgorithm, PrivateKey, distinguished_name};

/// The smallest RSA key that any TLS engine in use takes, in bits.
const MIN_RSA_BITS: u32 = 2048;

/// The most that is read of a request; real ones have two kilobytes.
const MAX_REQUEST: usize = 64 << 10;

/// A certificate signing request whose signature has been checked: whoever made it has the private key.
///
/// Nothing else of it is verified. Who asks, and for which names, is for the authority's operator to judge.
#[derive(Debug, Clone)]
pub struct Request {
    der: CertificateSigningRequestDer<'static>,
    public_key: SubjectPublicKeyInfo,
    summary: RequestSummary,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RequestSummary {
    /// The subject, spelled as QEMU spells it for access lists. It may hold any character.
    pub subject: String,
    /// The DNS names and addresses of the subject alternative name extension that it asks for.
    #[serde(serialize_with = "as_text")]
    pub names: Vec<Name>,
    /// Other names that it asks for, each with its kind in front.
    pub other_names: Vec<String>,
    /// Whether it asks for the certificate of an authority.
    pub ca: bool,
    /// The kind and size of the public key.
    pub key: KeyAlgorithm,
}

fn as_text<S: serde::Serializer>(names: &[Name], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(ToString::to_string))
}

impl Request {
    /// Makes a private key, and a request for a certificate as the template describes it. An RSA key takes seconds.
    ///
    /// A request has no dates: the authority decides on those.
    ///
    /// # Errors
    ///
    /// [`PkiError`] if a name is not possible, or the cryptographic library fails.
    pub fn create(template: &Template) -> Result<(Self, PrivateKey), PkiError> {
        let mut params: CertificateParams = template.params()?;
        // What a request cannot say.
        params.serial_number = None;
        params.name_constraints = None;
        params.crl_distribution_points.clear();
        params.is_ca = IsCa::ExplicitNoCa;
        let key = pair::generate(template.key)?;
        let request = params
            .serialize_request(&*signer(&key)?)
            .map_err(PkiError::generate("signing the request"))?;
        Ok((Self::from_der(request.der())?, key))
    }

    /// Reads a request in PEM or DER form, and checks its signature.
    ///
    /// The input may come from anybody: reading it takes time and memory in proportion to its length, which is capped
    /// at 64 KiB.
    ///
    /// # Errors
    ///
    /// [`PkiError::Request`] if it is none, if its signature is wrong, or if no peer would take its key.
    pub fn read(contents: &[u8]) -> Result<Self, PkiError> {
        if contents.len() > MAX_REQUEST {
            return Err(PkiError::Request("it is far too large"));
        }
        if !contents.starts_with(b"-----BEGIN") && !contents.windows(6).any(|window| window == b"\n-----") {
            return Self::from_der(contents);
        }
        let sections =
            pem::parse_many(contents).map_err(|_| PkiError::Request("it is not well-formed PEM"))?;
        // certtool writes the second label.
        let labels = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
        match sections.iter().find(|section| labels.contains(&section.tag())) {
            Some(section) => Self::from_der(section.contents()),
            None => Err(PkiError::Request("its file holds no CERTIFICATE REQUEST")),
        }
    }

    fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(PkiError::Request(
                "it is no certificate signing request, or it is cut short",
            ));
        };
        let info = &request.certification_request_info;
        request.verify_signature().map_err(|_| {
            PkiError::Request("its signature is wrong or of an unknown kind: it has been damaged, or its maker has not got the key")
        })?;
        let public_key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|_| PkiError::Request("its key is of a kind that cannot be certified"))?;
        let key = key_algorithm(&info.subject_pki);
        if matches!(key, KeyAlgorithm::Rsa(bits) if bits < MIN_RSA_BITS) {
            return Err(PkiError::Request(
                "its RSA key has fewer than 2048 bits, which peers refuse",
            ));
        }
        let mut summary = RequestSummary {
            subject: distinguished_name::spell(&info.subject),
            names: Vec::new(),
            other_names: Vec::new(),
            ca: false,
            key,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::BasicConstraints(constraints) => summary.ca = constraints.ca,
                ParsedExtension::SubjectAlternativeName(names) => {
                    names.general_names.iter().for_each(|name| summary.add_name(name));
                }
                _ => {}
            }
        }
        Ok(Self {
            der: CertificateSigningRequestDer::from(der.to_vec()),
            public_key,
            summary,
        })
    }

    /// What it asks for.
    #[must_use]
    pub fn summary(&self) -> &RequestSummary {
        &self.summary
    }

    /// The request in PEM form.
    #[must_use]
    pub fn pem(&self) -> String {
        pair::pem("CERTIFICATE REQUEST", &self.der)
    }

    pub(super) fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }

    pub(super) fn subject_name(&self) -> Result<DistinguishedName, PkiError> {
        let unsayable = || PkiError::SubjectName(printable(&self.summary.subject));
        let (_, request) = X509CertificationRequest::from_der(&self.der).map_err(|_| unsayable())?;
        name::read(&request.certification_request_info.subject).ok_or_else(unsayable)
    }
}

impl RequestSummary {
    fn add_name(&mut self, name: &GeneralName<'_>) {
        let other = match name {
            GeneralName::DNSName(text) => match text.parse() {
                Ok(name @ Name::Dns(_)) => return self.names.push(name),
                _ => format!("dns:{text}"),
            },
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                match v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)) {
                    Ok(address) => return self.names.push(Name::Ip(address)),
                    Err(_) => "ip:unreadable".to_owned(),
                }
            }
            GeneralName::RFC822Name(text) => format!("email:{text}"),
            GeneralName::URI(text) => format!("uri:{text}"),
            _ => "another kind of name".to_owned(),
        };
        self.other_names.push(other);
    }
}
