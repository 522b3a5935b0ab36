//! The traffic secret of an OpenSSL connection's own side, for one last alert.
//!
//! OpenSSL sends no alert of a caller's choice. So when an access list refuses a user, access_denied is sealed here,
//! with a key derived from the secret that OpenSSL's key log tells. The secret is kept from the handshake to the
//! verdict, wiped then, and never written anywhere.

use aws_lc_rs::aead::{AES_128_GCM, Algorithm, CHACHA20_POLY1305};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use qio_creds::{Endpoint, PskKey};
use zeroize::Zeroizing;

use crate::facts::TlsVersion;
use crate::refusal::{SealingKey, seal};

/// The secret of `endpoint`'s own first application key, if this is the line of the key log that tells it. A line is
/// a label, the client's random and the secret in hexadecimal.
pub(crate) fn own_secret(endpoint: Endpoint, line: &str) -> Option<PskKey> {
    let label = match endpoint {
        Endpoint::Server => "SERVER_TRAFFIC_SECRET_0 ",
        Endpoint::Client => "CLIENT_TRAFFIC_SECRET_0 ",
    };
    let (_random, secret) = line.strip_prefix(label)?.split_once(' ')?;
    PskKey::from_hex(secret).ok()
}

/// The first record behind a TLS 1.3 handshake, as a fatal alert. None for a suite that is not used with keys.
pub(crate) fn fatal_alert(alert: u8, suite: &str, secret: &PskKey) -> Option<Vec<u8>> {
    let (algorithm, is_gcm): (&'static Algorithm, bool) = match suite {
        "TLS_AES_128_GCM_SHA256" => (&AES_128_GCM, true),
        "TLS_CHACHA20_POLY1305_SHA256" => (&CHACHA20_POLY1305, false),
        _ => return None,
    };
    let mut key = Zeroizing::new(vec![0; algorithm.key_len()]);
    let mut iv = [0; 12];
    expand_label(secret, "key", &mut key)?;
    expand_label(secret, "iv", &mut iv)?;
    let key = SealingKey {
        algorithm,
        key: &key,
        iv,
        is_gcm,
    };
    seal(alert, TlsVersion::Tls13, 0, &key)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label without a context (RFC 8446, section 7.1).
fn expand_label(secret: &PskKey, label: &str, out: &mut [u8]) -> Option<()> {
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label = format!("tls13 {label}");
    let label_length = [u8::try_from(label.len()).ok()?];
    let info: [&[u8]; 4] = [&length, &label_length, label.as_bytes(), &[0]];
    Prk::new_less_safe(HKDF_SHA256, secret.bytes())
        .expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .ok()
}
