//! The JSON schema (draft 2020-12) of a pipeline file, made from the types that the file is read into.
//!
//! It knows what types know: fields, types, ranges, names of choices. What stages need of each other, and of files, is for
//! `check`. A value that the schema refuses is refused by the reader too.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::execution::{Resources, Timeout};
use crate::{device::DeviceName, stage::Stage, value::ReplicaCount};

pub mod options;
mod survey;

pub use survey::{Survey, survey};

/// Where the shared schemas stand in the whole.
const DEFINITIONS: &str = "#/$defs/";
/// A text in which a parameter or the value of an axis is put.
const REFERENCE: &str = r"\$\{\s*(params|matrix)\.[^{}]+\}";

/// The schema of a pipeline file.
pub fn pipeline() -> Value {
    let mut generator = generator();
    let kinds: Vec<(&str, Value)> =
        Stage::KINDS.iter().filter_map(|kind| Some((*kind, of_kind(kind, &mut generator)?))).collect();
    let mut common = common(&mut generator);
    let mut top = top(&mut generator);
    let mut definitions = generator.take_definitions(true);
    definitions.extend(kinds.into_iter().map(|(kind, schema)| (kind.to_owned(), schema)));
    definitions.values_mut().chain([&mut common, &mut top]).for_each(loosen);
    for (key, schema) in unreferenced() {
        top["properties"][key] = schema;
    }
    for kind in Stage::KINDS {
        let shared = common["properties"].as_object().into_iter().flat_map(Map::keys);
        let shared =
            shared.map(|key| (key.clone(), json!({ "$ref": format!("{DEFINITIONS}common/properties/{key}") })));
        if let Some(Value::Object(fields)) = definitions.get_mut(*kind).map(|schema| &mut schema["properties"]) {
            fields.extend(shared);
        }
    }
    definitions.extend([
        ("common".to_owned(), common),
        ("stage".to_owned(), stage()),
        (
            "reference".to_owned(),
            json!({
                "type": "string",
                "pattern": REFERENCE,
                "description": "The value of a parameter or of an axis of the stage's `matrix`: `${params.NAME}`, `${matrix.AXIS}`."
            }),
        ),
    ]);
    top["$defs"] = Value::Object(definitions);
    top["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    top["title"] = json!("A pipeline of pgan-pipe");
    top
}

/// The fields of a kind, or of every stage if `None`, as an object schema with all that it refers to in `$defs`, and without what
/// parameters allow beside a field's own type. `None` if there is no such kind.
pub fn fields(kind: Option<&str>) -> Option<Value> {
    let mut generator = generator();
    let mut schema = match kind {
        Some(kind) => of_kind(kind, &mut generator)?,
        None => common(&mut generator),
    };
    schema["$defs"] = Value::Object(generator.take_definitions(true));
    Some(schema)
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

fn of_kind(kind: &str, generator: &mut SchemaGenerator) -> Option<Value> {
    let mut schema = Stage::schema(kind, generator)?.to_value();
    schema.as_object_mut()?.remove("title");
    Some(schema)
}

/// The schema of a type, with the description of the field that holds it.
fn described<T: JsonSchema>(generator: &mut SchemaGenerator, description: &str) -> Value {
    let mut schema = generator.subschema_for::<T>();
    schema.insert("description".to_owned(), description.into());
    schema.to_value()
}

/// What any stage may have beside the fields of its kind.
fn common(generator: &mut SchemaGenerator) -> Value {
    let scalar = json!({ "type": ["string", "number", "boolean"] });
    json!({
        "type": "object",
        "properties": {
            "kind": { "type": "string", "description": "What the stage does; it decides which other fields there are." },
            "matrix": {
                "type": "object",
                "description": "A sweep: axes with their values, which `${matrix.AXIS}` stands for elsewhere in the stage. It is one stage for \
                    each point of their product; `exclude` takes out points where all of its values hold.",
                "properties": {
                    "exclude": {
                        "type": "array",
                        "description": "Points to leave out, each by the values of some axes.",
                        "items": { "type": "object", "minProperties": 1, "additionalProperties": scalar }
                    }
                },
                "propertyNames": { "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,39}$" },
                "additionalProperties": { "type": "array", "minItems": 1, "items": scalar },
                "minProperties": 1
            },
            "seed": described::<u64>(generator, "Where this stage's randomness comes from. Absent: the pipeline's `seed`."),
            "device": described::<DeviceName>(
                generator,
                "Where its tensors live; `libtorch-cuda:1` is one GPU of several. No part of its key. Absent: `--device` of the run.",
            ),
            "resources": described::<Resources>(generator, "What it needs of the machine while it runs; no part of its key."),
            "retries": described::<u8>(
                generator,
                "How often it is tried again after its worker was lost, a GPU failed, or a file could not be read or written. Absent: 0.",
            ),
            "timeout": described::<Timeout>(
                generator,
                "The longest that an attempt may take, with its unit: `90s`, `30min`, `2h`, `1.5d`. Absent: no end.",
            ),
        }
    })
}

/// The top of the file.
fn top(generator: &mut SchemaGenerator) -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {
                "type": ["string", "number", "boolean"],
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
                "description": "What results and history go by. Absent: the file's name without its ending."
            },
            "seed": described::<u64>(generator, "Where all randomness comes from. Absent: 0."),
            "replicas": described::<ReplicaCount>(
                generator,
                "With how many seeds all that is trained is trained, on the same data; evaluations become means over them. Absent: 1.",
            ),
        },
        "additionalProperties": false,
        "anyOf": [
            { "required": ["stages"], "properties": { "stages": { "minProperties": 1 } } },
            { "required": ["include"] }
        ]
    })
}

/// What stands at the top and cannot be a parameter as a whole.
fn unreferenced() -> [(&'static str, Value); 3] {
    let file = json!({ "type": "string", "pattern": r"^(?!.*\$\{).+$" });
    let include = json!({
        "description": "Other files whose `params` and `stages` come in, relative to this one.",
        "anyOf": [file, { "type": "array", "items": file }]
    });
    let params = json!({
        "type": ["object", "null"],
        "description": "Values with names, for `${params.NAME}`; `--set NAME=VALUE` replaces them."
    });
    let stages = json!({
        "type": "object",
        "description": "The stages by name.",
        "propertyNames": { "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,99}$" },
        "additionalProperties": { "anyOf": [{ "$ref": format!("{DEFINITIONS}stage") }, reference()] }
    });
    [("include", include), ("params", params), ("stages", stages)]
}

/// A stage: its kind decides on its fields.
fn stage() -> Value {
    let names = Stage::KINDS.iter().map(|kind| json!({ "const": kind, "description": Stage::summary(kind) }));
    let names: Vec<Value> = names.chain([reference()]).collect();
    let fields = |kind: &&str| {
        json!({
            "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
            "then": { "$ref": format!("{DEFINITIONS}{kind}") }
        })
    };
    json!({
        "type": "object",
        "properties": {
            "kind": { "description": "What the stage does; it decides which other fields there are.", "anyOf": names }
        },
        "required": ["kind"],
        "allOf": Stage::KINDS.iter().map(fields).collect::<Vec<_>>()
    })
}

fn reference() -> Value {
    json!({ "$ref": format!("{DEFINITIONS}reference") })
}

/// Allows what the reader does: a reference in the place of any value, and in that of a text also what YAML takes for a number.
fn loosen(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    for (key, inner) in schema.iter_mut() {
        match key.as_str() {
            "properties" => inner.as_object_mut().into_iter().flat_map(Map::values_mut).for_each(loosen_value),
            "items" | "additionalProperties" => loosen_value(inner),
            "anyOf" | "oneOf" => inner.as_array_mut().into_iter().flatten().for_each(loosen),
            _ => {}
        }
    }
    schema.remove("format");
}

/// A schema of a value, where a reference may stand.
fn loosen_value(schema: &mut Value) {
    loosen(schema);
    let Some(fields) = schema.as_object_mut() else { return };
    let constrained =
        fields.keys().any(|key| !matches!(key.as_str(), "type" | "description" | "default" | "minLength"));
    match fields.get_mut("type") {
        Some(Value::String(text)) if text == "string" && !constrained => {
            fields.insert("type".to_owned(), json!(["string", "number", "boolean"]));
        }
        Some(Value::Array(types)) if types.contains(&json!("string")) && !constrained => {
            types.extend(
                ["number", "boolean"]
                    .map(Value::from)
                    .into_iter()
                    .filter(|more| !types.contains(more))
                    .collect::<Vec<_>>(),
            );
        }
        _ => {
            let about = ["description", "default"].map(|key| (key, fields.remove(key)));
            let own = Value::Object(std::mem::take(fields));
            fields.extend(about.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
            fields.insert("anyOf".to_owned(), json!([own, reference()]));
        }
    }
}

#[cfg(test)]
mod tests;
