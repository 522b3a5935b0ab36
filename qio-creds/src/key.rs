//! Private keys: kept out of sight, and matched with their certificates.

use std::fmt;

use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroize;

use crate::KeyAlgorithm;

/// A private key: wiped when dropped, and never printed.
pub struct PrivateKey(PrivateKeyDer<'static>);

impl PrivateKey {
    /// The key in DER form: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
    ///
    /// Copies made from it are the caller's to wipe.
    #[must_use]
    pub fn der(&self) -> &PrivateKeyDer<'static> {
        &self.0
    }

    /// The public half, or none if the key is damaged or of a kind that is not supported.
    pub(crate) fn public_half(&self) -> Option<PublicHalf> {
        match &self.0 {
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                ed25519(der)
                    .or_else(|| ecdsa(der))
                    .or_else(|| rsa(RsaKeyPair::from_pkcs8(der).ok()))
            }
            PrivateKeyDer::Pkcs1(der) => rsa(RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()),
            PrivateKeyDer::Sec1(der) => ecdsa(der.secret_sec1_der()),
            _ => None,
        }
    }
}

impl From<PrivateKeyDer<'static>> for PrivateKey {
    fn from(der: PrivateKeyDer<'static>) -> Self {
        Self(der)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// The public half of a private key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PublicHalf {
    pub(crate) algorithm: KeyAlgorithm,
    /// As it stands in the bit string of a certificate's subject public key info.
    pub(crate) bits: Vec<u8>,
}

fn ed25519(der: &[u8]) -> Option<PublicHalf> {
    // "Maybe unchecked" only in that PKCS#8 version 1 brings no public key to compare with; there is none to miss.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
    Some(PublicHalf {
        algorithm: KeyAlgorithm::Ed25519,
        bits: pair.public_key().as_ref().to_vec(),
    })
}

fn ecdsa(der: &[u8]) -> Option<PublicHalf> {
    let curves: [(&'static EcdsaSigningAlgorithm, KeyAlgorithm); 3] = [
        (&ECDSA_P256_SHA256_ASN1_SIGNING, KeyAlgorithm::EcdsaP256),
        (&ECDSA_P384_SHA384_ASN1_SIGNING, KeyAlgorithm::EcdsaP384),
        (&ECDSA_P521_SHA512_ASN1_SIGNING, KeyAlgorithm::EcdsaP521),
    ];
    curves.into_iter().find_map(|(curve, algorithm)| {
        let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
        Some(PublicHalf {
            algorithm,
            bits: pair.public_key().as_ref().to_vec(),
        })
    })
}

fn rsa(pair: Option<RsaKeyPair>) -> Option<PublicHalf> {
    let pair = pair?;
    let bits = u32::try_from(pair.public_modulus_len().checked_mul(8)?).ok()?;
    Some(PublicHalf {
        algorithm: KeyAlgorithm::Rsa(bits),
        bits: pair.public_key().as_ref().to_vec(),
    })
}
