//! From any serializable type back to keyval text.

use serde::Serialize;
use serde::ser::{
    self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct,
};

use crate::error::OptsError;

/// Writes a struct as keyval text that [`from_keyval`](crate::from_keyval) reads back.
///
/// Fields come in the order of their declaration; absent options are left out; bools are `on` and `off`;
/// commas are doubled.
///
/// With an implied key, that field's value stands first and bare, if the struct begins with it.
///
/// ```
/// #[derive(serde::Serialize)]
/// #[serde(rename_all = "kebab-case")]
/// struct Export { name: String, read_only: bool, bitmap: Option<String> }
///
/// let export = Export { name: "a,b".into(), read_only: true, bitmap: None };
/// assert_eq!(qio_opts::to_keyval(&export, None)?, "name=a,,b,read-only=on");
/// # Ok::<(), qio_opts::OptsError>(())
/// ```
///
/// # Errors
/// [`OptsError::Unwritable`] for what keyval has no text for: a bare scalar, an empty list, bytes.
pub fn to_keyval<T: Serialize + ?Sized>(value: &T, implied_key: Option<&str>) -> Result<String, OptsError> {
    let mut pairs = Vec::new();
    value.serialize(Node {
        path: String::new(),
        pairs: &mut pairs,
    })?;
    let mut text = String::new();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let bare = index == 0 && implied_key == Some(key) && !value.is_empty() && !value.contains(['=', ',']);
        if !bare {
            text.push_str(key);
            text.push('=');
        }
        text.push_str(&value.replace(',', ",,"));
    }
    Ok(text)
}

/// A place in the tree: everything written here goes beneath `path`.
struct Node<'a> {
    path: String,
    pairs: &'a mut Vec<(String, String)>,
}

impl<'a> Node<'a> {
    fn scalar(self, text: String) -> Result<(), OptsError> {
        if self.path.is_empty() {
            return Err(ser::Error::custom("a single value has no key"));
        }
        self.pairs.push((self.path, text));
        Ok(())
    }

    fn child(&mut self, key: &str) -> Result<Node<'_>, OptsError> {
        if key.is_empty()
            || !key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            let reason = format!("'{key}' cannot be a key (letters, digits, '-', '_')");
            return Err(OptsError::Unwritable {
                key: self.path.clone(),
                reason,
            });
        }
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        Ok(Node {
            path,
            pairs: self.pairs,
        })
    }

    fn branch(self) -> Branch<'a> {
        Branch {
            node: self,
            written: 0,
            key: None,
        }
    }

    fn refuse<T>(self, reason: &str) -> Result<T, OptsError> {
        Err(OptsError::Unwritable {
            key: self.path,
            reason: reason.to_owned(),
        })
    }
}

/// A list or a group that is being written.
struct Branch<'a> {
    node: Node<'a>,
    written: usize,
    key: Option<String>,
}

impl Branch<'_> {
    fn entry<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), OptsError> {
        self.written += 1;
        value.serialize(self.node.child(key)?)
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OptsError> {
        self.entry(&self.written.to_string(), value)
    }

    fn end_list(self) -> Result<(), OptsError> {
        if self.written == 0 {
            self.node.refuse("a list without elements has no text")
        } else {
            Ok(())
        }
    }
}

macro_rules! to_text {
    ($($method:ident $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<(), OptsError> {
            self.scalar(value.to_string())
        }
    )*};
}

impl<'a> ser::Serializer for Node<'a> {
    type Ok = ();
    type Error = OptsError;
    type SerializeSeq = Branch<'a>;
    type SerializeTuple = Branch<'a>;
    type SerializeTupleStruct = Branch<'a>;
    type SerializeTupleVariant = Impossible<(), OptsError>;
    type SerializeMap = Branch<'a>;
    type SerializeStruct = Branch<'a>;
    type SerializeStructVariant = Branch<'a>;

    to_text! {
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64, serialize_char char, serialize_str &str,
    }

    fn serialize_bool(self, value: bool) -> Result<(), OptsError> {
        self.scalar(if value { "on" } else { "off" }.to_owned())
    }

    fn serialize_bytes(self, _value: &[u8]) -> Result<(), OptsError> {
        self.refuse("bytes have no text")
    }

    fn serialize_none(self) -> Result<(), OptsError> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), OptsError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), OptsError> {
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), OptsError> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), OptsError> {
        self.scalar(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), OptsError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), OptsError> {
        value.serialize(self.child(variant)?)
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Branch<'a>, OptsError> {
        Ok(self.branch())
    }

    fn serialize_tuple(self, _len: usize) -> Result<Branch<'a>, OptsError> {
        Ok(self.branch())
    }

    fn serialize_tuple_struct(self, _: &'static str, _len: usize) -> Result<Branch<'a>, OptsError> {
        Ok(self.branch())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _len: usize,
    ) -> Result<Impossible<(), OptsError>, OptsError> {
        self.refuse("a variant with unnamed fields has no text")
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Branch<'a>, OptsError> {
        Ok(self.branch())
    }

    fn serialize_struct(self, _: &'static str, _len: usize) -> Result<Branch<'a>, OptsError> {
        Ok(self.branch())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Branch<'a>, OptsError> {
        let path = if self.path.is_empty() {
            variant.to_owned()
        } else {
            format!("{}.{variant}", self.path)
        };
        Ok(Node {
            path,
            pairs: self.pairs,
        }
        .branch())
    }
}

impl SerializeSeq for Branch<'_> {
    type Ok = ();
    type Error = OptsError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OptsError> {
        self.element(value)
    }

    fn end(self) -> Result<(), OptsError> {
        self.end_list()
    }
}

impl SerializeTuple for Branch<'_> {
    type Ok = ();
    type Error = OptsError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OptsError> {
        self.element(value)
    }

    fn end(self) -> Result<(), OptsError> {
        self.end_list()
    }
}

impl SerializeTupleStruct for Branch<'_> {
    type Ok = ();
    type Error = OptsError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OptsError> {
        self.element(value)
    }

    fn end(self) -> Result<(), OptsError> {
        self.end_list()
    }
}

impl SerializeMap for Branch<'_> {
    type Ok = ();
    type Error = OptsError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), OptsError> {
        // A key is written like a value beneath a path of its own, and then taken back.
        let mut pairs = Vec::new();
        key.serialize(Node {
            path: "key".to_owned(),
            pairs: &mut pairs,
        })?;
        self.key = pairs.pop().map(|(_, text)| text);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), OptsError> {
        let key = self.key.take().unwrap_or_default();
        self.entry(&key, value)
    }

    fn end(self) -> Result<(), OptsError> {
        Ok(())
    }
}

impl SerializeStruct for Branch<'_> {
    type Ok = ();
    type Error = OptsError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), OptsError> {
        self.entry(key, value)
    }

    fn end(self) -> Result<(), OptsError> {
        Ok(())
    }
}

impl SerializeStructVariant for Branch<'_> {
    type Ok = ();
    type Error = OptsError;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), OptsError> {
        self.entry(key, value)
    }

    fn end(self) -> Result<(), OptsError> {
        Ok(())
    }
}
