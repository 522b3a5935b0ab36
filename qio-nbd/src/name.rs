//! Export names.

use std::fmt;

use crate::limits::MAX_STRING;
use crate::text;

/// The name of an export: UTF-8, at most 4096 bytes, without NUL. The empty name is the default export.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExportName(String);

/// Why a string cannot name an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// More than the protocol allows.
    #[error("an export name of {0} bytes is too long: at most {MAX_STRING} bytes are allowed")]
    TooLong(usize),
    /// Two programs would read it differently.
    #[error("an export name cannot contain a NUL byte")]
    Nul,
    /// The protocol wants UTF-8.
    #[error("an export name must be valid UTF-8")]
    NotUtf8,
}

impl ExportName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&[u8]> for ExportName {
    type Error = InvalidName;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidName> {
        if bytes.len() > MAX_STRING {
            return Err(InvalidName::TooLong(bytes.len()));
        }
        if bytes.contains(&0) {
            return Err(InvalidName::Nul);
        }
        str::from_utf8(bytes)
            .map(|name| ExportName(name.to_owned()))
            .map_err(|_| InvalidName::NotUtf8)
    }
}

impl TryFrom<&str> for ExportName {
    type Error = InvalidName;

    fn try_from(name: &str) -> Result<Self, InvalidName> {
        name.as_bytes().try_into()
    }
}

impl std::str::FromStr for ExportName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        name.try_into()
    }
}

/// Shortened, with control characters escaped: for messages, not for the wire.
impl fmt::Display for ExportName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::echo(&self.0))
    }
}
