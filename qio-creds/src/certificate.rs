//! Reading a certificate for people: what `qio pki show` prints and error texts quote.

use std::fmt;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage};
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::distinguished_name;

/// Why a certificate cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not an X.509 certificate in DER form, or cut short.
    #[error("it is not an X.509 certificate in DER form, or it is cut short")]
    Malformed,
    /// A certificate with something behind it.
    #[error("{0} bytes follow the end of the certificate")]
    TrailingBytes(usize),
}

/// The kind of a public key, and its size where the kind leaves that open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// RSA, with the size of its modulus in bits.
    Rsa(u32),
    /// ECDSA on NIST P-256.
    EcdsaP256,
    /// ECDSA on NIST P-384.
    EcdsaP384,
    /// ECDSA on NIST P-521.
    EcdsaP521,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// Anything else, by its object identifier.
    Other(String),
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA {bits}"),
            Self::EcdsaP256 => f.write_str("ECDSA P-256"),
            Self::EcdsaP384 => f.write_str("ECDSA P-384"),
            Self::EcdsaP521 => f.write_str("ECDSA P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Other(oid) => write!(f, "key type {oid}"),
        }
    }
}

impl Serialize for KeyAlgorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a person wants to know of a certificate.
///
/// Nothing here is verified: it is what the certificate says of itself. All texts may hold any character that the
/// certificate holds; [`Display`](fmt::Display) prints a one-line form that is safe for a terminal or a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CertificateSummary {
    /// The subject, spelled as QEMU spells it for access lists, for instance `C=DE,O=Example,CN=host1`.
    pub subject: String,
    /// The issuer, spelled likewise.
    pub issuer: String,
    /// The subject's common name, if it has one that is text.
    pub common_name: Option<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// When validity begins.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// When validity ends.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    /// The DNS names of the subject alternative name extension.
    pub dns_names: Vec<String>,
    /// The IP addresses of the subject alternative name extension.
    pub ip_addresses: Vec<IpAddr>,
    /// Its other names, each with its kind in front, for instance `uri:spiffe://example/qemu`.
    pub other_names: Vec<String>,
    /// The kind and size of the public key.
    pub key: KeyAlgorithm,
    /// The object identifier of the algorithm that the issuer signed with.
    pub signature_algorithm: String,
    /// Whether the basic constraints say that it may issue certificates.
    pub ca: bool,
    /// The key usages by their names in RFC 5280; none where the extension is absent.
    pub key_usage: Option<Vec<&'static str>>,
    /// The purposes by their names in RFC 5280, or by object identifier; none where the extension is absent.
    pub extended_key_usage: Option<Vec<String>>,
    /// The SHA-256 digest of the DER form, in hexadecimal.
    pub sha256: String,
}

impl CertificateSummary {
    /// Reads a certificate in DER form.
    ///
    /// The input may come from a peer: reading it takes time and memory in proportion to its length.
    ///
    /// # Errors
    ///
    /// [`CertificateError`] if it is not exactly one certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = parse(der)?;
        let mut summary = Self {
            subject: distinguished_name::spell(certificate.subject()),
            issuer: distinguished_name::spell(certificate.issuer()),
            common_name: distinguished_name::common_name(certificate.subject()),
            serial: hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.to_datetime(),
            not_after: certificate.validity().not_after.to_datetime(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            other_names: Vec::new(),
            key: key_algorithm(certificate.public_key()),
            signature_algorithm: certificate.signature_algorithm.algorithm.to_id_string(),
            ca: certificate.is_ca(),
            key_usage: certificate
                .key_usage()
                .ok()
                .flatten()
                .map(|usage| key_usages(usage.value)),
            extended_key_usage: certificate
                .extended_key_usage()
                .ok()
                .flatten()
                .map(|purposes| extended_key_usages(purposes.value)),
            sha256: hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref()),
        };
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            names
                .value
                .general_names
                .iter()
                .for_each(|name| summary.add_name(name));
        }
        Ok(summary)
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                match v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)) {
                    Ok(address) => self.ip_addresses.push(address),
                    Err(_) => self.other_names.push(format!("ip:#{}", hex(bytes))),
                }
            }
            GeneralName::RFC822Name(name) => self.other_names.push(format!("email:{name}")),
            GeneralName::URI(name) => self.other_names.push(format!("uri:{name}")),
            GeneralName::DirectoryName(name) => {
                self.other_names
                    .push(format!("dn:{}", distinguished_name::spell(name)));
            }
            GeneralName::RegisteredID(oid) => self.other_names.push(format!("oid:{}", oid.to_id_string())),
            GeneralName::OtherName(oid, _) => self.other_names.push(format!("other:{}", oid.to_id_string())),
            _ => self.other_names.push("unreadable".to_owned()),
        }
    }

    /// The names and addresses for which a client would take this certificate, ready to print.
    ///
    /// The common name counts only where the certificate has no alternative names at all.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let names: Vec<_> = self
            .dns_names
            .iter()
            .cloned()
            .chain(self.ip_addresses.iter().map(ToString::to_string))
            .collect();
        if names.is_empty() && self.other_names.is_empty() {
            self.common_name.iter().cloned().collect()
        } else {
            names
        }
    }

    /// Whether `at` lies within the certificate's validity, both ends included.
    #[must_use]
    pub fn is_valid_at(&self, at: OffsetDateTime) -> bool {
        self.not_before <= at && at <= self.not_after
    }
}

impl fmt::Display for CertificateSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' issued by '{}', {}, valid {} to {}",
            printable(&self.subject),
            printable(&self.issuer),
            self.key,
            self.not_before.date(),
            self.not_after.date(),
        )
    }
}

/// `text` with everything escaped that could confuse a terminal or a log: control characters and those that
/// change the direction of writing. What a peer says of itself goes through here before it is printed.
///
/// ```
/// assert_eq!(qio_creds::printable("CN=a\nb"), r"CN=a\nb");
/// ```
#[must_use]
pub fn printable(text: &str) -> String {
    let confusing = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if confusing(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
            out
        })
}

/// Parses exactly one certificate.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let mut parser = x509_parser::certificate::X509CertificateParser::new();
    match parser.parse(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(CertificateError::TrailingBytes(rest.len())),
        Err(_) => Err(CertificateError::Malformed),
    }
}

pub(crate) fn key_algorithm(key: &SubjectPublicKeyInfo<'_>) -> KeyAlgorithm {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let bits = match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => u32::try_from(rsa.key_size()).unwrap_or(u32::MAX),
            _ => 0,
        };
        return KeyAlgorithm::Rsa(bits);
    }
    if *algorithm == OID_SIG_ED25519 {
        return KeyAlgorithm::Ed25519;
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => KeyAlgorithm::EcdsaP256,
            Some(curve) if curve == OID_NIST_EC_P384 => KeyAlgorithm::EcdsaP384,
            Some(curve) if curve == OID_NIST_EC_P521 => KeyAlgorithm::EcdsaP521,
            Some(curve) => KeyAlgorithm::Other(curve.to_id_string()),
            None => KeyAlgorithm::Other(algorithm.to_id_string()),
        };
    }
    KeyAlgorithm::Other(algorithm.to_id_string())
}

fn key_usages(usage: &KeyUsage) -> Vec<&'static str> {
    [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn extended_key_usages(purposes: &ExtendedKeyUsage<'_>) -> Vec<String> {
    [
        (purposes.any, "anyExtendedKeyUsage"),
        (purposes.server_auth, "serverAuth"),
        (purposes.client_auth, "clientAuth"),
        (purposes.code_signing, "codeSigning"),
        (purposes.email_protection, "emailProtection"),
        (purposes.time_stamping, "timeStamping"),
        (purposes.ocsp_signing, "OCSPSigning"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| name.to_owned())
    .chain(purposes.other.iter().map(x509_parser::asn1_rs::Oid::to_id_string))
    .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
