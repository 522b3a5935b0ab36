//! QEMU's `secret` objects: passwords and keys that other objects refer to by id.

use std::fmt;
use std::path::PathBuf;
use std::str;
use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use qio_opts::{Object, ObjectRegistry, RegistryError};
use zeroize::Zeroizing;

use crate::secret_cipher;
use crate::secret_options::{KeyringSecretOptions, SecretFormat, SecretOptions};
use crate::secret_source;

/// A password or key: wiped from memory when it is dropped, and never printed.
///
/// It is made by `--object secret,id=ID,...` or `--object secret_keyring,id=ID,...`, and found again by its id, as
/// `passwordid=ID` of `tls-creds-x509` does.
///
/// ```
/// use qio_creds::{Secret, SecretOptions};
/// use qio_opts::ObjectRegistry;
///
/// let objects = ObjectRegistry::new();
/// let secret = Secret::load(SecretOptions::data("sec0", "xyzzy"), &objects)?;
/// assert_eq!(format!("{secret:?}"), "Secret(sec0, redacted)");
/// objects.add("sec0", secret)?;
/// assert_eq!(Secret::find(&objects, "sec0")?.utf8()?, "xyzzy");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its bytes were put together here; copies that the program was handed, such as its command line, are not this
/// object's to wipe. Prefer `file=` to `data=`: other users of the machine can read command lines.
pub struct Secret {
    id: String,
    origin: Origin,
    bytes: Zeroizing<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Options,
    Keyring,
}

impl Secret {
    /// Makes a `secret` object: reads its file if it has one, and undoes its encryption with the secret that its
    /// `keyid` names in `objects`.
    ///
    /// Blocks on the file, which may be a pipe.
    ///
    /// # Errors
    ///
    /// [`SecretError`], which never holds a byte of a secret.
    pub fn load(options: SecretOptions, objects: &ObjectRegistry) -> Result<Self, SecretError> {
        let SecretOptions {
            id,
            data,
            file,
            format,
            keyid,
            iv,
        } = options;
        let payload = match (data, file) {
            (Some(data), None) => data.into_bytes(),
            (None, Some(path)) => secret_source::read_file(&id, &path)?,
            (data, _) => {
                return Err(SecretError::DataOrFile {
                    given: if data.is_some() { "both" } else { "neither" },
                    id,
                });
            }
        };
        let bytes = open(&id, payload, format, keyid.as_deref(), iv.as_deref(), objects)?;
        Ok(Self {
            id,
            origin: Origin::Options,
            bytes,
        })
    }

    /// Makes a `secret_keyring` object: reads a key of the Linux kernel's key retention service.
    ///
    /// # Errors
    ///
    /// [`SecretError::Keyring`] if the kernel does not hand it out, and all that [`load`](Self::load) can meet.
    pub fn from_keyring(
        options: KeyringSecretOptions,
        objects: &ObjectRegistry,
    ) -> Result<Self, SecretError> {
        let KeyringSecretOptions {
            id,
            serial,
            format,
            keyid,
            iv,
        } = options;
        let payload = secret_source::read_keyring(&id, serial)?;
        let bytes = open(&id, payload, format, keyid.as_deref(), iv.as_deref(), objects)?;
        Ok(Self {
            id,
            origin: Origin::Keyring,
            bytes,
        })
    }

    /// Finds a secret by its id.
    ///
    /// # Errors
    ///
    /// [`SecretError::NotFound`] or [`SecretError::NotASecret`].
    pub fn find(objects: &ObjectRegistry, id: &str) -> Result<Arc<Self>, SecretError> {
        objects.get::<Self>(id).map_err(|error| match error {
            RegistryError::WrongKind { type_name, .. } => SecretError::NotASecret {
                id: id.to_owned(),
                type_name,
            },
            _ => SecretError::NotFound { id: id.to_owned() },
        })
    }

    /// The name of the object.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret itself. Copies made from it are the caller's to wipe.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The secret as text, which passwords have to be.
    ///
    /// # Errors
    ///
    /// [`SecretError::NotUtf8`].
    pub fn utf8(&self) -> Result<&str, SecretError> {
        str::from_utf8(&self.bytes).map_err(|_| SecretError::NotUtf8 { id: self.id.clone() })
    }

    /// The secret in base64, for protocols that carry it so.
    #[must_use]
    pub fn base64(&self) -> Zeroizing<String> {
        Zeroizing::new(Base64::encode_string(&self.bytes))
    }
}

impl Object for Secret {
    const KIND: &'static str = "secret";

    fn type_name(&self) -> &'static str {
        match self.origin {
            Origin::Options => "secret",
            Origin::Keyring => "secret_keyring",
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}, redacted)", self.id)
    }
}

/// Undoes the encoding of a payload, and the encryption if there is one.
fn open(
    id: &str,
    payload: Zeroizing<Vec<u8>>,
    format: SecretFormat,
    keyid: Option<&str>,
    iv: Option<&str>,
    objects: &ObjectRegistry,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let decoded = match format {
        SecretFormat::Raw => payload,
        SecretFormat::Base64 => from_base64(id, "the secret", &payload)?,
    };
    match keyid {
        None => Ok(decoded),
        Some(keyid) => {
            let key = Secret::find(objects, keyid)?;
            secret_cipher::decrypt(id, decoded, &key, iv)
        }
    }
}

/// Reads base64 as QEMU does: padded, and with line breaks anywhere.
pub(crate) fn from_base64(
    id: &str,
    what: &'static str,
    text: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let bad = || SecretError::BadBase64 {
        id: id.to_owned(),
        what,
    };
    let mut line = Zeroizing::new(Vec::with_capacity(text.len()));
    line.extend(text.iter().copied().filter(|byte| *byte != b'\n'));
    let line = str::from_utf8(&line).map_err(|_| bad())?;
    Base64::decode_vec(line).map(Zeroizing::new).map_err(|_| bad())
}

/// Why a secret could not be made, found or used. The first words of look-ups are QEMU's.
///
/// QEMU's third error of that kind, a secret that "has no data", cannot come up here: a [`Secret`] exists only
/// together with its bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// No object has that id.
    #[error("No secret with id '{id}'; make it with --object secret,id={id},file=FILE")]
    NotFound {
        /// The id asked for.
        id: String,
    },
    /// The object is something else.
    #[error("Object with id '{id}' is not a secret but a {type_name}; name a secret object")]
    NotASecret {
        /// The id asked for.
        id: String,
        /// The type of the object that has it.
        type_name: &'static str,
    },
    /// A password has to be text.
    #[error("Data from secret '{id}' is not valid UTF-8, which a password has to be; store it as UTF-8 text")]
    NotUtf8 {
        /// The secret.
        id: String,
    },
    /// A secret comes from one place.
    #[error("secret '{id}' has {given} of 'data' and 'file'; give exactly one of them")]
    DataOrFile {
        /// The secret.
        id: String,
        /// `both` or `neither`.
        given: &'static str,
    },
    /// The file cannot be read.
    #[error("secret '{id}': the file {} cannot be read ({source}); make it readable to this user", .path.display())]
    File {
        /// The secret.
        id: String,
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is larger than any password or key.
    #[error(
        "secret '{id}': the file {} is larger than {limit} bytes; a secret is a password or a key",
        .path.display()
    )]
    TooLarge {
        /// The secret.
        id: String,
        /// Its file.
        path: PathBuf,
        /// The most that is read, in bytes.
        limit: usize,
    },
    /// The kernel does not hand the key out.
    #[error("secret '{id}': key {serial} of the kernel's keyring cannot be read ({why}); see `keyctl show`")]
    Keyring {
        /// The secret.
        id: String,
        /// The serial number of the key.
        serial: i32,
        /// What the kernel said.
        why: String,
    },
    /// The text is not base64.
    #[error("secret '{id}': {what} is not valid base64; write it with padding and without spaces")]
    BadBase64 {
        /// The secret.
        id: String,
        /// Which part of it.
        what: &'static str,
    },
    /// The secret that decrypts others has the wrong length.
    #[error("secret '{id}': its key, the secret '{keyid}', has {found} bytes; AES-256 needs exactly 32")]
    KeyLength {
        /// The secret that is encrypted.
        id: String,
        /// The secret that decrypts it.
        keyid: String,
        /// The length of the key, in bytes.
        found: usize,
    },
    /// The initialization vector is missing.
    #[error("secret '{id}' has a keyid, but no iv; add iv= with the base64 of its 16 bytes")]
    NoIv {
        /// The secret.
        id: String,
    },
    /// The initialization vector has the wrong length.
    #[error("secret '{id}': its iv has {found} bytes; AES in CBC mode needs 16")]
    IvLength {
        /// The secret.
        id: String,
        /// The length of the vector, in bytes.
        found: usize,
    },
    /// Decryption gives nothing that was ever encrypted.
    #[error(
        "secret '{id}' cannot be decrypted with '{keyid}': the key, the iv or the format is not the right one, \
         or the secret is damaged"
    )]
    Undecryptable {
        /// The secret.
        id: String,
        /// The secret that was to decrypt it.
        keyid: String,
    },
}
