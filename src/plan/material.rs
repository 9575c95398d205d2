//! What enters the key of a stage, from its parameters and the digests of what it takes.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    digest::Digest,
    key::{KeyError, KeyMaterial},
    stage::Stage,
};

/// The material of a stage's key. A field that a port or a source names is left out of the parameters: what it refers to
/// enters by content.
pub(crate) fn material(
    stage: &Stage,
    seed: u64,
    inputs: BTreeMap<String, Vec<Digest>>,
    sources: BTreeMap<String, Digest>,
) -> Result<KeyMaterial, KeyError> {
    let mut parameters = stage.to_json().map_err(|error| KeyError::NotCanonical(error.to_string()))?;
    let Some(fields) = parameters.as_object_mut() else {
        return Err(KeyError::NotCanonical("a stage must be a map of fields".to_owned()));
    };
    for port in stage.ports() {
        remove(fields, &port.field);
    }
    for source in stage.sources() {
        remove(fields, source.field);
    }
    for field in stage.unhashed() {
        remove(fields, field);
    }
    let (kind, version) = (stage.kind().to_owned(), stage.version());
    Ok(KeyMaterial { format: KeyMaterial::FORMAT, kind, version, parameters, seed, inputs, sources })
}

/// Removes a dotted field; of a list, all of it: `models.1` takes `models` away.
fn remove(fields: &mut serde_json::Map<String, Value>, dotted: &str) {
    match dotted.split_once('.') {
        Some((head, rest)) => match fields.get_mut(head) {
            Some(Value::Object(inner)) => remove(inner, rest),
            _ => {
                fields.remove(head);
            }
        },
        None => {
            fields.remove(dotted);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn stage(kind: &str, fields: &Value) -> Stage {
        Stage::deserialize(kind, fields).unwrap().unwrap()
    }

    fn parameters(kind: &str, fields: &Value) -> Value {
        material(&stage(kind, fields), 1, BTreeMap::new(), BTreeMap::new()).unwrap().parameters
    }

    #[test]
    fn names_of_stages_and_paths_of_files_are_no_part_of_the_material() {
        assert_eq!(
            parameters("evaluate", &json!({"data": "a", "models": ["b", "c"]})),
            parameters("evaluate", &json!({"data": "x", "models": ["y", "z"]})),
        );
        let dataset = parameters("dataset", &json!({"file": "a.parquet"}));
        assert_eq!(dataset, parameters("dataset", &json!({"file": "elsewhere/b.parquet"})));
        assert_eq!(dataset.get("file"), None);
    }

    #[test]
    fn a_default_that_is_written_out_changes_nothing() {
        let short = parameters("train_gan", &json!({"data": "a", "steps": 5}));
        let long =
            json!({"data": "a", "steps": 5, "batch": 512, "loss": {"kind": "relativistic"}, "optimizer": {"beta1": 0}});
        assert_eq!(short, parameters("train_gan", &long));
    }

    #[test]
    fn an_integer_for_a_float_is_the_same_parameter() {
        let with_penalty = |r1: Value| parameters("train_gan", &json!({"data": "a", "steps": 5, "loss": {"r1": r1}}));
        assert_eq!(with_penalty(json!(2)), with_penalty(json!(2.0)));
    }

    proptest! {
        #[test]
        fn any_changed_parameter_of_a_training_changes_the_key(
            steps in 1u64..1000, batch in 1u64..1000, rate in 1e-6f64..1.0, ema in 0.0f64..0.999, seed in 0u64..9, which in 0usize..5
        ) {
            let key = |steps: u64, batch: u64, rate: f64, ema: f64, seed: u64| {
                let fields = json!({"data": "a", "steps": steps, "batch": batch, "optimizer": {"rate": rate}, "ema": ema});
                material(&stage("train_gan", &fields), seed, BTreeMap::new(), BTreeMap::new()).unwrap().key().unwrap()
            };
            let changed = match which {
                0 => key(steps + 1, batch, rate, ema, seed),
                1 => key(steps, batch + 1, rate, ema, seed),
                2 => key(steps, batch, rate.next_up(), ema, seed),
                3 => key(steps, batch, rate, ema.next_up(), seed),
                _ => key(steps, batch, rate, ema, seed + 1),
            };
            prop_assert_ne!(changed, key(steps, batch, rate, ema, seed));
        }
    }
}
