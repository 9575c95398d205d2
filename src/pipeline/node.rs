//! The tree that a pipeline file is: scalars, lists and maps, each with the place where it was written.

use super::diagnostics::Place;

/// A value of the file.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// What it is.
    pub(super) value: Value,
    /// Where it is used.
    pub(super) place: Place,
    /// Where it was written, if that is elsewhere: an alias's anchor, a parameter's value.
    pub(super) origin: Option<Place>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A single value: as written, and as what it reads.
    Scalar(String, Scalar),
    /// A list.
    Sequence(Vec<Node>),
    /// A map; keys are distinct and keep their order.
    Map(Vec<Entry>),
    /// Takes the place of a value with a mistake that has been reported, so that reading can go on to the next mistake.
    StandIn,
}

/// What a scalar reads as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    /// Nothing: `~`, `null` or an absent value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float(f64),
    /// A text.
    Text,
}

/// A key of a map with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) place: Place,
    /// The value.
    pub(super) value: Node,
}

impl Node {
    pub(super) fn new(value: Value, place: Place) -> Self {
        Self { value, place, origin: None }
    }

    /// The entries, if this is a map.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        if let Value::Map(entries) = &self.value { Some(entries) } else { None }
    }

    /// The entry of this key, if this is a map that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    /// The child of this key or list index.
    pub(super) fn child_mut(&mut self, step: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|entry| entry.key == step).map(|entry| &mut entry.value),
            Value::Sequence(items) => items.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        }
    }

    /// The node at the end of this path.
    pub(super) fn descend_mut(&mut self, path: &[String]) -> Option<&mut Node> {
        path.iter().try_fold(self, |node, step| node.child_mut(step))
    }

    /// The place of the deepest existing node on a dotted path: of a map or list its key, of a scalar the value.
    pub(super) fn nearest(&self, dotted: &str) -> Option<(Place, Option<Place>)> {
        let (mut node, mut found) = (self, None);
        for step in dotted.split('.').filter(|step| !step.is_empty()) {
            let (key, child) = match &node.value {
                Value::Map(_) => match node.entry(step) {
                    Some(entry) => (entry.place, &entry.value),
                    None => break,
                },
                Value::Sequence(items) => match step.parse().ok().and_then(|index: usize| items.get(index)) {
                    Some(item) => (item.place, item),
                    None => break,
                },
                _ => break,
            };
            let place = if matches!(child.value, Value::Scalar(..)) { child.place } else { key };
            found = Some((place, child.origin));
            node = child;
        }
        found
    }

    /// What it is, for a message: the text "abc", a list.
    pub(super) fn in_words(&self) -> String {
        match &self.value {
            Value::Scalar(_, Scalar::Null) => "nothing".into(),
            Value::Scalar(text, Scalar::Text) => format!("the text `{}`", shorten(text)),
            Value::Scalar(text, _) => format!("`{}`", shorten(text)),
            Value::Sequence(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::StandIn => "a mistake".into(),
        }
    }

    /// Nodes in it, itself included, and bytes of text: what a copy costs.
    pub(super) fn cost(&self) -> (usize, usize) {
        let add = |sum: (usize, usize), one: (usize, usize)| (sum.0 + one.0, sum.1 + one.1);
        match &self.value {
            Value::Scalar(text, _) => (1, text.len()),
            Value::Sequence(items) => items.iter().map(Self::cost).fold((1, 0), add),
            Value::Map(entries) => {
                entries.iter().map(|entry| add(entry.value.cost(), (0, entry.key.len()))).fold((1, 0), add)
            }
            Value::StandIn => (1, 0),
        }
    }
}

/// A text cut to what fits in a message, on one line.
pub(super) fn shorten(text: &str) -> String {
    let flat: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(60).is_some() { format!("{flat}…") } else { flat }
}

impl Scalar {
    /// Reads a plain (unquoted) scalar by YAML 1.2's core schema, with `_` allowed between digits.
    pub(super) fn of_plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Self::Null,
            "true" | "True" | "TRUE" => Self::Bool(true),
            "false" | "False" | "FALSE" => Self::Bool(false),
            ".nan" | ".NaN" | ".NAN" => Self::Float(f64::NAN),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Self::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Self::Float(f64::NEG_INFINITY),
            _ => number(text).unwrap_or(Self::Text),
        }
    }
}

/// Reads a number: decimal, `0x` or `0o`, or floating point. Infinite results of finite digits stay numbers (`1e999`).
fn number(text: &str) -> Option<Scalar> {
    let bytes = text.as_bytes();
    let starts = matches!(bytes.first()?, b'0'..=b'9' | b'+' | b'-' | b'.');
    if !starts || bytes.len() > 400 || !underscores_stand_between_digits(bytes) {
        return None;
    }
    let digits = text.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(rest) = digits.strip_prefix(prefix) {
            let valid = rest.starts_with(|c: char| c.is_ascii_hexdigit());
            return valid.then(|| i128::from_str_radix(rest, radix).ok()).flatten().map(Scalar::Integer);
        }
    }
    if let Ok(integer) = digits.parse() {
        return Some(Scalar::Integer(integer));
    }
    let shaped = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    if shaped { digits.parse().ok().map(Scalar::Float) } else { None }
}

fn underscores_stand_between_digits(bytes: &[u8]) -> bool {
    let digit = |index: Option<usize>| index.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().filter(|&(_, &b)| b == b'_').all(|(i, _)| digit(i.checked_sub(1)) && digit(Some(i + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_read_by_the_core_schema() {
        for (text, expected) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("yes", Scalar::Text),
            ("12", Scalar::Integer(12)),
            ("-3", Scalar::Integer(-3)),
            ("1_000", Scalar::Integer(1000)),
            ("1__000", Scalar::Text),
            ("_1", Scalar::Text),
            ("0x1F", Scalar::Integer(31)),
            ("0o17", Scalar::Integer(15)),
            ("0x", Scalar::Text),
            ("1e3", Scalar::Float(1000.0)),
            (".5", Scalar::Float(0.5)),
            ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
            ("-", Scalar::Text),
            ("1.2.3", Scalar::Text),
            ("3 GeV", Scalar::Text),
            ("e3", Scalar::Text),
            ("infinity", Scalar::Text),
        ] {
            assert_eq!(Scalar::of_plain(text), expected, "{text:?}");
        }
    }
}
