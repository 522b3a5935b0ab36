//! An authority, and what it issues.

use std::path::Path;

use rcgen::{CertificateParams, Issuer, KeyIdMethod, KeyPair, PublicKeyData};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::pair::{generate, signer};
use super::template::{AUTHORITY_DAYS, AuthorityTemplate, DAYS, Template};
use super::{Directory, Pair, PkiError, Request, name, serial};
use crate::certificate::{parse, printable};
use crate::check::{self, Findings};
use crate::{Defect, KeyPermissions, PrivateKey, distinguished_name, pem_file};

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
        let mut params = template.params()?;
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = template.validity.moments(now, AUTHORITY_DAYS, None)?;
        if params.serial_number.is_none() {
            params.serial_number = Some(serial::random()?);
        }
        let key = generate(template.key)?;
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
        let params = template.params()?;
        let key = generate(template.key)?;
        let certificate = self.certify(params, template, &*signer(&key)?)?;
        Ok(Pair { certificate, key })
    }

    /// Signs a request: makes a certificate for a key that its owner keeps.
    ///
    /// The authority decides what the certificate says. The subject is the request's unless the template names one;
    /// names, purpose and validity are the template's; extensions that the request asks for count for nothing.
    ///
    /// # Errors
    ///
    /// [`PkiError`] if the request's subject cannot be written, a name or the validity is not possible, or the
    /// cryptographic library fails.
    pub fn sign(&self, request: &Request, template: &Template) -> Result<CertificateDer<'static>, PkiError> {
        let mut params = template.params()?;
        if !template.has_subject() {
            params.distinguished_name = request.subject_name()?;
        }
        self.certify(params, template, request.public_key())
    }

    fn certify(
        &self,
        mut params: CertificateParams,
        template: &Template,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, PkiError> {
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = template.validity.moments(now, DAYS, Some(self.ends))?;
        if params.serial_number.is_none() {
            params.serial_number = Some(serial::random()?);
        }
        params.use_authority_key_identifier_extension = true;
        let signer = signer(&self.pair.key)?;
        let certificate = params
            .signed_by(key, &self.issuer(&signer)?)
            .map_err(PkiError::generate("signing the certificate"))?;
        let issued =
            parse(certificate.der()).map_err(PkiError::generate("reading the certificate just made"))?;
        self.expect_own_name(issued.issuer().as_raw())?;
        Ok(certificate.der().clone())
    }

    /// Itself, parsed.
    pub(super) fn parsed(&self) -> Result<X509Certificate<'_>, PkiError> {
        parse(&self.pair.certificate).map_err(PkiError::generate("reading the authority's certificate"))
    }

    /// Itself, as the library takes it that signs certificates and revocation lists.
    pub(super) fn issuer<'k>(&self, signer: &'k KeyPair) -> Result<Issuer<'static, &'k KeyPair>, PkiError> {
        let certificate = self.parsed()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name::read(certificate.subject()).ok_or_else(|| self.unsayable())?;
        params.key_identifier_method = self.key_identifier()?;
        // Its key usages stay behind: the library would refuse revocation lists of an authority without cRLSign,
        // which is what the recipe of QEMU's documentation makes. See `RevocationList`.
        Ok(Issuer::new(params, signer))
    }

    /// The identifier of its key, as its certificate has it.
    pub(super) fn key_identifier(&self) -> Result<KeyIdMethod, PkiError> {
        let certificate = self.parsed()?;
        let identifier =
            certificate
                .extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
                    _ => None,
                });
        Ok(identifier.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified))
    }

    /// The issuer of what was signed is, byte for byte, the authority's subject: peers compare the bytes.
    pub(super) fn expect_own_name(&self, issuer: &[u8]) -> Result<(), PkiError> {
        if self.parsed()?.subject().as_raw() == issuer {
            Ok(())
        } else {
            Err(self.unsayable())
        }
    }

    fn unsayable(&self) -> PkiError {
        let name = self
            .parsed()
            .map(|certificate| distinguished_name::spell(certificate.subject()))
            .unwrap_or_default();
        PkiError::IssuerName(printable(&name))
    }
}
