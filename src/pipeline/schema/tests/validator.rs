//! As much of JSON Schema as the schema of a pipeline uses; a keyword that is not known here fails the test.
//! `scripts/test-schema` holds the same files to Python's `jsonschema`.

use regex::Regex;
use serde_json::{Map, Value};

/// What annotates and does not judge.
const SILENT: [&str; 8] = ["$schema", "$defs", "title", "description", "default", "then", "if", "additionalProperties"];

/// Whether a value is what a schema describes; `root` holds its definitions.
pub(super) fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
    let Value::Object(keywords) = schema else { return schema == &Value::Bool(true) };
    let holds = |schema: &Value| accepts(root, schema, value);
    let all = |schemas: &Value| schemas.as_array().unwrap().iter().map(holds).collect::<Vec<_>>();
    let number = |bound: &Value, fits: fn(f64, f64) -> bool| {
        value.as_f64().is_none_or(|value| fits(value, bound.as_f64().unwrap()))
    };
    let own = keywords.iter().all(|(keyword, given)| match keyword.as_str() {
        "type" => match given {
            Value::Array(types) => types.iter().any(|name| is(value, name.as_str().unwrap())),
            name => is(value, name.as_str().unwrap()),
        },
        "const" => value == given,
        "enum" => given.as_array().unwrap().contains(value),
        "$ref" => holds(root.pointer(given.as_str().unwrap().trim_start_matches('#')).expect("a definition")),
        "allOf" => all(given).into_iter().all(|held| held),
        "anyOf" => all(given).into_iter().any(|held| held),
        "oneOf" => all(given).into_iter().filter(|held| *held).count() == 1,
        "minimum" => number(given, |value, bound| value >= bound),
        "maximum" => number(given, |value, bound| value <= bound),
        "exclusiveMinimum" => number(given, |value, bound| value > bound),
        "exclusiveMaximum" => number(given, |value, bound| value < bound),
        "pattern" => value.as_str().is_none_or(|text| matches(given, text)),
        "minLength" => value.as_str().is_none_or(|text| text.chars().count() as u64 >= given.as_u64().unwrap()),
        "items" => value.as_array().into_iter().flatten().all(|item| accepts(root, given, item)),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= given.as_u64().unwrap()),
        "minProperties" => value.as_object().is_none_or(|fields| fields.len() as u64 >= given.as_u64().unwrap()),
        "required" => {
            let names = given.as_array().unwrap();
            value.as_object().is_none_or(|fields| names.iter().all(|name| fields.contains_key(name.as_str().unwrap())))
        }
        "properties" => fields(value).all(|(key, field)| given.get(key).is_none_or(|one| accepts(root, one, field))),
        "propertyNames" => fields(value).all(|(key, _)| accepts(root, given, &Value::from(key.clone()))),
        silent => SILENT.contains(&silent) || panic!("the keyword `{silent}` is not known"),
    });
    let known = |key: &String| keywords.get("properties").is_some_and(|properties| properties.get(key).is_some());
    let others = keywords
        .get("additionalProperties")
        .is_none_or(|given| fields(value).filter(|(key, _)| !known(key)).all(|(_, field)| accepts(root, given, field)));
    let chosen = keywords.get("if").is_none_or(|condition| !holds(condition) || holds(&keywords["then"]));
    own && others && chosen
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|value| value.fract() == 0.0),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("the type `{name}` is not known"),
    }
}

/// `include`'s pattern looks ahead, which the crate cannot.
fn matches(pattern: &Value, text: &str) -> bool {
    match pattern.as_str().unwrap() {
        r"^(?!.*\$\{).+$" => !text.is_empty() && !text.contains("${"),
        pattern => Regex::new(pattern).unwrap().is_match(text),
    }
}
