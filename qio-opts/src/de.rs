//! From a [`Value`] to any type, converting strings into what the type asks for.

use std::collections::btree_map;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use crate::error::OptsError;
use crate::value::Value;

/// Reads a bool as QEMU spells it; case matters there and here.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

/// Reads a decimal or `0x` number. A leading zero is refused: C reads it as octal, people do not.
pub(crate) fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let magnitude = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        hex.bytes()
            .all(|b| b.is_ascii_hexdigit())
            .then(|| i128::from_str_radix(hex, 16).ok())??
    } else {
        let plain = digits == "0" || !digits.starts_with('0');
        (plain && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse::<i128>().ok())??
    };
    Some(if negative { -magnitude } else { magnitude })
}

impl Value {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Integer(_) => Unexpected::Other("a number"),
            Value::Float(value) => Unexpected::Float(*value),
            Value::String(value) => Unexpected::Str(value),
            Value::List(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        }
    }

    fn wrong(&self, expected: &str) -> OptsError {
        match self {
            Value::Integer(n) => de::Error::invalid_value(Unexpected::Other(&format!("'{n}'")), &expected),
            other => de::Error::invalid_type(other.unexpected(), &expected),
        }
    }

    /// An integer of type `T`, whose range is given for the error.
    fn integer<T: TryFrom<i128>>(&self, min: i128, max: i128) -> Result<T, OptsError> {
        let number = match self {
            Value::Integer(number) => Some(*number),
            Value::String(text) => parse_integer(text),
            _ => None,
        };
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(|| {
            self.wrong(&format!(
                "an integer from {min} to {max}, decimal or 0x hexadecimal"
            ))
        })
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
            visitor.$visit(self.integer::<$type>(<$type>::MIN.into(), <$type>::MAX.into())?)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Value {
    type Error = OptsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Integer(number) => {
                if let Ok(number) = u64::try_from(number) {
                    visitor.visit_u64(number)
                } else if let Ok(number) = i64::try_from(number) {
                    visitor.visit_i64(number)
                } else {
                    visitor.visit_i128(number)
                }
            }
            Value::Float(number) => visitor.visit_f64(number),
            Value::String(text) => visitor.visit_string(text),
            Value::List(list) => visitor.visit_seq(ListAccess {
                rest: list.into_iter(),
                index: 0,
            }),
            Value::Map(map) => visitor.visit_map(GroupAccess {
                rest: map.into_iter(),
                pending: None,
            }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        let value = match &self {
            Value::Bool(value) => Some(*value),
            Value::String(text) => parse_bool(text),
            _ => None,
        };
        visitor.visit_bool(value.ok_or_else(|| self.wrong("'on' or 'off'"))?)
    }

    integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        match &self {
            Value::String(text) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => visitor.visit_f64(number),
                _ => Err(self.wrong("a number")),
            },
            Value::Float(_) | Value::Integer(_) => self.deserialize_any(visitor),
            _ => Err(self.wrong("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        match self {
            Value::Integer(number) => visitor.visit_string(number.to_string()),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        match self {
            Value::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, OptsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, OptsError> {
        match self {
            Value::Map(_) => self.deserialize_any(visitor).map_err(|e| e.among(fields)),
            other => Err(other.wrong(&format!("a group of keys ({})", fields.join(", ")))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, OptsError> {
        let (variant, content) = match self {
            Value::String(variant) => (variant, None),
            Value::Map(map) if map.len() == 1 => match map.into_iter().next() {
                Some((variant, content)) => (variant, Some(content)),
                None => return Err(Value::Null.wrong("one key")),
            },
            other => return Err(other.wrong(&format!("one of: {}", variants.join(", ")))),
        };
        visitor.visit_enum(Choice { variant, content })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, OptsError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier
    }
}

impl IntoDeserializer<'_, OptsError> for Value {
    type Deserializer = Value;

    fn into_deserializer(self) -> Value {
        self
    }
}

struct ListAccess {
    rest: std::vec::IntoIter<Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for ListAccess {
    type Error = OptsError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, OptsError> {
        let Some(value) = self.rest.next() else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(value)
            .map(Some)
            .map_err(|e| e.at(&index.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

struct GroupAccess {
    rest: btree_map::IntoIter<String, Value>,
    pending: Option<(String, Value)>,
}

impl GroupAccess {
    fn key(key: String) -> StringDeserializer<OptsError> {
        key.into_deserializer()
    }
}

impl<'de> MapAccess<'de> for GroupAccess {
    type Error = OptsError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, OptsError> {
        let Some((key, value)) = self.rest.next() else {
            return Ok(None);
        };
        let result = seed.deserialize(Self::key(key.clone()));
        self.pending = Some((key, value));
        result.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, OptsError> {
        match self.pending.take() {
            Some((key, value)) => seed.deserialize(value).map_err(|e| e.at(&key)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant's name, with the group beneath it if there is one: `{"name": {...}}`.
struct Choice {
    variant: String,
    content: Option<Value>,
}

impl<'de> EnumAccess<'de> for Choice {
    type Error = OptsError;
    type Variant = Content;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content), OptsError> {
        let key = seed.deserialize(GroupAccess::key(self.variant.clone()))?;
        Ok((
            key,
            Content {
                variant: self.variant,
                content: self.content,
            },
        ))
    }
}

struct Content {
    variant: String,
    content: Option<Value>,
}

impl Content {
    fn some(self) -> Result<(String, Value), OptsError> {
        match self.content {
            Some(content) => Ok((self.variant, content)),
            None => Err(Value::String(self.variant).wrong("a group of keys beneath that name")),
        }
    }
}

impl<'de> VariantAccess<'de> for Content {
    type Error = OptsError;

    fn unit_variant(self) -> Result<(), OptsError> {
        match self.content {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(de::Error::custom(format!(
                "'{}' takes no keys of its own",
                self.variant
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, OptsError> {
        let (variant, content) = self.some()?;
        seed.deserialize(content).map_err(|e| e.at(&variant))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, OptsError> {
        let (variant, content) = self.some()?;
        de::Deserializer::deserialize_any(content, visitor).map_err(|e| e.at(&variant))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, OptsError> {
        let (variant, content) = self.some()?;
        de::Deserializer::deserialize_struct(content, "", fields, visitor).map_err(|e| e.at(&variant))
    }
}
