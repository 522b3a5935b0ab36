//! Secrets that are encrypted with another secret: AES-256 in CBC mode, padded as PKCS#7 says.

use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::{FixedLength, IV_LEN_128_BIT};
use zeroize::Zeroizing;

use crate::Secret;
use crate::secret::{SecretError, from_base64};

/// Decrypts a secret. `iv` is the base64 of the initialization vector.
///
/// Every byte of the padding is checked; QEMU looks at the last one only.
pub(crate) fn decrypt(
    id: &str,
    mut ciphertext: Zeroizing<Vec<u8>>,
    key: &Secret,
    iv: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    if key.bytes().len() != AES_256_KEY_LEN {
        return Err(SecretError::KeyLength {
            id: id.to_owned(),
            keyid: key.id().to_owned(),
            found: key.bytes().len(),
        });
    }
    let iv = iv.ok_or_else(|| SecretError::NoIv { id: id.to_owned() })?;
    let iv = from_base64(id, "its iv", iv.as_bytes())?;
    let iv: [u8; IV_LEN_128_BIT] = iv.as_slice().try_into().map_err(|_| SecretError::IvLength {
        id: id.to_owned(),
        found: iv.len(),
    })?;
    let context = DecryptionContext::Iv128(FixedLength::from(iv));

    let plaintext = UnboundCipherKey::new(&AES_256, key.bytes())
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .and_then(|key| key.decrypt(&mut ciphertext, context))
        // One error for all: which byte was wrong is nobody's business.
        .map_err(|_| SecretError::Undecryptable {
            id: id.to_owned(),
            keyid: key.id().to_owned(),
        })?;
    let len = plaintext.len();
    ciphertext.truncate(len);
    Ok(ciphertext)
}
