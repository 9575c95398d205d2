//! `params:`, `${params.x}` and `--set k=v`: what makes one file serve many runs.
//!
//! Overrides are applied first, then parameters are put in; both before any stage is read, so a value that came from
//! elsewhere is checked like one that stands in its place.

use std::collections::HashSet;

use super::{
    diagnostics::{Diagnostic, Place},
    fault::suggest,
    node::{Entry, Node, Scalar, Value, shorten},
    yaml,
};

/// Top-level keys that `--set` may replace.
const SETTABLE: [&str; 3] = ["seed", "name", "replicas"];

/// Applies the `k=v` of `--set` to the tree of the file.
pub(super) fn apply(root: &mut Node, overrides: &[(String, String)], mistakes: &mut Vec<Diagnostic>) {
    for (index, (key, text)) in overrides.iter().enumerate() {
        if let Err(mistake) = apply_one(root, key, text, Place::Override(index)) {
            mistakes.push(*mistake);
        }
    }
}

fn apply_one(root: &mut Node, key: &str, text: &str, place: Place) -> Result<(), Box<Diagnostic>> {
    let value = value(text, place)?;
    if let Some(parameter) = root.child_mut("params").and_then(|params| params.child_mut(key)) {
        *parameter = value;
        return Ok(());
    }
    if SETTABLE.contains(&key) {
        return set(root, &[key], value, key);
    }
    let path: Vec<&str> = key.split('.').collect();
    if let [stage, field @ ..] = &*path
        && !field.is_empty()
        && let Some(stage) = root.child_mut("stages").and_then(|stages| stages.child_mut(stage))
    {
        return set(stage, field, value, key);
    }
    Err(Box::new(unknown(root, key, place)))
}

fn unknown(root: &Node, key: &str, place: Place) -> Diagnostic {
    let names = |section: &str| -> Vec<String> {
        let entries = root.entry(section).and_then(|entry| entry.value.entries()).unwrap_or_default();
        entries.iter().map(|entry| entry.key.clone()).collect()
    };
    let (params, stages) = (names("params"), names("stages"));
    let known: Vec<&str> = params.iter().chain(&stages).map(String::as_str).chain(SETTABLE).collect();
    let head = key.split('.').next().unwrap_or(key);
    let diagnostic =
        Diagnostic::new(format!("`{}` is neither a parameter nor a field of a stage", shorten(key)), place);
    if let Some((stage, _)) = key.split_once('@') {
        return diagnostic.help(format!(
            "a point, a round or a replica has no fields of its own: set `{stage}.FIELD` for all points"
        ));
    }
    match crate::stage::nearest(head, &known) {
        Some(name) if name != head => diagnostic.help(format!("did you mean `{}`?", key.replacen(head, name, 1))),
        Some(stage) if stages.iter().any(|known| known == stage) => {
            diagnostic.help(format!("name a field of the stage, as in `--set {stage}.steps=100`"))
        }
        _ if params.is_empty() => diagnostic.help("the pipeline has no `params`; write `STAGE.FIELD=VALUE`"),
        _ => diagnostic.help(format!("parameters are `{}`; a field is `STAGE.FIELD`", params.join("`, `"))),
    }
}

/// Reads the value of an override: a scalar, or a list or map in brackets.
fn value(text: &str, place: Place) -> Result<Node, Box<Diagnostic>> {
    if !text.starts_with(['[', '{', '"', '\'']) {
        return Ok(Node::new(Value::Scalar(text.to_owned(), Scalar::of_plain(text)), place));
    }
    let (node, mistakes) = yaml::read(text, 0, &mut yaml::Spent::default());
    match (node, mistakes.into_iter().next()) {
        (Some(mut node), None) => {
            relocate(&mut node, place);
            Ok(node)
        }
        (_, mistake) => {
            let label = mistake.map_or_else(String::new, |mistake| mistake.label);
            Err(Box::new(Diagnostic::new("the value of `--set` is not valid YAML", place).label(label)))
        }
    }
}

fn relocate(node: &mut Node, to: Place) {
    (node.place, node.origin) = (to, None);
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| relocate(item, to)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| {
            entry.place = to;
            relocate(&mut entry.value, to);
        }),
        Value::Scalar(..) | Value::StandIn => {}
    }
}

/// Sets the value at the end of a path, making maps on the way where nothing is.
fn set(node: &mut Node, path: &[&str], value: Node, key: &str) -> Result<(), Box<Diagnostic>> {
    let [step, rest @ ..] = path else {
        *node = value;
        return Ok(());
    };
    let place = value.place;
    if matches!(node.value, Value::Scalar(_, Scalar::Null)) {
        node.value = Value::Map(Vec::new());
    }
    if node.child_mut(step).is_none()
        && let Value::Map(entries) = &mut node.value
    {
        let empty = Node::new(Value::Map(Vec::new()), place);
        entries.push(Entry { key: (*step).to_owned(), place, value: empty });
    }
    let inside = node.in_words();
    if let Some(child) = node.child_mut(step) {
        return set(child, rest, value, key);
    }
    let message = format!("`{}` does not fit: there is no `{step}` in {inside}", shorten(key));
    Err(Box::new(Diagnostic::new(message, place)))
}

/// Puts the values of parameters in the place of `${params.x}`, and those of a point in the place of `${matrix.x}`, everywhere in
/// a node.
pub(super) struct Parameters<'a> {
    params: &'a [Entry],
    /// Where a sweep stands.
    pub(super) sweep: Sweep,
    nodes: usize,
    text: usize,
}

/// What `${matrix.x}` means.
#[derive(Default)]
pub(super) enum Sweep {
    /// Nothing: the stage has no `matrix`.
    #[default]
    None,
    /// What is not known: the stage's `matrix` has mistakes, which are told.
    Faulty,
    /// The value of its axis.
    Point {
        /// By axis.
        values: Vec<(String, Node)>,
        /// The axes that were asked for so far.
        used: HashSet<String>,
    },
}

impl<'a> Parameters<'a> {
    /// The parameters of a pipeline. One cannot refer to another.
    pub(super) fn new(params: &'a [Entry], mistakes: &mut Vec<Diagnostic>) -> Self {
        for entry in params {
            if let Value::Scalar(text, Scalar::Text) = &entry.value.value
                && text.contains("${")
            {
                mistakes.push(
                    Diagnostic::new("a parameter cannot refer to another one", entry.value.place)
                        .help("write `${params.NAME}` in a stage"),
                );
            }
        }
        Self { params, sweep: Sweep::None, nodes: 0, text: 0 }
    }

    /// Replaces all references inside this node. A value with a mistake becomes a stand-in.
    pub(super) fn put_in(&mut self, node: &mut Node, mistakes: &mut Vec<Diagnostic>) {
        match &mut node.value {
            Value::Sequence(items) => items.iter_mut().for_each(|item| self.put_in(item, mistakes)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| self.put_in(&mut entry.value, mistakes)),
            Value::Scalar(text, Scalar::Text) if matches!(self.sweep, Sweep::Faulty) && text.contains("${matrix.") => {
                node.value = Value::StandIn;
            }
            Value::Scalar(text, Scalar::Text) if text.contains("${") => {
                let text = std::mem::take(text);
                match self.replaced(&text, node.place) {
                    Ok((value, origin)) => (node.value, node.origin) = (value, origin.or(node.origin)),
                    Err(mistake) => {
                        mistakes.push(mistake.with_origin(node.origin));
                        node.value = Value::StandIn;
                    }
                }
            }
            Value::Scalar(..) | Value::StandIn => {}
        }
    }

    fn replaced(&mut self, text: &str, place: Place) -> Result<(Value, Option<Place>), Box<Diagnostic>> {
        if let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'))
            && !name.contains(['{', '}'])
        {
            let node = self.find(name, place)?;
            return Ok((node.value, Some(node.place)));
        }
        let (mut pasted, mut rest, mut origin) = (String::new(), text, None);
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Err(Box::new(Diagnostic::new("`${` without a `}`", place).help("write `${params.NAME}`")));
            };
            let node = self.find(name, place)?;
            let Value::Scalar(value, _) = node.value else {
                let what = node.in_words();
                let message = format!("`{name}` is {what}, which cannot stand inside a text");
                return Err(Box::new(Diagnostic::new(message, place).also(node.place, "defined here")));
            };
            // A path is relative to the file in which it begins.
            if pasted.is_empty() && before.is_empty() {
                origin = Some(node.place);
            }
            pasted.push_str(before);
            pasted.push_str(&value);
            rest = after;
        }
        pasted.push_str(rest);
        Ok((Value::Scalar(pasted, Scalar::Text), origin))
    }

    /// A copy of the value of this name, if the file has not used up what it may hold.
    fn find(&mut self, name: &str, place: Place) -> Result<Node, Box<Diagnostic>> {
        let name = name.trim();
        let found = if let Some(name) = name.strip_prefix("params.") {
            &parameter(self.params, name, place)?.value
        } else if let Some(axis) = name.strip_prefix("matrix.") {
            self.axis(axis, place)?
        } else {
            return Err(Box::new(self.unknown(name, place)));
        };
        let (cost, found) = (found.cost(), found.clone());
        self.spend(cost, place)?;
        Ok(found)
    }

    /// The value of an axis at the point of the sweep.
    fn axis(&mut self, axis: &str, place: Place) -> Result<&Node, Box<Diagnostic>> {
        let Sweep::Point { values, used } = &mut self.sweep else {
            let diagnostic =
                Diagnostic::new(format!("`${{matrix.{}}}` stands outside of a sweep", shorten(axis)), place);
            return Err(Box::new(diagnostic.help("give the stage a `matrix:` with this axis")));
        };
        let Some((axis, value)) = values.iter().find(|(known, _)| known == axis) else {
            let known: Vec<&str> = values.iter().map(|(axis, _)| axis.as_str()).collect();
            let diagnostic = Diagnostic::new(format!("`matrix` has no axis `{}`", shorten(axis)), place);
            return Err(Box::new(suggest(diagnostic, axis, &known)));
        };
        used.insert(axis.clone());
        Ok(value)
    }

    fn unknown(&self, name: &str, place: Place) -> Diagnostic {
        let diagnostic = Diagnostic::new(format!("`${{{}}}` is no parameter", shorten(name)), place);
        let (head, rest) = name.split_once('.').unwrap_or((name, ""));
        if head == "param" || head == "parameters" || head == "parameter" {
            return diagnostic.help(format!("did you mean `${{params.{rest}}}`?"));
        }
        let is_axis = |values: &[(String, Node)]| values.iter().any(|(axis, _)| axis == name);
        if matches!(&self.sweep, Sweep::Point { values, .. } if is_axis(values)) {
            return diagnostic.help(format!("write `${{matrix.{name}}}`"));
        }
        let meant = if self.params.iter().any(|entry| entry.key == name) { name } else { "NAME" };
        diagnostic.help(format!("write `${{params.{meant}}}`"))
    }

    /// Charges for the copy of what costs so many nodes and bytes.
    pub(super) fn spend(&mut self, (nodes, text): (usize, usize), place: Place) -> Result<(), Box<Diagnostic>> {
        (self.nodes, self.text) = (self.nodes + nodes, self.text + text);
        if self.nodes > yaml::MAX_NODES || self.text > yaml::MAX_TEXT {
            return Err(Box::new(Diagnostic::new("parameters and sweeps expand to too much", place)));
        }
        Ok(())
    }
}

/// The parameter of this name.
fn parameter<'a>(params: &'a [Entry], name: &str, place: Place) -> Result<&'a Entry, Box<Diagnostic>> {
    params.iter().find(|entry| entry.key == name).ok_or_else(|| {
        let known: Vec<&str> = params.iter().map(|entry| entry.key.as_str()).collect();
        let diagnostic = Diagnostic::new(format!("there is no parameter `{}`", shorten(name)), place);
        Box::new(match &*known {
            [] => diagnostic.help("the pipeline has no `params`"),
            known => suggest(diagnostic, name, known),
        })
    })
}
