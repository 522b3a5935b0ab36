//! Private keys just made, their certificates, and both in PEM form.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{KeyPair, RsaKeySize};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, Zeroizing};

use super::{KeyKind, PkiError};
use crate::{CertificateSummary, Identity, PrivateKey};

/// A certificate and its private key, just made.
#[derive(Debug)]
pub struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKey,
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
        pem("CERTIFICATE", &self.certificate)
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

/// Makes a private key, in PKCS#8 version 1: OpenSSL before 3.2 does not read version 2.
pub(super) fn generate(kind: KeyKind) -> Result<PrivateKey, PkiError> {
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
pub(super) fn signer(key: &PrivateKey) -> Result<Zeroizing<KeyPair>, PkiError> {
    KeyPair::try_from(key.der())
        .map(Zeroizing::new)
        .map_err(PkiError::generate("reading the private key"))
}

pub(super) fn key_pem(key: &PrivateKey) -> Zeroizing<String> {
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

/// What is not secret, in PEM form.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    encode(&pem::Pem::new(label, der))
}

fn encode(section: &pem::Pem) -> String {
    pem::encode_config(
        section,
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}
