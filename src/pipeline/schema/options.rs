//! The options of a stage kind as people read them, made from the schema, from serde's order of fields, and from the ports.

use serde_json::{Map, Value};

use super::{Survey, fields, survey};
use crate::{pipeline::draft::COMMON, stage::Stage};

/// A field of a stage, or one inside of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its place in the stage, dotted: `optimizer.rate`; `filter[].above` is one of each item of a list.
    pub path: String,
    /// What it takes: `number above 0`, `name of a stage that makes a dataset`.
    pub takes: String,
    /// Whether it must be there.
    pub needed: bool,
    /// Its value if it is left out, as YAML; `None` if it then has none of its own.
    pub default: Option<String>,
    /// What it is for, as Markdown.
    pub about: String,
    /// Its values by name and what they mean, if they are named.
    pub choices: Vec<(String, String)>,
}

/// A stage kind, or what all stages have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What it does, as Markdown; empty for what all stages have.
    pub about: String,
    /// A stage of this kind as YAML, with its name.
    pub example: Option<String>,
    /// What it makes, in words.
    pub makes: Option<&'static str>,
    /// Its fields, in the order of the struct.
    pub fields: Vec<Field>,
}

/// The options of a kind; `None` if there is no such kind.
pub fn of_kind(kind: &str) -> Option<Options> {
    let (schema, survey) = (fields(Some(kind))?, survey(kind)?);
    let (about, example) = split(&description(&schema));
    let makes = Some(survey.stage.produces().in_words());
    let walk = Walk { root: &schema, survey: Some(&survey) };
    Some(Options { about, example, makes, fields: walk.fields_of(&schema, survey.root, "") })
}

/// What any stage may have beside the fields of its kind.
pub fn common() -> Options {
    let schema = fields(None).unwrap_or_default();
    let fields = Walk { root: &schema, survey: None }.fields_of(&schema, "", "");
    Options { about: String::new(), example: None, makes: None, fields }
}

fn description(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A description without the example in it, its paragraphs in a line each, and the example.
fn split(text: &str) -> (String, Option<String>) {
    let (about, example) = match text.split_once("```yaml\n") {
        Some((about, rest)) => (about, rest.split("```").next().map(str::to_owned)),
        None => (text, None),
    };
    let paragraphs =
        about.trim().split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    (paragraphs.collect::<Vec<_>>().join("\n\n"), example)
}

struct Walk<'a> {
    root: &'a Value,
    survey: Option<&'a Survey>,
}

impl Walk<'_> {
    /// The fields of an object, the struct of this name, with those inside of them.
    fn fields_of(&self, schema: &Value, name: &str, prefix: &str) -> Vec<Field> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let known = self.survey.and_then(|survey| survey.structs.get(name).copied());
        let order: Vec<&str> = match known {
            Some(known) => known.to_vec(),
            None if prefix.is_empty() => COMMON.to_vec(),
            None => properties.into_iter().flat_map(Map::keys).map(String::as_str).collect(),
        };
        let needed = |key: &str| {
            schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|name| name == key))
        };
        let field = |key: &str| Some(self.field(properties?.get(key)?, format!("{prefix}{key}"), needed(key)));
        order.into_iter().filter_map(field).flatten().collect()
    }

    /// A field, and those inside of it.
    fn field(&self, schema: &Value, path: String, needed: bool) -> Vec<Field> {
        let mut choices = Vec::new();
        let takes = self.role(&path).unwrap_or_else(|| self.takes(schema, &mut choices));
        let default = schema.get("default").filter(|default| !default.is_null() && !default.is_object());
        let inner = self.object(schema).map(|(name, inner)| {
            let list = if self.is_list(schema) { "[]" } else { "" };
            self.fields_of(inner, name, &format!("{path}{list}."))
        });
        let (about, _) = split(&description(schema));
        let default = default.map(yaml).filter(|default| default != "[]");
        let field = Field { path, takes, needed, default, about, choices };
        std::iter::once(field).chain(inner.into_iter().flatten()).collect()
    }

    /// What a port or a source takes.
    fn role(&self, path: &str) -> Option<String> {
        let stage = &self.survey?.stage;
        let ports = stage.ports();
        if let Some(port) = ports.iter().find(|port| port.field.trim_end_matches(".0") == path) {
            let accepts: Vec<&str> = port.accepts.iter().map(|kind| kind.in_words()).collect();
            let whose =
                if port.field == path { "name of a stage that makes" } else { "list of names of stages that make" };
            return Some(format!("{whose} {}", accepts.join(" or ")));
        }
        let source = stage.sources().into_iter().find(|source| source.field == path);
        source.map(|_| "path of a file, relative to the pipeline file".to_owned())
    }

    fn resolved<'b>(&'b self, schema: &'b Value) -> (&'b str, &'b Value) {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else { return ("", schema) };
        let name = reference.rsplit('/').next().unwrap_or_default();
        (name, self.root.pointer(reference.trim_start_matches('#')).unwrap_or(schema))
    }

    /// The alternatives of a schema, without `null`.
    fn alternatives<'b>(&'b self, schema: &'b Value) -> Vec<&'b Value> {
        let any = self.resolved(schema).1.get("anyOf").and_then(Value::as_array);
        any.map_or_else(
            || vec![schema],
            |any| any.iter().filter(|one| one.get("type") != Some(&"null".into())).collect(),
        )
    }

    fn is_list(&self, schema: &Value) -> bool {
        self.alternatives(schema).iter().any(|one| self.resolved(one).1.get("items").is_some())
    }

    /// The struct that a schema, or the items of its list, is; with its name.
    fn object<'b>(&'b self, schema: &'b Value) -> Option<(&'b str, &'b Value)> {
        self.alternatives(schema).into_iter().find_map(|one| {
            let (name, one) = self.resolved(one);
            let (name, one) = one.get("items").map_or((name, one), |items| self.resolved(items));
            one.get("properties").map(|_| (name, one))
        })
    }

    /// What a schema describes, in words, and the choices that it names.
    fn takes(&self, schema: &Value, choices: &mut Vec<(String, String)>) -> String {
        let words: Vec<String> =
            self.alternatives(schema).into_iter().map(|one| self.one(self.resolved(one).1, "", choices)).collect();
        words.join(", or ")
    }

    fn one(&self, schema: &Value, prefix: &str, choices: &mut Vec<(String, String)>) -> String {
        if let Some(values) = schema.get("oneOf").and_then(Value::as_array) {
            let named = values.iter().filter_map(|value| Some((value.get("const")?.as_str()?, description(value))));
            let named: Vec<(String, String)> =
                named.map(|(name, about)| (format!("{prefix}{name}"), split(&about).0)).collect();
            let names: Vec<&str> = named.iter().map(|(name, _)| name.trim_start_matches(prefix)).collect();
            let words = format!("`{}`", names.join("`, `"));
            choices.extend(named);
            return words;
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            let names: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
            return format!("`{}`", names.join("`, `"));
        }
        let kinds = schema.get("type");
        let kind = kinds.and_then(|kinds| kinds.as_str().or_else(|| kinds.get(0)?.as_str())).unwrap_or_default();
        match kind {
            "integer" => range("whole number", schema),
            "number" => range("number", schema),
            "array" => {
                let items = schema.get("items").unwrap_or(&Value::Null);
                format!("list of {}", plural(&self.one(self.resolved(items).1, prefix, choices)))
            }
            "object" => match schema.get("additionalProperties").filter(|others| others.is_object()) {
                Some(others) if schema.get("properties").is_none() => {
                    format!("map of names to {}", self.one(self.resolved(others).1, "NAME: ", choices))
                }
                _ => "map".to_owned(),
            },
            "string" => "text".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            other => other.to_owned(),
        }
    }
}

/// A number with its range: `number above 0 and below 1`, `whole number from 1 to 8192`.
fn range(what: &str, schema: &Value) -> String {
    let bound = |key: &str, word: &str| schema.get(key).map(|bound| format!("{word} {}", grouped(bound)));
    let low = bound("minimum", "from").or_else(|| bound("exclusiveMinimum", "above"));
    let high = bound("maximum", "to").or_else(|| bound("exclusiveMaximum", "below"));
    match (low, high) {
        (Some(low), Some(high)) if high.starts_with("to") => format!("{what} {low} {high}"),
        (Some(low), Some(high)) => format!("{what} {low} and {high}"),
        (low, high) => [Some(what.to_owned()), low, high].into_iter().flatten().collect::<Vec<_>>().join(" "),
    }
}

/// A number with its thousands apart: 1,000,000.
fn grouped(number: &Value) -> String {
    let digits = number.to_string();
    if digits.len() < 5 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return digits;
    }
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

fn plural(words: &str) -> String {
    let head = ["whole number", "number", "text", "list", "map"].into_iter().find(|head| words.starts_with(head));
    head.map_or_else(|| words.to_owned(), |head| words.replacen(head, &format!("{head}s"), 1))
}

/// A default as it would be written.
fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        // Whole where they can be, 1 and not 1.0, and in the short form if they are small.
        Value::Number(number) => match number.as_f64() {
            Some(value) if value != 0.0 && value.abs() < 1e-3 => format!("{value:e}"),
            Some(value) => value.to_string(),
            None => number.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// All kinds with their options.
pub fn all() -> impl Iterator<Item = (&'static str, Options)> {
    Stage::KINDS.iter().filter_map(|kind| Some((*kind, of_kind(kind)?)))
}
