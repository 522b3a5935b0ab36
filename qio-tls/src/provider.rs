//! The cryptography that sessions run on, assembled from two libraries.

use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::{CipherSuite, SupportedCipherSuite};

/// The provider of this process.
///
/// Key exchange, signatures and verification come from aws-lc-rs (X25519MLKEM768 first). The AEAD comes from
/// whichever library is faster on this processor: with VAES but without AVX-512, ring encrypts up to twice as fast.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(assemble(processor()))))
}

/// What matters of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Processor {
    aes: bool,
    vaes: bool,
    avx512: bool,
}

/// Does the processor have instructions for AES?
#[cfg(feature = "psk")]
pub(crate) fn has_aes() -> bool {
    processor().aes
}

fn processor() -> Processor {
    #[cfg(target_arch = "x86_64")]
    let found = Processor {
        aes: is_x86_feature_detected!("aes"),
        vaes: is_x86_feature_detected!("vaes"),
        avx512: is_x86_feature_detected!("avx512f"),
    };
    #[cfg(target_arch = "aarch64")]
    let found = Processor {
        aes: std::arch::is_aarch64_feature_detected!("aes"),
        vaes: false,
        avx512: false,
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found = Processor {
        aes: false,
        vaes: false,
        avx512: false,
    };
    found
}

fn assemble(processor: Processor) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if processor.vaes && !processor.avx512 {
        provider.cipher_suites = ring::default_provider().cipher_suites;
    }
    provider
        .cipher_suites
        .sort_by_key(|suite| rank(suite, processor.aes));
    provider
}

/// TLS 1.3 before 1.2; AES-128 before AES-256, which is no safer against anything known and slower; ChaCha20
/// last where the processor has AES instructions, first where it has not.
fn rank(suite: &SupportedCipherSuite, aes: bool) -> (bool, u8) {
    let suite_rank = match suite.suite() {
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
            if aes {
                2
            } else {
                0
            }
        }
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 1,
        _ => 2,
    };
    (suite.tls13().is_none(), suite_rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(processor: Processor) -> Vec<CipherSuite> {
        assemble(processor)
            .cipher_suites
            .iter()
            .map(SupportedCipherSuite::suite)
            .collect()
    }

    #[test]
    fn aes_128_leads_where_the_processor_has_aes() {
        for vaes in [true, false] {
            let suites = suites(Processor {
                aes: true,
                vaes,
                avx512: false,
            });
            assert_eq!(suites[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
            assert_eq!(suites.len(), 9);
        }
    }

    #[test]
    fn chacha_leads_where_it_has_not() {
        let suites = suites(Processor {
            aes: false,
            vaes: false,
            avx512: false,
        });
        assert_eq!(suites[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
    }

    /// Only forward-secret key exchange is on offer, which is what makes decryption oracles pointless.
    #[test]
    fn cred_08_no_static_rsa() {
        for suite in &provider().cipher_suites {
            let name = format!("{:?}", suite.suite());
            assert!(
                name.starts_with("TLS13_") || name.starts_with("TLS_ECDHE_"),
                "{name}"
            );
        }
    }

    #[test]
    fn the_post_quantum_hybrid_is_preferred() {
        let first = provider().kx_groups.first().map(|group| group.name());
        assert_eq!(first, Some(rustls::NamedGroup::X25519MLKEM768));
    }
}
