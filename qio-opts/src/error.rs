//! What can be wrong with an option text, said so that the user can mend it.

use std::fmt::{self, Display};

use serde::de::{self, Expected, Unexpected};

/// Stands in an error where a value was, when the key's name says that the value is a secret.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Are the values of this key kept out of errors and `Debug` output?
///
/// `data` is where a `secret` object holds its secret, `password` and its kin speak for themselves.
pub(crate) fn is_secret(key: &str) -> bool {
    key == "data" || key.starts_with("password")
}

/// Why an option text, in either syntax, was refused.
///
/// Keys are spelled with their whole path (`server.port`, `rules.0.match`). The values of keys that hold
/// secrets (`data`, `password...`) never appear.
///
/// Errors that a type's own `Deserialize` reports in words arrive as [`Invalid`](OptsError::Invalid).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptsError {
    /// A key that the receiving type does not have.
    #[error("unknown key '{key}'{}", known_keys(known))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// What would have been understood in its place.
        known: &'static [&'static str],
    },
    /// A key without which the object cannot be made.
    #[error("key '{key}' is missing: add '{key}=...'{}", known_keys(known))]
    MissingKey {
        /// The key to add.
        key: String,
        /// All keys of the same group; empty where that is not known.
        known: &'static [&'static str],
    },
    /// A value of the wrong type, or out of range.
    #[error("{}{value} is not valid, expected {expected}", subject(key))]
    WrongValue {
        /// The key; empty when the whole text is meant.
        key: String,
        /// The value in quotes, or its kind in words.
        value: String,
        /// What would have been right.
        expected: String,
    },
    /// The same key twice.
    #[error("key '{key}' is given more than once: keep one of them")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// The text is not in keyval syntax.
    #[error("cannot parse the option text: {reason}")]
    Syntax {
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// The text starts with a brace but is not JSON.
    #[error("cannot parse the option as JSON, line {line} column {column}: {reason}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
        /// What the JSON parser found.
        reason: String,
    },
    /// A value that a type's own check refused.
    #[error("{}{reason}", subject(key))]
    Invalid {
        /// The key; empty when the whole text is meant.
        key: String,
        /// What the check said.
        reason: String,
    },
    /// A Rust value that keyval syntax cannot express.
    #[error("cannot write {}as key=value text: {reason}", subject(key))]
    Unwritable {
        /// The key; empty when the whole value is meant.
        key: String,
        /// Why.
        reason: String,
    },
}

fn subject(key: &str) -> String {
    if key.is_empty() {
        String::new()
    } else {
        format!("key '{key}': ")
    }
}

fn known_keys(known: &[&str]) -> String {
    if known.is_empty() {
        String::new()
    } else {
        format!(" (known keys: {})", known.join(", "))
    }
}

impl OptsError {
    /// The same error seen from one level further out: `segment` is the key under which it happened.
    pub(crate) fn at(mut self, segment: &str) -> Self {
        let secret = is_secret(segment);
        match &mut self {
            OptsError::WrongValue { value, .. } if secret => HIDDEN.clone_into(value),
            OptsError::Invalid { reason, .. } if secret => {
                "the value is not valid (the reason is hidden, it could show a secret)".clone_into(reason);
            }
            _ => {}
        }
        match &mut self {
            OptsError::UnknownKey { key, .. }
            | OptsError::MissingKey { key, .. }
            | OptsError::WrongValue { key, .. }
            | OptsError::DuplicateKey { key }
            | OptsError::Invalid { key, .. }
            | OptsError::Unwritable { key, .. } => {
                *key = if key.is_empty() {
                    segment.to_owned()
                } else {
                    format!("{segment}.{key}")
                };
            }
            OptsError::Syntax { .. } | OptsError::Json { .. } => {}
        }
        self
    }

    /// Tells the missing key's neighbours, which only the struct's deserializer knows.
    pub(crate) fn among(mut self, fields: &'static [&'static str]) -> Self {
        if let OptsError::MissingKey { key, known } = &mut self
            && known.is_empty()
            && !key.contains('.')
        {
            *known = fields;
        }
        self
    }

    /// This error as another deserializer's, keeping as much of its structure as serde can carry.
    pub(crate) fn into_serde<E: de::Error>(self) -> E {
        match &self {
            OptsError::UnknownKey { key, known } => E::unknown_field(key, known),
            OptsError::MissingKey { key, known } => match known.iter().find(|name| *name == key) {
                Some(name) => E::missing_field(name),
                None => E::custom(self),
            },
            OptsError::WrongValue { key, value, expected } if key.is_empty() => {
                E::invalid_value(Unexpected::Other(value), &expected.as_str())
            }
            OptsError::Invalid { key, reason } if key.is_empty() => E::custom(reason),
            _ => E::custom(self),
        }
    }
}

fn show(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => format!("'{text}'"),
        Unexpected::Bool(value) => format!("'{}'", if value { "on" } else { "off" }),
        Unexpected::Signed(n) => format!("'{n}'"),
        Unexpected::Unsigned(n) => format!("'{n}'"),
        Unexpected::Float(n) => format!("'{n}'"),
        Unexpected::Map => "a group of keys".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Unit => "null".to_owned(),
        Unexpected::Other(text) => text.to_owned(),
        other => other.to_string(),
    }
}

impl de::Error for OptsError {
    fn custom<T: Display>(message: T) -> Self {
        OptsError::Invalid {
            key: String::new(),
            reason: message.to_string(),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        OptsError::WrongValue {
            key: String::new(),
            value: show(unexpected),
            expected: expected.to_string(),
        }
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        OptsError::WrongValue {
            key: String::new(),
            value: format!("a list of {length}"),
            expected: expected.to_string(),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        OptsError::WrongValue {
            key: String::new(),
            value: format!("'{variant}'"),
            expected: format!("one of: {}", expected.join(", ")),
        }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        OptsError::UnknownKey {
            key: field.to_owned(),
            known: expected,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        OptsError::MissingKey {
            key: field.to_owned(),
            known: &[],
        }
    }

    fn duplicate_field(field: &'static str) -> Self {
        OptsError::DuplicateKey {
            key: field.to_owned(),
        }
    }
}

impl serde::ser::Error for OptsError {
    fn custom<T: Display>(message: T) -> Self {
        OptsError::Unwritable {
            key: String::new(),
            reason: message.to_string(),
        }
    }
}

impl From<serde_json::Error> for OptsError {
    fn from(error: serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        OptsError::Json { line, column, reason }
    }
}

/// Shows a string, or [`HIDDEN`], in `Debug` output of values.
pub(crate) struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}
