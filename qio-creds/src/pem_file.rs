//! Reading the PEM files of a credentials directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::{Defect, PrivateKey, Secret, encrypted_key};

/// The most that is read of a file of certificates or a key. A system's whole bundle of authorities is a quarter of it.
const MAX_FILE: u64 = 1 << 20;

/// The most that is read of a file of revocation lists; those of large authorities have some megabytes.
const MAX_CRL_FILE: u64 = 64 << 20;

/// The most that is read of a file of pre-shared keys: half a million users.
const MAX_PSK_FILE: u64 = 64 << 20;

/// The most certificates a chain may have, the endpoint's own among them.
pub(crate) const MAX_CHAIN: usize = 16;

/// Whether a private key file that other users can read or change is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyPermissions {
    /// Only its owner may read or change it. Anything else is refused.
    #[default]
    Private,
    /// Whatever the mode is. Tools take it as `--insecure`.
    Insecure,
}

/// Every certificate of a file, in order.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Defect> {
    let text = with_usual_label(read(open(path)?, MAX_FILE)?);
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| bad_pem(&e))?;
    if found.is_empty() {
        Err(Defect::NothingFound {
            wanted: "certificate",
        })
    } else {
        Ok(found)
    }
}

/// The certificates of a file that holds an endpoint's chain.
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Defect> {
    let chain = certificates(path)?;
    if chain.len() > MAX_CHAIN {
        Err(Defect::TooManyCertificates { limit: MAX_CHAIN })
    } else {
        Ok(chain)
    }
}

/// Every revocation list of a file; none if the file does not exist.
pub(crate) fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Defect> {
    let file = match open(path) {
        Ok(file) => file,
        Err(Defect::Missing) => return Ok(Vec::new()),
        Err(defect) => return Err(defect),
    };
    let text = read(file, MAX_CRL_FILE)?;
    let found: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|e| bad_pem(&e))?;
    if found.is_empty() {
        Err(Defect::NothingFound {
            wanted: "revocation list",
        })
    } else {
        Ok(found)
    }
}

/// The first private key of a file, which must not need a password.
#[cfg(feature = "pki")]
pub(crate) fn private_key(path: &Path, permissions: KeyPermissions) -> Result<PrivateKey, Defect> {
    locked_private_key(path, permissions, None)
}

/// The first private key of a file. The password is for a key that needs one.
pub(crate) fn locked_private_key(
    path: &Path,
    permissions: KeyPermissions,
    password: Option<&Secret>,
) -> Result<PrivateKey, Defect> {
    let text = secret(path, permissions, MAX_FILE)?;
    if contains(&text, ENCRYPTED) {
        let password = password.ok_or(Defect::KeyEncrypted)?;
        // The library knows no label for encrypted keys; what is inside is told apart by us.
        let text = with_label(text.to_vec(), ENCRYPTED, b"-----BEGIN PRIVATE KEY-----\n");
        let text = with_label(text, ENCRYPTED_END, b"-----END PRIVATE KEY-----\n");
        let encrypted = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|e| no_key(&e))?;
        return encrypted_key::decrypt(encrypted.secret_pkcs8_der(), password);
    }
    if contains(&text, OPENSSL_ENCRYPTED) {
        return Err(match password {
            None => Defect::KeyEncrypted,
            Some(_) => Defect::KeyEncryption {
                scheme: "OpenSSL's own of the 1990s".to_owned(),
            },
        });
    }
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(PrivateKey::from(key)),
        Err(error) => Err(no_key(&error)),
    }
}

fn no_key(error: &pem::Error) -> Defect {
    match error {
        pem::Error::NoItemsFound => Defect::NothingFound {
            wanted: "private key",
        },
        error => bad_pem(error),
    }
}

/// The text of a file of pre-shared keys.
pub(crate) fn psk(path: &Path, permissions: KeyPermissions) -> Result<Zeroizing<Vec<u8>>, Defect> {
    secret(path, permissions, MAX_PSK_FILE)
}

/// The text of a file that only its owner may read or change.
fn secret(path: &Path, permissions: KeyPermissions, limit: u64) -> Result<Zeroizing<Vec<u8>>, Defect> {
    let file = open(path)?;
    if permissions == KeyPermissions::Private {
        // Asked of the open file, so that what is checked is what is read.
        let mode = file.metadata().map_err(Defect::Unreadable)?.mode() & 0o7777;
        if mode & 0o066 != 0 {
            return Err(Defect::KeyOpenToOthers { mode });
        }
    }
    Ok(Zeroizing::new(read(file, limit)?))
}

fn open(path: &Path) -> Result<File, Defect> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed(); // a FIFO must not hold the program up
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Defect::Missing,
            _ => Defect::Unreadable(e),
        })?;
    if file.metadata().map_err(Defect::Unreadable)?.is_file() {
        Ok(file)
    } else {
        Err(Defect::NotAFile)
    }
}

fn read(file: File, limit: u64) -> Result<Vec<u8>, Defect> {
    let size = file.metadata().map_err(Defect::Unreadable)?.len();
    if size > limit {
        return Err(Defect::TooLarge { limit });
    }
    // Room for all of it at once: a buffer that grows would leave copies of a key behind in freed memory.
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or_default().saturating_add(1));
    // The file may have grown since its size was asked.
    file.take(limit)
        .read_to_end(&mut text)
        .map_err(Defect::Unreadable)?;
    Ok(text)
}

/// PKCS#8's label of encrypted keys.
const ENCRYPTED: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";

/// The header of keys as OpenSSL encrypted them before PKCS#8.
const OPENSSL_ENCRYPTED: &[u8] = b"\nProc-Type: 4,ENCRYPTED";

/// GnuTLS also takes, and used to write, `X509 CERTIFICATE` for a certificate.
fn with_usual_label(text: Vec<u8>) -> Vec<u8> {
    let text = with_label(
        text,
        b"-----BEGIN X509 CERTIFICATE-----",
        b"-----BEGIN CERTIFICATE-----\n",
    );
    with_label(
        text,
        b"-----END X509 CERTIFICATE-----",
        b"-----END CERTIFICATE-----\n",
    )
}

/// The text with another line in place of each that begins with `label`.
fn with_label(text: Vec<u8>, label: &[u8], line_instead: &[u8]) -> Vec<u8> {
    if !contains(&text, label) {
        return text;
    }
    let mut usual = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        usual.extend_from_slice(if line.starts_with(label) {
            line_instead
        } else {
            line
        });
    }
    usual
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window == needle)
}

fn bad_pem(error: &pem::Error) -> Defect {
    // The library's own texts may quote the file's bytes, and the file may be a key. Say only what kind it is.
    Defect::BadPem(
        match error {
            pem::Error::MissingSectionEnd { .. } => "a section has no END line",
            pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
            pem::Error::Base64Decode(_) => "a section is not base64",
            pem::Error::SectionTooLarge => "a section is too large",
            _ => "its sections cannot be read",
        }
        .to_owned(),
    )
}
