//! Cache keys: the digest of everything that can change a stage's result, and of nothing else.
//!
//! The encoding is part of the store's format: [`KeyMaterial::FORMAT`] rises with any change to it, and a stored golden key
//! guards it. It is compact JSON with keys sorted by their bytes at every level. Integers are written in decimals, floats in
//! the shortest form that reads back as the same float and always recognisable as floats (`2.0`, `1e-7`), so that `2` and
//! `2.0` are two values: a field has one type, and what looks different stays different. JSON values cannot hold numbers
//! that are not finite, and no type in [`crate::value`] accepts them.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Digest, ParseDigestError};

/// What enters a cache key. Its canonical encoding is compact JSON with sorted keys and shortest round-trip floats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyMaterial {
    /// The version of this encoding.
    pub format: u32,
    /// The stage's kind.
    pub kind: String,
    /// The version of the stage's kind.
    pub version: u32,
    /// The parameters, defaults filled in, without ports and sources.
    pub parameters: Value,
    /// The seed of the stage's random streams.
    pub seed: u64,
    /// Digests of the artifacts that enter, by role, in the order of the ports.
    pub inputs: BTreeMap<String, Vec<Digest>>,
    /// Digests of the source files, by field.
    pub sources: BTreeMap<String, Digest>,
}

/// A stage's key in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(Digest);

impl CacheKey {
    /// The digest that it is.
    pub fn digest(self) -> Digest {
        self.0
    }

    /// The first eight hexadecimal digits, for people.
    pub fn short(self) -> String {
        self.0.short()
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CacheKey {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Why a key cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The parameters hold what has no canonical form.
    #[error("the parameters cannot be hashed: {0}")]
    NotCanonical(String),
}

impl KeyMaterial {
    /// The version of the encoding that this build writes.
    pub const FORMAT: u32 = 1;

    /// The canonical encoding, as it is hashed: for people who want to know why two keys differ.
    pub fn canonical(&self) -> Result<String, KeyError> {
        let Self { format, kind, version, parameters, seed, inputs, sources } = self;
        let part = |map: serde_json::Result<Value>| match map {
            Ok(value) => canonical(&value),
            Err(error) => Err(KeyError::NotCanonical(error.to_string())),
        };
        let (inputs, sources) = (part(serde_json::to_value(inputs))?, part(serde_json::to_value(sources))?);
        let (kind, parameters) = (canonical(&Value::from(kind.as_str()))?, canonical(parameters)?);
        // The fields, sorted by name like all others.
        Ok(format!(
            "{{\"format\":{format},\"inputs\":{inputs},\"kind\":{kind},\"parameters\":{parameters},\"seed\":{seed},\
             \"sources\":{sources},\"version\":{version}}}"
        ))
    }

    /// The key of all trainings that differ from this one in their `steps` alone. No stage has it: its own lacks nothing.
    pub fn trajectory(&self) -> Result<CacheKey, KeyError> {
        let mut material = self.clone();
        if let Some(parameters) = material.parameters.as_object_mut() {
            parameters.remove("steps");
        }
        material.key()
    }

    /// Hashes the canonical encoding.
    pub fn key(&self) -> Result<CacheKey, KeyError> {
        Ok(CacheKey(Digest::of(self.canonical()?.as_bytes())))
    }
}

fn canonical(value: &Value) -> Result<String, KeyError> {
    let mut text = String::new();
    write_value(&mut text, value)?;
    Ok(text)
}

fn write_value(out: &mut String, value: &Value) -> Result<(), KeyError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => write_number(out, number)?,
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(out, item)?;
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            for (i, (name, field)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(out, name);
                out.push(':');
                write_value(out, field)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_number(out: &mut String, number: &serde_json::Number) -> Result<(), KeyError> {
    let refuse = || KeyError::NotCanonical(format!("{number} is not a finite number of 64 bits"));
    let written = if let Some(integer) = number.as_u64() {
        write!(out, "{integer}")
    } else if let Some(integer) = number.as_i64() {
        write!(out, "{integer}")
    } else {
        // `Debug` of a float is its shortest round-trip form, and keeps the `.0` of an integral one.
        write!(out, "{:?}", number.as_f64().filter(|float| float.is_finite()).ok_or_else(refuse)?)
    };
    written.map_err(|_| refuse())
}

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f)) {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            special @ (b'"' | b'\\') => out.extend(['\\', char::from(special)]),
            // Writing into a string cannot fail.
            control => drop(write!(out, "\\u{control:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use serde_json::json;

    use super::*;
    use crate::value::{Finite, Fraction, NonNegative, OpenProbability, Positive, Probability};

    fn material(parameters: Value) -> KeyMaterial {
        KeyMaterial {
            format: KeyMaterial::FORMAT,
            kind: "train_gan".to_owned(),
            version: 1,
            parameters,
            seed: 48,
            inputs: BTreeMap::from([("data".to_owned(), vec![Digest::of(b"events")])]),
            sources: BTreeMap::from([("file".to_owned(), Digest::of(b"source"))]),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-4i32..5).prop_map(|integer| Value::from(f64::from(integer))),
            any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
            "[\\x00-\\x7f]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"\\\\,:]{0,3}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn the_encoding_is_compact_sorted_and_keeps_floats_apart_from_integers() {
        let value = json!({"z": [1, 2.0, -0.0, 1e-7, 1e300, 0.1], "a": {"é\"\n": null}, "B": -3});
        assert_eq!(canonical(&value).unwrap(), r#"{"B":-3,"a":{"é\"\u000a":null},"z":[1,2.0,-0.0,1e-7,1e300,0.1]}"#);
    }

    /// If this fails, stored results of every user are lost: raise `FORMAT` on purpose, or mend the encoding.
    #[test]
    fn the_key_format_does_not_drift() {
        let material = material(json!({"steps": 20000, "rate": 0.0003, "loss": {"kind": "relativistic", "r1": null}}));
        assert_eq!(
            material.canonical().unwrap(),
            "{\"format\":1,\"inputs\":{\"data\":[\"75f9afdce0e724d60cb81d40e41f77fe55e58bcac29067a7c3595b9ef8e00e41\"]},\"kind\":\"train_gan\",\"parameters\":\
             {\"loss\":{\"kind\":\"relativistic\",\"r1\":null},\"rate\":0.0003,\"steps\":20000},\"seed\":48,\"sources\":\
             {\"file\":\"7d1aa223722b2aaa89b92fc6b2ef0baa709c01eab9f8494b1de5c335f2750707\"},\"version\":1}"
        );
        assert_eq!(
            material.key().unwrap().to_string(),
            "5bfea088e0baea9ec522d3e7ad250d80b8b36843dc1fb7a81844fda29b71ca61"
        );
    }

    #[test]
    fn every_part_of_the_material_changes_the_key() {
        let parts: [fn(&mut KeyMaterial); 9] = [
            |m| m.format += 1,
            |m| m.kind.push('x'),
            |m| m.version += 1,
            |m| m.parameters = json!({"steps": 2}),
            |m| m.parameters = json!({"steps": 1.0}),
            |m| m.seed += 1,
            |m| m.inputs.values_mut().for_each(|digests| digests[0] = Digest::of(b"others")),
            |m| m.inputs.values_mut().for_each(|digests| digests.push(Digest::of(b"events"))),
            |m| m.sources.values_mut().for_each(|digest| *digest = Digest::of(b"other")),
        ];
        let mut keys: Vec<_> = parts
            .iter()
            .map(|change| {
                let mut changed = material(json!({"steps": 1}));
                change(&mut changed);
                changed.key().unwrap()
            })
            .collect();
        keys.push(material(json!({"steps": 1})).key().unwrap());
        keys.sort_unstable();
        assert!(keys.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn no_parameter_type_holds_a_number_that_is_not_finite() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(Probability::try_from(bad).is_err());
            assert!(OpenProbability::try_from(bad).is_err());
            assert!(Fraction::try_from(bad).is_err());
            assert!(Positive::try_from(bad).is_err());
            assert!(NonNegative::try_from(bad).is_err());
            assert!(Finite::try_from(bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn the_encoding_is_injective(a in values(), b in values()) {
            prop_assert_eq!(canonical(&a).unwrap() == canonical(&b).unwrap(), bits(&a) == bits(&b));
        }

        #[test]
        fn the_encoding_reads_back_as_the_same_value(value in values()) {
            let read: Value = serde_json::from_str(&canonical(&value).unwrap()).unwrap();
            prop_assert_eq!(bits(&read), bits(&value));
        }

        #[test]
        fn the_order_and_the_layout_of_fields_do_not_matter(
            fields in vec(("[a-z]{1,4}", values()), 0..6), pretty: bool
        ) {
            let fields: BTreeMap<String, Value> = fields.into_iter().collect();
            let text = |pairs: Vec<(&String, &Value)>| {
                let pairs: Vec<String> = pairs.iter().map(|(name, value)| {
                    let value = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
                    format!("{}:{}", serde_json::to_string(name).unwrap(), value.unwrap())
                }).collect();
                format!("{{ {} }}", pairs.join(" ,\n"))
            };
            let forward: Value = serde_json::from_str(&text(fields.iter().collect())).unwrap();
            let backward: Value = serde_json::from_str(&text(fields.iter().rev().collect())).unwrap();
            prop_assert_eq!(material(forward).key().unwrap(), material(backward).key().unwrap());
        }

        #[test]
        fn a_changed_parameter_changes_the_key(name in "[a-z]{1,4}", old in values(), new in values()) {
            prop_assume!(bits(&old) != bits(&new));
            let key = |value: &Value| material(json!({ name.clone(): value })).key().unwrap();
            prop_assert_ne!(key(&old), key(&new));
        }
    }

    /// A value with each float in the place of its bits: tells −0.0 from 0.0, as the encoding does.
    fn bits(value: &Value) -> String {
        match value {
            Value::Number(number) if number.is_f64() => format!("f{:x}", number.as_f64().unwrap().to_bits()),
            Value::Array(items) => format!("[{}]", items.iter().map(|item| bits(item) + ";").collect::<String>()),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, field)| format!("{name:?}={};", bits(field)));
                format!("{{{}}}", fields.collect::<String>())
            }
            other => format!("{other:?}"),
        }
    }
}
