//! What serde itself knows of a kind: its fields in the order of the struct, and a stage with all of them set.
//!
//! A deserializer that satisfies any type, as [`StandIn`] does, but with every optional field there and an item in every list,
//! and that notes the fields of every struct on its way.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use serde::{
    Deserializer, de,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};

use crate::{
    pipeline::{fault::Fault, stand_in::StandIn},
    stage::Stage,
};

/// A kind as serde reads it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The fields of each struct in it, by the struct's name, in their order.
    pub structs: BTreeMap<&'static str, &'static [&'static str]>,
    /// The name of the kind's own struct.
    pub root: &'static str,
    /// A stage with every field set that can be: its ports are all that the kind has. Its values mean nothing.
    pub stage: Stage,
}

/// Surveys a kind; `None` if there is no such kind.
pub fn survey(kind: &str) -> Option<Survey> {
    let walk = Walk::default();
    loop {
        if let Ok(stage) = Stage::deserialize(kind, Visit(&walk))? {
            return Some(Survey { root: walk.root.take()?, structs: walk.structs.take(), stage });
        }
        // Only a visitor written by hand knows what this field takes: it is left out.
        let field = walk.path.take().pop()?;
        if !walk.skipped.borrow_mut().insert(field) {
            return None;
        }
    }
}

/// A field of a struct.
type Field = (&'static str, &'static str);

#[derive(Default)]
struct Walk {
    root: RefCell<Option<&'static str>>,
    structs: RefCell<BTreeMap<&'static str, &'static [&'static str]>>,
    /// The fields that lead to the value that is read.
    path: RefCell<Vec<Field>>,
    skipped: RefCell<BTreeSet<Field>>,
}

#[derive(Clone, Copy)]
struct Visit<'a>(&'a Walk);

macro_rules! as_a_stand_in {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            StandIn.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Visit<'_> {
    type Error = Fault;

    as_a_stand_in! {
        deserialize_any deserialize_bool deserialize_u64 deserialize_f64 deserialize_str deserialize_string deserialize_map
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Item(Some(self)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.root.borrow_mut().get_or_insert(name);
        self.0.structs.borrow_mut().insert(name, fields);
        visitor.visit_map(Fields { walk: self.0, name, rest: fields.iter() })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        StandIn.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list of one.
struct Item<'a>(Option<Visit<'a>>);

impl<'de> SeqAccess<'de> for Item<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.0.take().map(|visit| seed.deserialize(visit)).transpose()
    }
}

/// All fields of a struct but the skipped ones.
struct Fields<'a> {
    walk: &'a Walk,
    name: &'static str,
    rest: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let (name, skipped) = (self.name, self.walk.skipped.borrow());
        let Some(field) = self.rest.find(|field| !skipped.contains(&(name, **field))) else { return Ok(None) };
        self.walk.path.borrow_mut().push((name, field));
        let key: de::value::StrDeserializer<'_, Fault> = (*field).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let value = seed.deserialize(Visit(self.walk))?;
        self.walk.path.borrow_mut().pop();
        Ok(value)
    }
}
