//! The properties of `secret` and `secret_keyring` objects.

use std::fmt;
use std::num::NonZeroI32;
use std::path::PathBuf;

use serde::Deserialize;
use zeroize::Zeroizing;

/// How a secret is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretFormat {
    /// As its bytes are.
    #[default]
    Raw,
    /// In base64, padded; line breaks do not count.
    Base64,
}

/// Text that is a secret: wiped when dropped, and never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(crate) fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(std::mem::take(&mut *self.0).into_bytes())
    }
}

impl<T: Into<String>> From<T> for SecretText {
    fn from(text: T) -> Self {
        Self(Zeroizing::new(text.into()))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// The properties of a `secret` object, by the names QEMU gives them.
///
/// The same struct reads a command line (`--object secret,id=sec0,file=/etc/qio/password`), JSON and configuration
/// files. A property it does not know is refused.
///
/// With a `keyid`, what is written down is a ciphertext: AES-256 in CBC mode, padded as PKCS#7 says. `format` then
/// describes the ciphertext, and base64 is the only form of it that fits on a command line:
///
/// ```
/// # use qio_creds::{SecretFormat, SecretOptions};
/// let options: SecretOptions = qio_opts::from_option(
///     "id=sec1,keyid=sec0,iv=nPNAAhLGHDx9TPlJZFeEYw==,data=W0nVcj7rQNLqn4gvBPkfIg==,format=base64", None)?;
/// assert_eq!((options.keyid.as_deref(), options.format), (Some("sec0"), SecretFormat::Base64));
/// # Ok::<(), qio_opts::OptsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretOptions {
    /// The name by which other objects refer to the secret.
    pub id: String,
    /// The secret itself. Other users of the machine can read command lines: prefer a file.
    #[serde(default)]
    pub data: Option<SecretText>,
    /// The file that holds the secret; a newline at its end is a part of it.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// How it is written down; raw unless said otherwise.
    #[serde(default)]
    pub format: SecretFormat,
    /// The id of the secret that decrypts this one, which must have exactly 32 bytes.
    #[serde(default)]
    pub keyid: Option<String>,
    /// The initialization vector: the base64 of 16 bytes. Without a `keyid` it has no use.
    #[serde(default)]
    pub iv: Option<String>,
}

impl SecretOptions {
    /// A raw secret that is given here and now.
    #[must_use]
    pub fn data(id: impl Into<String>, data: impl Into<SecretText>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::nothing(id.into())
        }
    }

    /// A raw secret in a file.
    #[must_use]
    pub fn file(id: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self {
            file: Some(file.into()),
            ..Self::nothing(id.into())
        }
    }

    fn nothing(id: String) -> Self {
        Self {
            id,
            data: None,
            file: None,
            format: SecretFormat::Raw,
            keyid: None,
            iv: None,
        }
    }
}

/// The properties of a `secret_keyring` object, by the names QEMU gives them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyringSecretOptions {
    /// The name by which other objects refer to the secret.
    pub id: String,
    /// The serial number of the key, as `keyctl show` prints it; never zero.
    pub serial: NonZeroI32,
    /// How the key's payload is written down; raw unless said otherwise.
    #[serde(default)]
    pub format: SecretFormat,
    /// The id of the secret that decrypts this one; see [`SecretOptions`].
    #[serde(default)]
    pub keyid: Option<String>,
    /// The initialization vector; see [`SecretOptions`].
    #[serde(default)]
    pub iv: Option<String>,
}
