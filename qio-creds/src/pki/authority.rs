//! An authority, and what it issues.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, RsaKeySize, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::{Zeroize, Zeroizing};

use super::template::{AuthorityTemplate, KeyKind, Name, Purpose, Template, Validity};
use super::{Directory, PkiError};
use crate::certificate::{parse, printable};
use crate::check::{self, Findings};
use crate::{CertificateSummary, Defect, Identity, KeyPermissions, PrivateKey, distinguished_name, pem_file};

/// The longest common name that X.509 allows (`ub-common-name`), in characters.
const MAX_COMMON_NAME: usize = 64;

/// A certificate and its private key, just made.
#[derive(Debug)]
pub struct Pair {
    certificate: CertificateDer<'static>,
    key: PrivateKey,
}

impl Pair {
    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key, in PKCS#8.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The certificate in PEM form.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// The private key in PEM form; wiped when dropped.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        key_pem(&self.key)
    }

    /// What the certificate says.
    ///
    /// # Errors
    ///
    /// None that this module's own certificates can cause; they parse.
    pub fn summary(&self) -> Result<CertificateSummary, crate::CertificateError> {
        CertificateSummary::from_der(&self.certificate)
    }

    /// The pair as credentials built in memory take it.
    #[must_use]
    pub fn into_identity(self) -> Identity {
        Identity::new(vec![self.certificate], self.key)
    }
}

/// A certificate authority that can issue certificates: its certificate and its private key.
#[derive(Debug)]
pub struct Authority {
    pair: Pair,
    ends: OffsetDateTime,
}

impl Authority {
    /// Makes an authority with a key of its own, signed by itself. An RSA key takes seconds.
    ///
    /// # Errors
    ///
    /// [`PkiError`] if the name or the validity is not possible, or the cryptographic library fails.
    pub fn create(template: &AuthorityTemplate) -> Result<Self, PkiError> {
        let key = generate(template.key)?;
        let mut params = parameters(
            &template.common_name,
            template.organization.as_deref(),
            template.validity,
            None,
        )?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let signer = signer(&key)?;
        let certificate = params
            .self_signed(&*signer)
            .map_err(PkiError::generate("signing the authority's certificate"))?;
        Ok(Self {
            ends: params.not_after,
            pair: Pair {
                certificate: certificate.der().clone(),
                key,
            },
        })
    }

    /// Reads an authority from `ca-cert.pem` and `ca-key.pem` of a directory, and checks that it can issue.
    ///
    /// Of several certificates in the file it takes the one that the key belongs to.
    ///
    /// # Errors
    ///
    /// [`PkiError::UnfitAuthority`] with everything that is wrong with the two files.
    pub fn load(directory: &Directory, permissions: KeyPermissions) -> Result<Self, PkiError> {
        let (certificate_file, key_file) = (directory.ca_certificate(), directory.ca_key());
        let mut findings = Findings::default();
        let certificates = pem_file::certificates(&certificate_file)
            .map_err(|defect| findings.error(&certificate_file, defect))
            .unwrap_or_default();
        let key =
            pem_file::private_key(&key_file, permissions).map_err(|defect| findings.error(&key_file, defect));
        let authority = match key {
            Ok(key) if !certificates.is_empty() => {
                Self::from_files(certificates, key, &certificate_file, &key_file, &mut findings)
            }
            _ => None,
        };
        match authority {
            Some(authority) if findings.errors.is_empty() => Ok(authority),
            _ => Err(PkiError::UnfitAuthority(findings.errors)),
        }
    }

    fn from_files(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        certificate_file: &Path,
        key_file: &Path,
        findings: &mut Findings,
    ) -> Option<Self> {
        let Some(public) = key.public_half() else {
            findings.error(key_file, Defect::KeyUnusable);
            return None;
        };
        let own = |der: &CertificateDer<'_>| {
            parse(der)
                .is_ok_and(|certificate| *certificate.public_key().subject_public_key.data == *public.bits)
        };
        let Some(certificate) = certificates.into_iter().find(own) else {
            let what = Defect::KeyMismatch {
                certificate_file: certificate_file.to_owned(),
                key: public.algorithm.to_string(),
                certificate: "another key".to_owned(),
            };
            findings.error(key_file, what);
            return None;
        };
        let ends = {
            let parsed = parse(&certificate).ok()?;
            check::authority(
                &parsed,
                certificate_file,
                OffsetDateTime::now_utc(),
                true,
                findings,
            );
            parsed.validity().not_after.to_datetime()
        };
        Some(Self {
            ends,
            pair: Pair { certificate, key },
        })
    }

    /// The authority's certificate and private key.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// The authority's certificate: the trust anchor of what it issues.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.pair.certificate
    }

    /// Makes a key, and a certificate for it. An RSA key takes seconds.
    ///
    /// # Errors
    ///
    /// [`PkiError`] if a name or the validity is not possible, or the cryptographic library fails.
    pub fn issue(&self, template: &Template) -> Result<Pair, PkiError> {
        let key = generate(template.key)?;
        let mut params = parameters(
            &template.subject_name(),
            template.organization.as_deref(),
            template.validity,
            Some(self.ends),
        )?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = match template.purpose {
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = template
            .names
            .iter()
            .map(alternative_name)
            .collect::<Result<_, _>>()?;

        let signing = signer(&self.pair.key)?;
        self.expect_plain_name()?;
        let issuer = Issuer::from_ca_cert_der(&self.pair.certificate, &*signing)
            .map_err(PkiError::generate("reading the authority's certificate"))?;
        let certificate = params
            .signed_by(&*signer(&key)?, &issuer)
            .map_err(PkiError::generate("signing the certificate"))?;
        self.expect_own_name(certificate.der())?;
        Ok(Pair {
            certificate: certificate.der().clone(),
            key,
        })
    }

    /// rcgen keeps one value for each attribute and one attribute for each step of a name.
    fn expect_plain_name(&self) -> Result<(), PkiError> {
        let parsed = parse(&self.pair.certificate)
            .map_err(PkiError::generate("reading the authority's certificate"))?;
        if parsed.subject().iter_rdn().all(|rdn| rdn.iter().count() == 1) {
            Ok(())
        } else {
            Err(PkiError::IssuerName(printable(&distinguished_name::spell(
                parsed.subject(),
            ))))
        }
    }

    /// The issuer of what was signed is, byte for byte, the authority's subject: peers compare the bytes.
    fn expect_own_name(&self, issued: &CertificateDer<'_>) -> Result<(), PkiError> {
        let reading = "reading the certificate just made";
        let (ca, leaf) = (parse(&self.pair.certificate), parse(issued));
        let (ca, leaf) = (
            ca.map_err(PkiError::generate(reading))?,
            leaf.map_err(PkiError::generate(reading))?,
        );
        if ca.subject().as_raw() == leaf.issuer().as_raw() {
            Ok(())
        } else {
            Err(PkiError::IssuerName(printable(&distinguished_name::spell(
                ca.subject(),
            ))))
        }
    }
}

/// What all certificates have in common.
fn parameters(
    common_name: &str,
    organization: Option<&str>,
    validity: Validity,
    authority_ends: Option<OffsetDateTime>,
) -> Result<CertificateParams, PkiError> {
    if common_name.chars().count() > MAX_COMMON_NAME {
        return Err(PkiError::LongCommonName(common_name.to_owned()));
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.not_before, params.not_after) = validity.moments(OffsetDateTime::now_utc(), authority_ends)?;
    params.serial_number = Some(serial_number()?);
    Ok(params)
}

/// 16 random bytes, positive and never shortened: the first byte is 0x40 to 0x7f (RFC 5280 section 4.1.2.2).
fn serial_number() -> Result<SerialNumber, PkiError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(PkiError::generate("drawing a serial number"))?;
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(SerialNumber::from_slice(&serial))
}

fn alternative_name(name: &Name) -> Result<SanType, PkiError> {
    Ok(match name {
        Name::Dns(name) => SanType::DnsName(
            Ia5String::try_from(name.as_str()).map_err(PkiError::generate("writing a DNS name"))?,
        ),
        Name::Ip(address) => SanType::IpAddress(*address),
    })
}

/// Makes a private key, in PKCS#8 version 1: OpenSSL before 3.2 does not read version 2.
fn generate(kind: KeyKind) -> Result<PrivateKey, PkiError> {
    let failed = || PkiError::generate("making a private key");
    let rsa = |size| {
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
            .map_err(PkiError::generate("making an RSA key"))
    };
    let pair = match kind {
        KeyKind::Ed25519 => {
            let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(failed())?;
            return Ok(pkcs8(document.as_ref().to_vec()));
        }
        KeyKind::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(PkiError::generate("making an ECDSA key")),
        KeyKind::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)
            .map_err(PkiError::generate("making an ECDSA key")),
        KeyKind::Rsa2048 => rsa(RsaKeySize::_2048),
        KeyKind::Rsa3072 => rsa(RsaKeySize::_3072),
        KeyKind::Rsa4096 => rsa(RsaKeySize::_4096),
    };
    let pair = Zeroizing::new(pair?);
    Ok(pkcs8(pair.serialized_der().to_vec()))
}

fn pkcs8(der: Vec<u8>) -> PrivateKey {
    PrivateKey::from(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der)))
}

/// The key as rcgen signs with it; wiped when dropped.
fn signer(key: &PrivateKey) -> Result<Zeroizing<KeyPair>, PkiError> {
    KeyPair::try_from(key.der())
        .map(Zeroizing::new)
        .map_err(PkiError::generate("reading the private key"))
}

pub(super) fn certificate_pem(der: &CertificateDer<'_>) -> String {
    encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))
}

fn key_pem(key: &PrivateKey) -> Zeroizing<String> {
    let label = match key.der() {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let section = pem::Pem::new(label, key.der().secret_der());
    let text = Zeroizing::new(encode(&section));
    section.into_contents().zeroize();
    text
}

fn encode(section: &pem::Pem) -> String {
    pem::encode_config(
        section,
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}
