//! Options as QEMU's tools take them: keyval text (`a=b,c.d=e`) or JSON, into serde structs.
//!
//! One struct serves both syntaxes. The first character decides: a brace means JSON.
//!
//! ```
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! #[serde(rename_all = "kebab-case", deny_unknown_fields)]
//! struct Creds {
//!     id: String,
//!     dir: std::path::PathBuf,
//!     #[serde(default = "yes")]
//!     verify_peer: bool,
//! }
//! fn yes() -> bool { true }
//!
//! let keyval: Creds = qio_opts::from_option("id=tls0,dir=/etc/pki/qemu,verify-peer=off", None)?;
//! let json: Creds = qio_opts::from_option(r#"{"id": "tls0", "dir": "/etc/pki/qemu", "verify-peer": false}"#, None)?;
//! assert_eq!((keyval.id, keyval.dir, keyval.verify_peer), (json.id, json.dir, json.verify_peer));
//!
//! let error = qio_opts::from_option::<Creds>("id=tls0,directory=/etc", None).err().unwrap();
//! assert_eq!(error.to_string(), "unknown key 'directory' (known keys: id, dir, verify-peer)");
//! # Ok::<(), qio_opts::OptsError>(())
//! ```
//!
//! # What a struct needs
//!
//! * `#[serde(deny_unknown_fields)]`, so that a mistyped key is an error that lists the known ones.
//! * In keyval every scalar is a string; it becomes a bool (`on`, `off`, `yes`, `no`, `true`, `false`, `y`,
//!   `n`) or an integer (decimal or `0x`) where the struct asks for one. [`Size`] takes `10M`.
//! * **Tagged enums and `flatten`.** serde buffers the fields of an internally tagged enum
//!   (`#[serde(tag = "type")]`), and the buffer no longer converts strings. Mark each variant, or each such
//!   field, with [`#[serde(deserialize_with = "qio_opts::lenient")]`](lenient).
//!
//! ```
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! #[serde(tag = "type", rename_all = "kebab-case")]
//! enum Address {
//!     #[serde(deserialize_with = "qio_opts::lenient")]
//!     Inet(Inet),
//! }
//! #[derive(Deserialize)]
//! struct Inet { host: String, ipv4: Option<bool> }
//!
//! let Address::Inet(inet) = qio_opts::from_keyval("type=inet,host=::,ipv4=off", None)?;
//! assert_eq!(inet.ipv4, Some(false));
//! # Ok::<(), qio_opts::OptsError>(())
//! ```
//!
//! # Objects
//!
//! [`ObjectRegistry`] keeps what `--object` creates, by id, for the options that refer to it.
//!
//! # What this crate deliberately does not know
//!
//! Any object or option in particular: those are structs of the crates that use them. It opens no files.

mod de;
mod error;
mod keyval;
mod registry;
mod ser;
mod size;
mod value;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};

pub use error::OptsError;
pub use keyval::Keyval;
pub use registry::{Object, ObjectInfo, ObjectRegistry, RegistryError, WeakRegistry, check_id};
pub use ser::to_keyval;
pub use size::{InvalidSize, Size};
pub use value::{Map, Value};

/// Reads keyval text into a type; `implied_key` is the key of a first item that has none.
///
/// See [`Keyval`] for the syntax.
///
/// # Errors
/// An [`OptsError`] that names the key and says what was expected.
pub fn from_keyval<T: DeserializeOwned>(text: &str, implied_key: Option<&str>) -> Result<T, OptsError> {
    Keyval::new().implied_key(implied_key).parse_into(text)
}

/// Reads JSON text into a type.
///
/// As lenient as keyval: `"ipv4": "on"` will do for a bool, `"port": 10809` for a string.
///
/// # Errors
/// An [`OptsError`] that names the key and says what was expected.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, OptsError> {
    Value::from_json(text)?.into_type()
}

/// Reads an option's argument into a type: JSON if it starts with a brace, keyval otherwise.
///
/// # Errors
/// Those of [`from_json`] and [`from_keyval`].
pub fn from_option<T: DeserializeOwned>(text: &str, implied_key: Option<&str>) -> Result<T, OptsError> {
    if is_json(text) {
        from_json(text)
    } else {
        from_keyval(text, implied_key)
    }
}

/// Parses an option's argument of either syntax, for looking at before it is given a type.
///
/// For options that may hold secrets prefer [`from_option`] with a tagged enum: it also recognizes the rest of a
/// secret behind an unescaped comma, and keeps it out of the error.
///
/// # Errors
/// Those of [`Value::from_json`] and [`Keyval::parse`].
pub fn parse_option(text: &str, implied_key: Option<&str>) -> Result<Value, OptsError> {
    if is_json(text) {
        Value::from_json(text)
    } else {
        Keyval::new().implied_key(implied_key).parse(text)
    }
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

/// For `#[serde(deserialize_with = "qio_opts::lenient")]` on fields and variants that serde buffers.
///
/// The fields of an internally tagged enum, or of a flattened struct, go through a buffer in which strings
/// stay strings. This takes a field, or a whole variant, out of the buffer and converts it as [`Value`] does.
/// It works with any other serde format too.
///
/// # Errors
/// The deserializer's own.
pub fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    Value::deserialize(deserializer)?
        .into_type()
        .map_err(OptsError::into_serde)
}
