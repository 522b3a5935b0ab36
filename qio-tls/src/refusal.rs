//! Sealing one last alert with the keys of an established session.
//!
//! rustls sends alerts of its own accord only, and knows no reason to refuse a peer whom it has verified. So when an
//! access list refuses one, or the certificate behind a resumed session no longer passes, its connection is taken
//! apart, and this seals the one record that is still to be said (RFC 8446, section 6.2).

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;

use crate::facts::TlsVersion;

/// The level of an alert after which nothing follows.
const FATAL: u8 = 2;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
/// Record versions are 1.2 in both protocols.
const RECORD_VERSION: [u8; 2] = [3, 3];
const TAG: u16 = 16;

/// The record that ends the session with an alert. `sequence` is that of the next record to send.
///
/// `None` if the secrets are of a kind that is not known here.
pub(crate) fn fatal_alert(
    alert: u8,
    version: TlsVersion,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
) -> Option<Vec<u8>> {
    let (algorithm, key, iv, is_gcm) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv, true),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv, true),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv, false),
        _ => return None,
    };
    let key = SealingKey {
        algorithm,
        key: key.as_ref(),
        iv: iv.as_ref().try_into().ok()?,
        is_gcm,
    };
    seal(alert, version, sequence, &key)
}

/// What a record is sealed with.
pub(crate) struct SealingKey<'a> {
    pub(crate) algorithm: &'static Algorithm,
    pub(crate) key: &'a [u8],
    pub(crate) iv: [u8; 12],
    pub(crate) is_gcm: bool,
}

/// The same with a key of any engine's.
pub(crate) fn seal(alert: u8, version: TlsVersion, sequence: u64, key: &SealingKey<'_>) -> Option<Vec<u8>> {
    let is_gcm = key.is_gcm;
    let nonce = nonce(key.iv, sequence);
    let key = LessSafeKey::new(UnboundKey::new(key.algorithm, key.key).ok()?);
    let mut record = Vec::new();
    let mut content = vec![FATAL, alert];
    match version {
        // RFC 8446, section 5.2: the type travels inside, the header is authenticated.
        TlsVersion::Tls13 => {
            content.push(ALERT);
            let length = u16::try_from(content.len()).ok()? + TAG;
            record.push(APPLICATION_DATA);
            record.extend(RECORD_VERSION);
            record.extend(length.to_be_bytes());
            let header = record.clone();
            key.seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(header),
                &mut content,
            )
            .ok()?;
        }
        // RFC 5246, section 6.2.3.3; the explicit part of the nonce is that of RFC 5288 for GCM, and absent for
        // ChaCha20 (RFC 7905).
        TlsVersion::Tls12 => {
            let plain = u16::try_from(content.len()).ok()?;
            let explicit = if is_gcm { nonce.get(4..)? } else { &[] };
            let mut additional = sequence.to_be_bytes().to_vec();
            additional.push(ALERT);
            additional.extend(RECORD_VERSION);
            additional.extend(plain.to_be_bytes());
            record.push(ALERT);
            record.extend(RECORD_VERSION);
            record.extend((plain + TAG + u16::try_from(explicit.len()).ok()?).to_be_bytes());
            record.extend(explicit);
            key.seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(additional),
                &mut content,
            )
            .ok()?;
        }
    }
    record.extend(content);
    Some(record)
}

/// RFC 8446, section 5.3, which is also how rustls makes its nonces in TLS 1.2.
fn nonce(mut iv: [u8; 12], sequence: u64) -> [u8; 12] {
    for (byte, counter) in iv.iter_mut().skip(4).zip(sequence.to_be_bytes()) {
        *byte ^= counter;
    }
    iv
}
