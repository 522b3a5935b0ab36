//! The tree that both syntaxes parse into.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{Hidden, OptsError, is_secret};

/// A group of keys, each with its value.
pub type Map = BTreeMap<String, Value>;

/// Parsed options of either syntax, not yet of any type.
///
/// Use it to look at a discriminator before deciding on a type: take `qom-type` out with
/// [`take_string`](Value::take_string), then turn the rest into the struct it names with
/// [`into_type`](Value::into_type).
///
/// A `Value` converts leniently: where a struct asks for a bool or a number, a string that spells one will
/// do (in keyval syntax all scalars are strings); where it asks for a string, a JSON number will do
/// (`"port": 10809`).
///
/// `Debug` leaves out the values of keys that hold secrets.
#[derive(Clone, PartialEq)]
pub enum Value {
    /// JSON `null`: as if the key were absent.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// A JSON integer; wide enough for `i64` and `u64`.
    Integer(i128),
    /// Any other JSON number.
    Float(f64),
    /// A string; in keyval syntax every scalar.
    String(String),
    /// A list: `key.0=...,key.1=...`.
    List(Vec<Value>),
    /// A group of keys: `key.a=...,key.b=...`.
    Map(Map),
}

impl Value {
    /// Parses JSON text. A key given twice is an error.
    ///
    /// # Errors
    /// [`OptsError::Json`].
    pub fn from_json(text: &str) -> Result<Self, OptsError> {
        Ok(serde_json::from_str(text)?)
    }

    /// Converts into a type, leniently (see [`Value`]).
    ///
    /// # Errors
    /// An [`OptsError`] that names the key.
    pub fn into_type<T: DeserializeOwned>(self) -> Result<T, OptsError> {
        T::deserialize(self)
    }

    /// Removes a key of this group and returns its value; `None` if this is no group or has no such key.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        match self {
            Value::Map(map) => map.remove(key),
            _ => None,
        }
    }

    /// Removes a key that must be there and be a string, such as a discriminator.
    ///
    /// # Errors
    /// [`OptsError::MissingKey`] or [`OptsError::WrongValue`].
    pub fn take_string(&mut self, key: &str) -> Result<String, OptsError> {
        match self.take(key) {
            None => Err(OptsError::MissingKey {
                key: key.to_owned(),
                known: &[],
            }),
            Some(value) => String::deserialize(value).map_err(|e| e.at(key)),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => value.fmt(f),
            Value::Integer(value) => value.fmt(f),
            Value::Float(value) => value.fmt(f),
            Value::String(value) => value.fmt(f),
            Value::List(list) => f.debug_list().entries(list).finish(),
            Value::Map(map) => {
                let mut out = f.debug_map();
                for (key, value) in map {
                    if is_secret(key) {
                        out.entry(key, &Hidden);
                    } else {
                        out.entry(key, value);
                    }
                }
                out.finish()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, number, bool, list or group of keys")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            match map.entry(key) {
                Entry::Vacant(slot) => slot.insert(access.next_value()?),
                Entry::Occupied(slot) => {
                    let key = slot.key().clone();
                    return Err(OptsError::DuplicateKey { key }.into_serde());
                }
            };
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_secrets_at_any_depth() {
        let value =
            Value::from_json(r#"{"id":"s0","data":"hunter2","in":{"password-x":["hunter2"]}}"#).unwrap();
        let shown = format!("{value:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("s0"), "{shown}");
    }

    #[test]
    fn a_json_key_given_twice_is_refused() {
        let error = Value::from_json(r#"{"id":"a","id":"b"}"#).unwrap_err();
        assert!(
            error.to_string().contains("'id' is given more than once"),
            "{error}"
        );
    }

    #[test]
    fn broken_json_says_where() {
        let error = Value::from_json("{\"id\":\n tru}").unwrap_err();
        assert!(matches!(error, OptsError::Json { line: 2, .. }), "{error:?}");
        assert_eq!(error.to_string().matches("line").count(), 1, "{error}");
    }

    #[test]
    fn deep_json_is_refused_not_overflowed() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(Value::from_json(&text), Err(OptsError::Json { .. })));
    }

    #[test]
    fn take_string_says_what_is_missing_or_wrong() {
        let mut value = Value::from_json(r#"{"type":{"a":1}}"#).unwrap();
        assert!(
            value
                .take_string("type")
                .unwrap_err()
                .to_string()
                .contains("a group of keys")
        );
        assert!(
            value
                .take_string("type")
                .unwrap_err()
                .to_string()
                .contains("'type' is missing")
        );
    }
}
