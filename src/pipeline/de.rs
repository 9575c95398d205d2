//! A serde deserializer over nodes, whose errors know their place.
//!
//! Types are checked here, before serde's visitors see a value, so that a message says what people call things. A whole
//! number fits where any number is expected, and a number like `1e3` where a whole one is, if it is exact.

use serde::{
    Deserializer, de,
    de::{DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor},
    forward_to_deserialize_any,
};

use super::{
    fault::{Fault, FaultKind},
    node::{Entry, Node, Scalar, Value},
    stand_in::StandIn,
};

/// Reads a node.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'a> {
    node: &'a Node,
    /// Keys of the map that others read.
    skip: &'a [&'a str],
}

impl<'a> NodeDeserializer<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        Self { node, skip: &[] }
    }

    /// As if the map did not have these keys.
    pub(super) fn without(node: &'a Node, skip: &'a [&'a str]) -> Self {
        Self { node, skip }
    }

    fn expected(self, what: &str) -> Fault {
        self.located(Fault::new(format!("expected {what}, found {}", self.node.in_words())))
    }

    fn located(self, fault: Fault) -> Fault {
        fault.at(self.node.place, self.node.origin)
    }

    /// Whole number, exact.
    fn integer(self) -> Option<i128> {
        match self.node.value {
            Value::Scalar(_, Scalar::Integer(integer)) => Some(integer),
            Value::Scalar(_, Scalar::Float(float))
                if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 =>
            {
                Some(float as i128)
            }
            _ => None,
        }
    }

    fn whole<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Some(integer) = self.integer() else { return Err(self.expected("a whole number")) };
        if let Ok(natural) = u64::try_from(integer) {
            visitor.visit_u64(natural)
        } else if let Ok(negative) = i64::try_from(integer) {
            visitor.visit_i64(negative)
        } else {
            return Err(self.located(Fault::new(format!("{integer} is too large"))));
        }
        .map_err(|fault: Fault| self.located(fault))
    }

    fn natural<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.integer() {
            Some(integer) if integer < 0 => Err(self.expected("a whole number of at least 0")),
            _ => self.whole(visitor),
        }
    }
}

macro_rules! unless_stand_in {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        if matches!($self.node.value, Value::StandIn) {
            return StandIn.$method($($argument),*).map_err(|fault: Fault| $self.located(fault));
        }
    };
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.value {
            Value::Scalar(_, Scalar::Null) => visitor.visit_unit(),
            Value::Scalar(_, Scalar::Bool(value)) => visitor.visit_bool(*value),
            Value::Scalar(_, Scalar::Integer(_)) => return self.whole(visitor),
            Value::Scalar(_, Scalar::Float(value)) => visitor.visit_f64(*value),
            Value::Scalar(text, Scalar::Text) => visitor.visit_str(text),
            Value::Sequence(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
            Value::StandIn => StandIn.deserialize_any(visitor),
        };
        result.map_err(|fault| self.located(fault))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_bool(visitor));
        match self.node.value {
            Value::Scalar(_, Scalar::Bool(value)) => visitor.visit_bool(value),
            _ => Err(self.expected("`true` or `false`")),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_u64(visitor));
        self.natural(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_u64(visitor));
        self.whole(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_u64(visitor)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_f64(visitor));
        match self.node.value {
            Value::Scalar(_, Scalar::Integer(value)) => visitor.visit_f64(value as f64),
            Value::Scalar(_, Scalar::Float(value)) => visitor.visit_f64(value),
            _ => return Err(self.expected("a number")),
        }
        .map_err(|fault: Fault| self.located(fault))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_str(visitor));
        match &self.node.value {
            Value::Scalar(text, scalar) if *scalar != Scalar::Null => visitor.visit_str(text),
            _ => return Err(self.expected("a text")),
        }
        .map_err(|fault: Fault| self.located(fault))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Scalar(_, Scalar::Null) | Value::StandIn => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_seq(visitor));
        let Value::Sequence(items) = &self.node.value else { return Err(self.expected("a list")) };
        visitor.visit_seq(Items { rest: items.iter().enumerate() }).map_err(|fault| self.located(fault))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_map(visitor));
        let Value::Map(entries) = &self.node.value else { return Err(self.expected("a map of `key: value`")) };
        // A missing field is shown at the key of the map, which only the caller knows: no place is added here.
        visitor.visit_map(Entries { rest: entries.iter(), skip: self.skip, value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_struct(name, fields, visitor));
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        unless_stand_in!(self.deserialize_enum(name, variants, visitor));
        match &self.node.value {
            Value::Scalar(text, scalar) if *scalar != Scalar::Null => visitor.visit_enum(Variant(text)),
            _ => return Err(self.expected(&format!("one of `{}`", variants.join("`, `")))),
        }
        .map_err(|fault: Fault| self.located(fault))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, item)) = self.rest.next() else { return Ok(None) };
        let read = seed.deserialize(NodeDeserializer::new(item));
        read.map(Some).map_err(|fault| fault.at(item.place, item.origin).under(index.to_string()))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, Entry>,
    skip: &'a [&'a str],
    value: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let skip = self.skip;
        let Some(entry) = self.rest.find(|entry| !skip.contains(&&*entry.key)) else { return Ok(None) };
        self.value = Some(entry);
        let key: de::value::StrDeserializer<'_, Fault> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|fault| fault.at(entry.place, None))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.value.take() else { return Err(Fault::new("a value was read before its key")) };
        let read = seed.deserialize(NodeDeserializer::new(&entry.value));
        read.map_err(|fault| {
            let missing = matches!(fault.kind, FaultKind::MissingField(_));
            let place = if missing { entry.place } else { entry.value.place };
            fault.at(place, entry.value.origin).under(&entry.key)
        })
    }
}

/// A unit variant by its name: all enums of a pipeline are of that kind.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let name: de::value::StrDeserializer<'_, Fault> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(Fault::new(format!("`{}` needs more than its name", self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(Fault::new(format!("`{}` needs more than its name", self.0)))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(Fault::new(format!("`{}` needs more than its name", self.0)))
    }
}
