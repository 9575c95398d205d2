use std::{collections::BTreeSet, fs, path::Path};

use validator::accepts;

use super::{
    super::{
        Pipeline,
        de::NodeDeserializer,
        draft::{COMMON, TOP},
        node::{Node, Scalar},
        yaml,
    },
    *,
};

mod validator;

fn tree(text: &str) -> Option<Node> {
    match yaml::read(text, 0, &mut yaml::Spent::default()) {
        (tree, mistakes) if mistakes.is_empty() => tree,
        _ => None,
    }
}

fn to_json(node: &Node) -> Value {
    use super::super::node::Value as Tree;
    match &node.value {
        Tree::Scalar(_, Scalar::Null) | Tree::StandIn => Value::Null,
        Tree::Scalar(_, Scalar::Bool(value)) => json!(value),
        Tree::Scalar(_, Scalar::Integer(value)) => json!(*value as f64),
        Tree::Scalar(_, Scalar::Float(value)) => json!(value),
        Tree::Scalar(text, Scalar::Text) => json!(text),
        Tree::Sequence(items) => items.iter().map(to_json).collect(),
        Tree::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), to_json(&entry.value))).collect(),
    }
}

/// Whether the schema accepts the file; `None` if it is no YAML.
fn judged(path: &Path) -> Option<bool> {
    let schema = pipeline();
    let text = String::from_utf8(fs::read(path).unwrap()).ok()?;
    Some(accepts(&schema, &schema, &to_json(&tree(&text)?)))
}

fn files(folder: &str) -> Vec<std::path::PathBuf> {
    let entries = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).read_dir().unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect()
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn ready_pipelines_are_what_the_schema_describes() {
    let files = files("pipelines");
    assert!(files.len() >= 6);
    for path in files {
        assert_eq!(judged(&path), Some(true), "{}", path.display());
    }
}

#[test]
fn the_schema_sees_the_mistakes_that_types_can_see() {
    let seen: BTreeSet<String> = files("tests/bad")
        .iter()
        .filter(|path| judged(path) == Some(false))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let expected = [
        "misspelt_kind",
        "no_stages",
        "not_a_map",
        "probability_above_one",
        "several_mistakes",
        "unknown_key",
        "unknown_parameter",
        "wrong_type",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[test]
fn the_schema_has_the_fields_that_the_reader_knows() {
    let schema = pipeline();
    assert_eq!(names(&schema["properties"]), TOP.into());
    assert_eq!(names(&schema["$defs"]["common"]["properties"]), COMMON.into());
    for kind in Stage::KINDS {
        let survey = survey(kind).unwrap_or_else(|| panic!("{kind} cannot be surveyed"));
        for (name, fields) in survey.structs {
            let own: BTreeSet<&str> = fields.iter().copied().collect();
            if name == survey.root {
                let all: BTreeSet<&str> = own.iter().copied().chain(COMMON).collect();
                assert_eq!(names(&schema["$defs"][kind]["properties"]), all, "{kind}");
            } else {
                assert_eq!(names(&schema["$defs"][name]["properties"]), own, "{name} of {kind}");
            }
        }
    }
}

#[test]
fn every_field_is_described() {
    for kind in Stage::KINDS.iter().map(|kind| Some(*kind)).chain([None]) {
        let schema = fields(kind).unwrap();
        let objects = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for (name, field) in objects.filter_map(|object| object.get("properties")?.as_object()).flatten() {
            assert!(field.get("description").is_some(), "{kind:?}: {name} {field}");
        }
    }
}

/// A value that fits a schema: lists have an item, maps all their fields.
fn sample(root: &Value, schema: &Value) -> Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return sample(root, root.pointer(name.trim_start_matches('#')).unwrap());
    }
    if let Some(first) = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)) {
        return sample(root, &first[0]);
    }
    if let Some(value) = schema.get("const").or(schema.get("enum").map(|values| &values[0])) {
        return value.clone();
    }
    let kind = schema["type"].as_str().unwrap_or_else(|| schema["type"][0].as_str().unwrap());
    match kind {
        "object" => {
            let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            fields.map(|(key, field)| (key.clone(), sample(root, field))).collect()
        }
        "array" => json!([sample(root, &schema["items"])]),
        "integer" => json!(3),
        "number" => json!(0.5),
        "string" => json!("x"),
        _ => panic!("{schema}"),
    }
}

/// Values of all types, in and out of the ranges that there are.
fn probes() -> Vec<Value> {
    let numbers =
        [-1.0_f64, 0.0, 1e-9, 0.5, 1.0, 1.5, 3.0, 255.0, 256.0, 8192.0, 8193.0, 1e5, 100_001.0, 2e6, 1e9, 2e9];
    let mut probes: Vec<Value> = numbers.map(|n| if n.fract() == 0.0 { json!(n as i64) } else { json!(n) }).to_vec();
    probes.extend(numbers.map(|n| json!([n])));
    probes.extend([
        json!(null),
        json!(true),
        json!("x"),
        json!("dijet"),
        json!("1"),
        json!([]),
        json!({}),
        json!([null]),
        json!(["x"]),
        json!([["x"]]),
        json!([{}]),
        json!({ "x": "log" }),
        json!({ "x": "x" }),
        json!({ "x": 1 }),
        json!("cpu"),
        json!("libtorch-cuda:1"),
        json!("libtorch-cuda:"),
        json!("2h"),
        json!("2"),
        json!("2 weeks"),
        json!("500MB"),
        json!("1.5 GiB"),
        json!("GB"),
    ]);
    probes
}

/// The pointers to all values inside of this one.
fn inside(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, field)| {
            found.push(format!("{at}/{key}"));
            inside(field, &format!("{at}/{key}"), found);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| inside(item, &format!("{at}/{i}"), found)),
        _ => {}
    }
}

/// This value with each of its parts replaced by each probe, taken away, or given a field that nobody knows.
fn variants(value: &Value) -> Vec<(String, Value)> {
    let mut pointers = Vec::new();
    inside(value, "", &mut pointers);
    let mut variants = vec![("as it is".to_owned(), value.clone())];
    for pointer in pointers {
        for probe in probes() {
            let mut variant = value.clone();
            *variant.pointer_mut(&pointer).unwrap() = probe.clone();
            variants.push((format!("{pointer} = {probe}"), variant));
        }
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        for unknown in [false, true] {
            let mut variant = value.clone();
            if let Some(Value::Object(fields)) = variant.pointer_mut(parent) {
                let _ = if unknown { fields.insert("unknown".to_owned(), json!(1)) } else { fields.remove(key) };
                variants.push((format!("{pointer}: {}", if unknown { "beside an unknown" } else { "gone" }), variant));
            }
        }
    }
    variants
}

#[test]
fn the_schema_and_the_reader_agree_on_every_field_of_every_kind() {
    let schema = pipeline();
    for kind in Stage::KINDS {
        let fields = fields(Some(kind)).unwrap();
        let whole = sample(&fields, &fields);
        let mut accepted = 0;
        for (what, variant) in variants(&whole) {
            let node = tree(&variant.to_string()).unwrap();
            let read = Stage::deserialize(kind, NodeDeserializer::without(&node, &COMMON)).unwrap();
            let fits = accepts(&schema, &schema["$defs"][kind], &variant);
            // The reader leaves the names of metrics to the stage.
            let unknown = |stage: &Stage| stage.problems().iter().any(|problem| problem.field.starts_with("metrics."));
            let accepts = read.as_ref().is_ok_and(|stage| !unknown(stage));
            assert_eq!(fits, accepts, "{kind}: {what}: {:?}", read.err().map(|fault| fault.to_string()));
            accepted += usize::from(fits);
        }
        assert!(accepted > 5, "{kind}");
    }
}

#[test]
fn the_schema_and_the_reader_agree_on_what_all_stages_and_files_have() {
    let schema = pipeline();
    let stage = json!({
        "kind": "dataset", "synthetic": { "density": "normal", "events": 100 },
        "seed": 1, "device": "cpu", "resources": { "gpu": 0.5, "threads": 2, "memory": "1GB" }, "retries": 2, "timeout": "1h"
    });
    let file = json!({ "name": "a", "seed": 1, "replicas": 2, "params": {}, "stages": { "events": stage } });
    for (what, variant) in variants(&file) {
        // What the kind has is held to its own reader above; a name that is a number is shown as it is written.
        if what.contains("/synthetic") || what.contains("kind") || what.starts_with("/name = -1") {
            continue;
        }
        let read = Pipeline::parse(variant.to_string().as_bytes(), Path::new("p.yaml"), &[]);
        let fits = accepts(&schema, &schema, &variant);
        assert_eq!(fits, read.is_ok(), "{what}: {:?}", read.err().map(|error| error.to_string()));
    }
}

#[test]
fn a_parameter_may_stand_in_the_place_of_any_value() {
    let schema = pipeline();
    for kind in Stage::KINDS {
        let fields = fields(Some(kind)).unwrap();
        let whole = sample(&fields, &fields);
        let mut pointers = Vec::new();
        inside(&whole, "", &mut pointers);
        for pointer in pointers {
            for reference in ["${params.x}", "${matrix.lr}"] {
                let mut variant = whole.clone();
                *variant.pointer_mut(&pointer).unwrap() = json!(reference);
                assert!(accepts(&schema, &schema["$defs"][kind], &variant), "{kind}: {pointer}");
            }
        }
    }
    let file = json!({ "name": "${params.n}", "seed": "${params.n}", "replicas": "${params.n}", "stages": { "a": "${params.n}" } });
    assert!(accepts(&schema, &schema, &file));
    assert!(!accepts(&schema, &schema, &json!({ "include": "${params.file}", "stages": {} })));
}
