//! What a priority string leaves of the engine for certificates.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use qio_creds::rustls_pki_types::CertificateDer;
use qio_creds::{CertificateSummary, KeyAlgorithm, Priority, Profile, X509, printable};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion, version};
use webpki::VerifiedPath;

use crate::provider::provider;

/// The versions and algorithms for sessions with one credentials object.
pub(crate) struct Algorithms {
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    pub(crate) tickets: bool,
    pub(crate) require_ems: bool,
}

/// What the object's priority string leaves, or all there is. The error says what there is nothing left of.
pub(crate) fn algorithms(x509: &X509) -> Result<Algorithms, String> {
    let Some(priority) = x509.priority() else {
        return Ok(Algorithms {
            provider: provider(),
            versions: vec![&version::TLS13, &version::TLS12],
            tickets: true,
            require_ems: false,
        });
    };
    let mut provider = (*provider()).clone();
    let suites = &mut provider.cipher_suites;
    suites.retain(|suite| priority.cipher_suite(suite.suite().into()).is_some());
    suites.sort_by_key(|suite| priority.cipher_suite(suite.suite().into()));
    let groups = &mut provider.kx_groups;
    groups.retain(|group| priority.group(group.name().into()).is_some());
    groups.sort_by_key(|group| priority.group(group.name().into()));
    provider.signature_verification_algorithms =
        restrict(provider.signature_verification_algorithms, priority);

    let versions: Vec<_> = [&version::TLS13, &version::TLS12]
        .into_iter()
        .filter(|version| {
            let suites = &provider.cipher_suites;
            priority.allows_version(version.version.into())
                && suites.iter().any(|suite| suite.version() == *version)
                && provider
                    .kx_groups
                    .iter()
                    .any(|group| group.usable_for_version(version.version))
        })
        .collect();
    let lacks = if provider.cipher_suites.is_empty() {
        "cipher suite"
    } else if provider.kx_groups.is_empty() {
        "group for the key exchange"
    } else if provider.signature_verification_algorithms.mapping.is_empty() {
        "signature algorithm"
    } else if versions.is_empty() {
        "protocol version with a cipher suite and a group for it"
    } else {
        return Ok(Algorithms {
            provider: Arc::new(provider),
            versions,
            tickets: priority.allows_tickets(),
            require_ems: priority.requires_extended_master_secret(),
        });
    };
    Err(format!(
        "its priority '{priority}' leaves no {lacks} that this program has"
    ))
}

/// The algorithms of `all` for signatures in handshakes that are allowed, in order of preference.
///
/// rustls wants them to live as long as the process. What was made once is used again, so that reloading credentials does not
/// add to it.
fn restrict(all: WebPkiSupportedAlgorithms, priority: &Priority) -> WebPkiSupportedAlgorithms {
    type Made = Vec<(Vec<SignatureScheme>, WebPkiSupportedAlgorithms)>;
    static MADE: Mutex<Made> = Mutex::new(Vec::new());

    let mut mapping = all.mapping.to_vec();
    mapping.retain(|(scheme, _)| priority.signature_scheme((*scheme).into()).is_some());
    mapping.sort_by_key(|(scheme, _)| priority.signature_scheme((*scheme).into()));
    let schemes: Vec<_> = mapping.iter().map(|(scheme, _)| *scheme).collect();
    // Only whole entries are pushed, so a panic elsewhere cannot have left half of one.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    match made.iter().find(|(known, _)| *known == schemes) {
        Some((_, algorithms)) => *algorithms,
        None => {
            let algorithms = WebPkiSupportedAlgorithms {
                all: all.all,
                mapping: mapping.leak(),
            };
            made.push((schemes, algorithms));
            algorithms
        }
    }
}

/// A private key that signs with the algorithms of a priority string only.
pub(crate) fn restrict_key(key: Arc<dyn SigningKey>, priority: Option<&Priority>) -> Arc<dyn SigningKey> {
    match priority {
        None => key,
        Some(priority) => Arc::new(RestrictedKey {
            key,
            priority: priority.clone(),
        }),
    }
}

struct RestrictedKey {
    key: Arc<dyn SigningKey>,
    priority: Priority,
}

impl fmt::Debug for RestrictedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RestrictedKey({})", self.priority)
    }
}

impl SigningKey for RestrictedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let allowed: Vec<_> = offered
            .iter()
            .copied()
            .filter(|scheme| self.priority.signature_scheme((*scheme).into()).is_some())
            .collect();
        self.key.choose_scheme(&allowed)
    }

    fn public_key(&self) -> Option<rustls::pki_types::SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }
}

/// Whether the keys from the peer's certificate to its authority's are as strong as `profile` asks. The error says which
/// is not.
pub(crate) fn check_strength(profile: Profile, path: &VerifiedPath<'_>) -> Result<(), String> {
    let leaf = path.end_entity().der();
    let intermediates = path.intermediate_certificates().map(webpki::Cert::der);
    for certificate in std::iter::once(leaf).chain(intermediates) {
        check_key(profile, &certificate)?;
    }
    Ok(())
}

fn check_key(profile: Profile, certificate: &CertificateDer<'_>) -> Result<(), String> {
    let Ok(summary) = CertificateSummary::from_der(certificate) else {
        return Err("its key cannot be read".to_owned());
    };
    let (bits, needed) = match summary.key {
        KeyAlgorithm::Rsa(bits) => (bits, profile.min_rsa_bits()),
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::Ed25519 => (256, profile.min_curve_bits()),
        KeyAlgorithm::EcdsaP384 => (384, profile.min_curve_bits()),
        KeyAlgorithm::EcdsaP521 => (521, profile.min_curve_bits()),
        _ => return Ok(()),
    };
    if bits >= needed {
        return Ok(());
    }
    Err(format!(
        "the key of '{}' ({}) is weaker than the priority string asks for ({needed} bits)",
        printable(&summary.subject),
        summary.key
    ))
}
