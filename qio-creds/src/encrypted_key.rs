//! Private keys that need a password: PKCS#8's `EncryptedPrivateKeyInfo` (RFC 5958) with PBES2 (RFC 8018).

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::{self, EncryptionScheme};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::{Defect, PrivateKey, Secret};

/// Decrypts a key with the password that a secret holds.
///
/// What PBES2 leaves to choose is taken: AES or Triple DES in CBC mode, and PBKDF2 or scrypt. The schemes that came
/// before it (PBES1, PKCS#12's) are not: they are told, so that the key can be converted.
pub(crate) fn decrypt(der: &[u8], password: &Secret) -> Result<PrivateKey, Defect> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| Defect::KeyEncryption {
        scheme: "one that is not known".to_owned(),
    })?;
    let decrypted = encrypted.decrypt(password.bytes()).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::UnsupportedAlgorithm { oid }) => {
            Defect::KeyEncryption {
                scheme: oid.to_string(),
            }
        }
        pkcs8::Error::EncryptedPrivateKey(pkcs5::Error::NoPbes1CryptSupport) => Defect::KeyEncryption {
            scheme: match &encrypted.encryption_algorithm {
                EncryptionScheme::Pbes1(pbes1) => format!("PBES1, {}", pbes1.oid()),
                _ => "PBES1".to_owned(),
            },
        },
        // Padding that happens to come out right leaves bytes that are no key: the password was wrong as well.
        _ => Defect::WrongPassword {
            secret: password.id().to_owned(),
            newline: password.bytes().ends_with(b"\n"),
        },
    })?;
    // The library's document is wiped when dropped, and ours when the key is.
    let key = PrivatePkcs8KeyDer::from(decrypted.as_bytes().to_vec());
    Ok(PrivateKey::from(PrivateKeyDer::from(key)))
}
