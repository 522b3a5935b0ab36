//! QEMU's `key=value,...` syntax, parsed into a [`Value`] tree.

use std::collections::btree_map::Entry;

use serde::de::DeserializeOwned;

use crate::error::{OptsError, is_secret};
use crate::value::{Map, Value};

/// How many dots a key may have. Bounds recursion; real option trees are four or five deep.
const MAX_DEPTH: usize = 32;

/// The longest part of a key between two dots, in bytes; QEMU has the same limit.
const MAX_FRAGMENT: usize = 127;

/// A parser of keyval text, with the two liberties that some options allow.
///
/// The syntax:
///
/// * `a=1,b=2` sets keys. A comma in a value is written twice: `path=/srv/a,,b`.
/// * `server.host=h,server.port=1` sets keys of a group; `disk.0=x,disk.1=y` makes a list, whose
///   numbers start at 0 and leave none out.
/// * With an [implied key](Keyval::implied_key) the first item may be its bare value.
/// * With [bare keys](Keyval::bare_keys) `ipv4` is short for `ipv4=on` and `noipv4` for `ipv4=off`.
/// * One comma at the end is allowed. A key given twice is an error (QEMU lets the last one win).
///
/// ```
/// use qio_opts::Keyval;
///
/// let mut value = Keyval::new().implied_key("qom-type").parse("tls-creds-x509,id=tls0,dir=/etc/pki/qemu")?;
/// assert_eq!(value.take_string("qom-type")?, "tls-creds-x509");
/// assert_eq!(value.take_string("id")?, "tls0");
/// # Ok::<(), qio_opts::OptsError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Keyval<'a> {
    implied_key: Option<&'a str>,
    bare_keys: bool,
}

impl<'a> Keyval<'a> {
    /// The plain syntax: no implied key, no bare keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The key that the first item belongs to when it has no `=`.
    #[must_use]
    pub fn implied_key(mut self, key: impl Into<Option<&'a str>>) -> Self {
        self.implied_key = key.into();
        self
    }

    /// Whether a key without a value means `on`, and with `no` before it `off`.
    #[must_use]
    pub fn bare_keys(mut self, allowed: bool) -> Self {
        self.bare_keys = allowed;
        self
    }

    /// Parses text into a tree whose root is a [`Value::Map`].
    ///
    /// # Errors
    /// [`OptsError::Syntax`] or [`OptsError::DuplicateKey`].
    pub fn parse(&self, text: &str) -> Result<Value, OptsError> {
        Ok(self.parse_keeping_suspects(text)?.0)
    }

    /// Parses text and converts it into a type.
    ///
    /// # Errors
    /// Those of [`parse`](Keyval::parse), and what the type finds wrong.
    pub fn parse_into<T: DeserializeOwned>(&self, text: &str) -> Result<T, OptsError> {
        let (value, suspects) = self.parse_keeping_suspects(text)?;
        value.into_type().map_err(|error| match error {
            OptsError::UnknownKey { key, .. } if suspects.contains(&key) => comma_in_secret(),
            other => other,
        })
    }

    /// Also returns the keys that came right after a secret: if one of them turns out to be unknown, it is
    /// most likely the rest of a secret with a comma in it, and must not be shown.
    fn parse_keeping_suspects(&self, text: &str) -> Result<(Value, Vec<String>), OptsError> {
        let mut root = Map::new();
        let mut suspects = Vec::new();
        let mut after_secret = false;
        let mut rest = text;
        let mut first = true;
        while !rest.is_empty() {
            let (word, separator) = split_word(rest);
            let (key, value) = match (separator, self.implied_key) {
                (Some('='), _) => {
                    let (value, after) = take_value(rest.get(word.len() + 1..).unwrap_or_default());
                    rest = after;
                    (word, value)
                }
                (_, Some(implied)) if first => {
                    rest = rest.get(word.len() + 1..).unwrap_or_default();
                    (implied, word.to_owned())
                }
                _ if after_secret => return Err(comma_in_secret()),
                _ if self.bare_keys && !word.is_empty() => {
                    rest = rest.get(word.len() + 1..).unwrap_or_default();
                    match word.strip_prefix("no") {
                        Some(key) if !key.is_empty() => (key, "off".to_owned()),
                        _ => (word, "on".to_owned()),
                    }
                }
                _ => return Err(no_value(word)),
            };
            if after_secret {
                suspects.push(key.to_owned());
            }
            insert(&mut root, key, value).map_err(|e| if after_secret { comma_in_secret() } else { e })?;
            after_secret = key.split('.').any(is_secret);
            first = false;
        }
        Ok((listify(Value::Map(root))?, suspects))
    }
}

/// The text up to the first `=` or `,`, and which of the two it was.
fn split_word(text: &str) -> (&str, Option<char>) {
    match text.find(['=', ',']) {
        Some(end) => {
            let (word, rest) = text.split_at(end);
            (word, rest.chars().next())
        }
        None => (text, None),
    }
}

/// A value with its commas unescaped, and what follows the comma that ends it.
fn take_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(',') {
        value.push_str(before);
        match after.strip_prefix(',') {
            Some(after_escape) => {
                value.push(',');
                rest = after_escape;
            }
            None => return (value, after),
        }
    }
    value.push_str(rest);
    (value, "")
}

fn insert(root: &mut Map, key: &str, value: String) -> Result<(), OptsError> {
    let (groups, last) = match key.rsplit_once('.') {
        Some((groups, last)) => (Some(groups), last),
        None => (None, key),
    };
    let mut map = root;
    for (depth, fragment) in groups
        .into_iter()
        .flat_map(|groups| groups.split('.'))
        .enumerate()
    {
        if depth >= MAX_DEPTH {
            return syntax(format!("key '{key}' has more than {MAX_DEPTH} levels"));
        }
        check_fragment(key, fragment)?;
        let slot = map
            .entry(fragment.to_owned())
            .or_insert_with(|| Value::Map(Map::new()));
        let Value::Map(inner) = slot else {
            return inconsistent(key);
        };
        map = inner;
    }
    check_fragment(key, last)?;
    match map.entry(last.to_owned()) {
        Entry::Vacant(slot) => {
            slot.insert(Value::String(value));
            Ok(())
        }
        Entry::Occupied(slot) if matches!(slot.get(), Value::Map(_)) => inconsistent(key),
        Entry::Occupied(_) => Err(OptsError::DuplicateKey { key: key.to_owned() }),
    }
}

fn check_fragment(key: &str, fragment: &str) -> Result<(), OptsError> {
    let valid = fragment
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fragment.is_empty() {
        return syntax(if key.is_empty() {
            "there is '=' or ',' where a key should be; a comma inside a value is written ',,'".to_owned()
        } else {
            format!("key '{key}' has nothing before or after a dot")
        });
    }
    if !valid || fragment.len() > MAX_FRAGMENT {
        return syntax(format!(
            "'{key}' is not a key (letters, digits, '-', '_', at most {MAX_FRAGMENT}); \
             a comma inside a value is written ',,'"
        ));
    }
    Ok(())
}

/// Turns every group whose keys are numbers into a list.
fn listify(value: Value) -> Result<Value, OptsError> {
    let Value::Map(map) = value else { return Ok(value) };
    let is_index = |key: &str| key.bytes().all(|b| b.is_ascii_digit());
    let indices = map.keys().filter(|key| is_index(key)).count();
    if indices == 0 || map.is_empty() {
        let convert = |(key, value): (String, Value)| {
            let value = listify(value).map_err(|e| e.at(&key))?;
            Ok((key, value))
        };
        return map
            .into_iter()
            .map(convert)
            .collect::<Result<Map, _>>()
            .map(Value::Map);
    }
    if indices < map.len() {
        return Err(OptsError::Invalid {
            key: String::new(),
            reason: "some of its keys are numbers (a list) and some are names (a group): use one".to_owned(),
        });
    }
    let mut map = map;
    let mut list = Vec::new();
    for index in 0..map.len() {
        match map.remove(&index.to_string()) {
            Some(value) => list.push(listify(value).map_err(|e| e.at(&index.to_string()))?),
            None => {
                return Err(OptsError::Invalid {
                    key: String::new(),
                    reason: format!("number {index} of the list is missing: they count from 0 without gaps"),
                });
            }
        }
    }
    Ok(Value::List(list))
}

fn syntax<T>(reason: String) -> Result<T, OptsError> {
    Err(OptsError::Syntax { reason })
}

fn inconsistent<T>(key: &str) -> Result<T, OptsError> {
    syntax(format!(
        "key '{key}' is used both as a value and as a group of keys"
    ))
}

fn no_value(word: &str) -> OptsError {
    let reason = if word.is_empty() {
        "there is a ',' where a key should be; a comma inside a value is written ',,'".to_owned()
    } else {
        format!("no '=' after '{word}'; write {word}=VALUE (a comma inside a value is written ',,')")
    };
    OptsError::Syntax { reason }
}

fn comma_in_secret() -> OptsError {
    OptsError::Syntax {
        reason: "what follows a key that holds a secret is not a known key=value \
                 (not shown, it may be a part of the secret); a comma inside a value is written ',,'"
            .to_owned(),
    }
}

#[cfg(test)]
#[path = "keyval_tests.rs"]
mod tests;
